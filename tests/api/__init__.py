"""The wired application from outside: bad input, who may ask what, and the document that describes it."""
