"""Backups, restoring one, and asking the providers for what a restored database does not know."""
