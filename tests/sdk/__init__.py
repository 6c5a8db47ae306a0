"""The client as others install and use it."""
