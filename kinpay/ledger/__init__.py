"""Money moved: append-only double-entry books, and the checks that nothing was altered."""
