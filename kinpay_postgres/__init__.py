"""A small supervisor for a private PostgreSQL: from an empty folder to a ready server in a second or two.

It stands beside kinpay and the sandbox bank, which both use it, and knows neither. Files follow one walk:
`binaries` finds the programs, `account` decides who runs them, `folder` is what lies where, `postmaster` is the
process, `cluster` starts and stops it, `databases` makes databases in it.
"""

from kinpay_postgres.binaries import embedded_binaries, find_binaries
from kinpay_postgres.cluster import DEFAULT_SETTINGS, Cluster, start, status, stop
from kinpay_postgres.databases import client_binaries, create_database, drop_database
from kinpay_postgres.errors import ClusterError

__all__ = [
    "DEFAULT_SETTINGS",
    "Cluster",
    "ClusterError",
    "client_binaries",
    "create_database",
    "drop_database",
    "embedded_binaries",
    "find_binaries",
    "start",
    "status",
    "stop",
]
