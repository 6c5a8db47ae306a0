"""Make and remove databases in a running cluster, with its own psql so that no driver is needed."""

from __future__ import annotations

import subprocess
from pathlib import Path

from kinpay_postgres.account import plain_environment
from kinpay_postgres.binaries import embedded_binaries
from kinpay_postgres.cluster import Cluster
from kinpay_postgres.errors import ClusterError
from kinpay_postgres.folder import Folder
from kinpay_postgres.postmaster import PORT

DUPLICATE_DATABASE = "42P04"


def client_binaries(cluster: Cluster) -> Path:
    """The folder with the psql, pg_dump and pgbench that fit the cluster's server."""
    chosen = Folder(cluster.data_dir).read_record().binaries
    return embedded_binaries() if chosen is None else Path(chosen)


def create_database(cluster: Cluster, name: str, *, template: str | None = None, exist_ok: bool = False) -> str:
    """Create a database, as a copy of `template` if one is named, and return its connection URL.

    Raises:
        ClusterError: the server refuses; for an existing name only if `exist_ok` is false.
    """
    sql = f"CREATE DATABASE {_quoted(name)}"
    if template is not None:
        sql += f" TEMPLATE {_quoted(template)}"
    refused = _run(cluster, sql)
    if refused is not None and not (exist_ok and f" {DUPLICATE_DATABASE}:" in refused):
        raise ClusterError(f"the database {name} could not be created: {refused}")
    return cluster.url(name)


def drop_database(cluster: Cluster, name: str) -> None:
    """Remove a database with everything in it, ending the sessions that use it; nothing happens if it is missing.

    Raises:
        ClusterError: the server refuses.
    """
    refused = _run(cluster, f"DROP DATABASE IF EXISTS {_quoted(name)} WITH (FORCE)")
    if refused is not None:
        raise ClusterError(f"the database {name} could not be removed: {refused}")


def _run(cluster: Cluster, sql: str) -> str | None:
    """Run one statement in the database `postgres`; the answer is what the server objects to, or None."""
    command = [str(client_binaries(cluster) / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
    command += ["-v", "VERBOSITY=verbose", "-h", str(cluster.socket_dir), "-p", str(PORT), "-U", cluster.user]
    # The password goes through the environment because command lines are readable by everybody on the machine.
    answer = subprocess.run(  # noqa: S603  no shell; names are quoted as identifiers
        [*command, "-d", "postgres", "-c", sql],
        env=plain_environment() | {"PGPASSWORD": cluster.password, "PGCLIENTENCODING": "UTF8"},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return None if answer.returncode == 0 else answer.stderr.strip()


def _quoted(name: str) -> str:
    if not name or "\0" in name or len(name.encode()) > 63:
        raise ClusterError(f"not a possible database name: {name!r}")
    return '"' + name.replace('"', '""') + '"'
