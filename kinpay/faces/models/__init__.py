"""One file a model: what it is, what it was measured to do, how it is run. Nothing elsewhere knows its name or dimension."""
