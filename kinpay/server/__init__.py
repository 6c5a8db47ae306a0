"""Assembling: configuration, HTTP, who is asking, problem documents, callbacks, live events. Knows every package below it."""
