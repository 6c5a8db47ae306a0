"""Time and the outbox: what was promised in a transaction is done after it, at least once; what is due is done when due."""
