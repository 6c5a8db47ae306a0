"""What can go wrong with a private cluster, as one exception."""

from __future__ import annotations


class ClusterError(RuntimeError):
    """The private PostgreSQL cluster cannot be started, reached or stopped; the message says what to do about it."""
