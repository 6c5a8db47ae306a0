"""The acts of the demo's story, in the order in which they are played (`story.py` names them)."""
