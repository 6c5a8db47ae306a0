"""Who stands before the camera: a challenge of the server, the frames that answer it, and what they come to.

Pictures live in memory for as long as a request takes, and nowhere else.
"""
