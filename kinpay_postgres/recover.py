"""A new cluster out of a base backup and the kept log, as it was at a point in time. Nothing that exists is written over.

Source: PostgreSQL manual, "Continuous Archiving and Point-in-Time Recovery".
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

from kinpay_postgres.account import Account, give, plain_environment
from kinpay_postgres.base_backup import ABOUT, Base, position, verify
from kinpay_postgres.binaries import candidates, embedded_binaries, major, reachable_binaries, version_of
from kinpay_postgres.cluster import DEFAULT_SETTINGS, SUPERUSER, launch_until_ready, stop
from kinpay_postgres.errors import ClusterError
from kinpay_postgres.folder import RESTORING, UNFINISHED, Folder, Record, prepare
from kinpay_postgres.kept_log import Needed, needed
from kinpay_postgres.postmaster import PORT, read_lock_file, running_pid

_OTHERS_CONFIGURATION: Final = (
    "postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf", "standby.signal", "recovery.signal", ABOUT,
)  # fmt: skip
_CLOSED_DOOR: Final = "local all all scram-sha-256\nlocal replication all scram-sha-256\n"
_FETCH: Final = '[ -d ../wal ] || exit 255; [ -e ../wal/%f ] || exit 1; cp ../wal/%f "%p" || exit 255'
"""Only a segment that is not there is the end of the log; PostgreSQL gives up at a status above 128, and takes a lower one for
that end. It works in the cluster's folder, so that whatever that is called is never read by a shell."""
_OPEN_TO_US: Final = "local all all trust\n"
"""Only while recovering, when nobody knows a password yet; the socket's folder can be entered by this account alone."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """How far recovery came: the moment of the last transaction that was replayed; None if there was none after the base."""

    last_commit_at: datetime | None


def recover(
    base: Base,
    wal: Path,
    data_dir: Path,
    *,
    until: datetime | None = None,
    timeline: int | None = None,
    superuser: str = SUPERUSER,
    binaries: Path | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Recovered:
    """Makes a cluster in `data_dir`, which the caller holds (`restoring`), as it was at `until`, or where the kept log ends.

    It is left stopped, with a password of its own, and without the configuration of the server that was backed up. Until the
    caller lets go of it nobody else can start it. Each restore begins a timeline; what was kept of those that came after the
    base's is followed to the newest, or to `timeline`. `settings` are remembered for its starts.

    Raises:
        ClusterError: nobody holds the folder; a file of the backup is damaged; the log has a gap or ends before `until`.
    """
    if not (data_dir / RESTORING).exists():
        raise ClusterError(f"{data_dir} is not held for a restore")
    source = binaries or _binaries_of(base)
    verify(base.path, source)
    log = needed(base, wal, timeline=timeline)
    folder, account = prepare(data_dir)
    with folder.locked(account):
        usable = reachable_binaries(source, account)
        folder.ensure_password(account)
        folder.ensure_socket_dir(account)
        remembered = None if source == _embedded_or_none() else str(source)
        folder.write_record(Record(version=version_of(source), binaries=remembered, settings=dict(settings)), account)
        try:
            _lay_out(folder, account, base, log)
            recovered = _replay(folder, account, usable, log, until=until, superuser=superuser, settings=settings)
        except OSError as error:
            raise ClusterError(f"the backup could not be laid out in {folder.path}: {error}") from error
        shutil.rmtree(folder.path / "wal", ignore_errors=True)
        _write(folder.pgdata / "pg_hba.conf", _CLOSED_DOOR, account)
        _write(folder.pgdata / "postgresql.auto.conf", "", account)
        return recovered


def _binaries_of(base: Base) -> Path:
    wanted = int((base.path / "PG_VERSION").read_text())
    for folder in filter(None, (_embedded_or_none(), *candidates())):
        try:
            if major(version_of(folder)) == wanted:
                return folder
        except ClusterError:
            continue
    raise ClusterError(
        f"the backup is of PostgreSQL {wanted}, which is not on this machine; name its bin folder with --binaries"
    )


def _embedded_or_none() -> Path | None:
    try:
        return embedded_binaries()
    except ClusterError:
        return None


def _lay_out(folder: Folder, account: Account, base: Base, log: Needed) -> None:
    """Copies everything; the cluster gets its name at the end, so that half a copy is never started."""
    folder.remove_unfinished()
    fresh = folder.path / f"{UNFINISHED}{secrets.token_hex(4)}"
    shutil.copytree(base.path, fresh, symlinks=True, ignore=shutil.ignore_patterns(*_OTHERS_CONFIGURATION))
    kept = folder.path / "wal"
    kept.mkdir(mode=0o700)
    for segment in log.segments:
        # What the last one still lacks is zeros, and there recovery ends.
        shutil.copy2(segment.path, kept / segment.path.name.removesuffix(".partial"))
    for history in log.histories:
        # All of them, so that the new timeline has a number that none had before.
        shutil.copy2(history, kept / history.name)
    for tree in (fresh, kept):
        _give_all(tree, account)
    for name in ("postgresql.conf", "pg_ident.conf"):
        _write(fresh / name, "", account)
    fresh.rename(folder.pgdata)


def _give_all(tree: Path, account: Account) -> None:
    for where, folders, files in os.walk(tree):
        give(Path(where), account, mode=0o700)
        for name in files:
            give(Path(where) / name, account, mode=0o600)
        del folders


def _replay(
    folder: Folder,
    account: Account,
    binaries: Path,
    log: Needed,
    *,
    until: datetime | None,
    superuser: str,
    settings: Mapping[str, str],
) -> Recovered:
    target = {
        "restore_command": _FETCH,
        "recovery_target_timeline": log.target,
        "recovery_target_action": "promote",
        # Whoever asks while it recovers would see a past that is not the end; and then its settings may be smaller, too.
        "hot_standby": "off",
    }
    if until is not None:
        target["recovery_target_time"] = until.astimezone(UTC).isoformat(sep=" ", timespec="microseconds")
    written = "".join(f"{name} = '{_quoted(value)}'\n" for name, value in target.items())
    _write(folder.pgdata / "postgresql.auto.conf", written, account)
    _write(folder.pgdata / "pg_hba.conf", _OPEN_TO_US, account)
    _write(folder.pgdata / "recovery.signal", "", account)
    try:
        launch_until_ready(folder, account, binaries, {**DEFAULT_SETTINGS, **settings})
        _wait_until_over(folder)
        last_commit_at, reached = _take_over(folder, binaries, superuser)
        if until is None and reached < log.certain:
            raise ClusterError(
                f"recovery ended {log.certain - reached} bytes before the kept log does: a segment is damaged. "
                "Take it from elsewhere, or name a moment before it (--until)"
            )
        return Recovered(last_commit_at)
    except ClusterError as error:
        if "before configured recovery target was reached" in str(error):
            raise ClusterError(f"the kept log ends before {until}; restore without --until to its end") from error
        raise
    finally:
        stop(folder.path)


def _wait_until_over(folder: Folder) -> None:
    """Waits until the server is no longer recovering, however long the log is. Raises: ClusterError if it ended instead."""
    while running_pid(folder.pgdata) is not None:
        lock = read_lock_file(folder.pgdata)
        if lock is not None and lock.status == "ready":
            return
        time.sleep(0.05)
    raise ClusterError(f"recovery ended: {folder.log_file.read_text(errors='replace').strip()[-2000:]}")


def _quoted(value: str) -> str:
    return value.replace("'", "''")


def _take_over(folder: Folder, binaries: Path, superuser: str) -> tuple[datetime | None, int]:
    """Makes our superuser with a password of this folder; returns when the last replayed transaction was committed, and where
    the log that was replayed ends.
    """
    password = folder.read_password().replace("'", "''")
    make = f"""
        SELECT 'CREATE ROLE {SUPERUSER}' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{SUPERUSER}') \\gexec
        ALTER ROLE {SUPERUSER} SUPERUSER LOGIN REPLICATION PASSWORD '{password}';
        SELECT pg_last_wal_replay_lsn(), extract(epoch FROM pg_last_xact_replay_timestamp());
    """
    command = [str(binaries / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", str(folder.socket_dir)]
    answer = subprocess.run(  # noqa: S603  no shell
        [*command, "-p", str(PORT), "-U", superuser, "-d", "postgres", "-f", "-"],
        input=make,
        env=plain_environment() | {"PGCLIENTENCODING": "UTF8"},
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        raise ClusterError(f"the restored cluster does not let us in: {answer.stderr.strip()}")
    reached, _, at = answer.stdout.strip().partition("|")
    return (datetime.fromtimestamp(float(at), UTC) if at else None), position(reached)


def _write(path: Path, text: str, account: Account) -> None:
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    give(path, account, mode=0o600)
