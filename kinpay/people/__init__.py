"""People and circles: who they are, how they sign in, what they are to each other."""
