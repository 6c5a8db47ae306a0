"""From a picture to a vector. Knows no person and no row: who a vector belongs to is known above.

picture.py → detect.py → landmarks.py → align.py → models/ (behind port.py); pipeline.py is the whole way.
quality.py says whether a picture is good enough and what to do; liveness.py whether frames show the acts that were asked for.
"""
