"""The server process of one cluster: is it alive, is it ready, how is it launched, how does it end."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kinpay_postgres.account import Account, run_as
from kinpay_postgres.errors import ClusterError

PORT = 5432
PATIENCE_S = 5.0

log = logging.getLogger("kinpay_postgres")


@dataclass(frozen=True, slots=True)
class LockFile:
    """What `postmaster.pid` says: who serves the folder and how far it has come (starting, ready, stopping)."""

    pid: int
    status: str


def read_lock_file(pgdata: Path) -> LockFile | None:
    """Read `postmaster.pid`, or None when no server claims the folder."""
    try:
        lines = (pgdata / "postmaster.pid").read_text(errors="replace").splitlines()
        pid = int(lines[0])
    except (FileNotFoundError, NotADirectoryError, IndexError, ValueError):
        return None
    return LockFile(pid, lines[7].strip() if len(lines) > 7 else "starting")


def running_pid(pgdata: Path) -> int | None:
    """The process id of the living server of this folder, or None."""
    lock = read_lock_file(pgdata)
    return lock.pid if lock is not None and _serves(lock.pid, pgdata) else None


def exists(pid: int) -> bool:
    """Is there a process of this id that can still do something? One that only waits to be reaped does not count."""
    if not _signal_finds(pid):
        return False
    try:
        # The name stands in parentheses and may itself hold any character; the state follows the last of them.
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        # Either it ended just now, or /proc is missing or hides it and a signal is all that can be known.
        return _signal_finds(pid)
    return state not in ("Z", "X", "x")


def _serves(pid: int, pgdata: Path) -> bool:
    # After a reboot an old lock file may hold the number of an unrelated process, even of another PostgreSQL.
    if not exists(pid):
        return False
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return exists(pid)
    if not os.path.basename(words[0]).startswith((b"postgres", b"postmaster")) or words[0].startswith(b"postgres: "):
        return False
    if b"-D" not in words[:-1]:
        return True
    folder = Path(os.fsdecode(words[words.index(b"-D") + 1]))
    return folder == pgdata or folder.resolve() == pgdata.resolve()


def clear_leftovers(pgdata: Path, socket_dir: Path) -> None:
    """Remove lock files of a dead server whose number is still taken by another or an unreaped process.

    PostgreSQL itself would read such a number as a living server and refuse for ever. Its interlock on shared memory,
    which does not depend on these files, still protects against surviving children of the old server.
    """
    lock = read_lock_file(pgdata)
    if lock is not None and not _serves(lock.pid, pgdata) and _signal_finds(lock.pid):
        (pgdata / "postmaster.pid").unlink(missing_ok=True)
    if running_pid(pgdata) is None:
        for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
            (socket_dir / name).unlink(missing_ok=True)


def _signal_finds(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def launch(account: Account, command: Sequence[str], log_file: Path) -> int:
    """Start the server detached, its output appended to `log_file`, and return its process id.

    A shell in between makes the server nobody's child but init's: it survives the starter, and a dead one is reaped.

    Raises:
        ClusterError: the shell could not start it.
    """
    script = 'log=$1; shift; "$@" </dev/null >>"$log" 2>&1 & echo $!'
    answer = run_as(account, ["/bin/sh", "-c", script, "sh", str(log_file), *command])
    if answer.returncode != 0 or not answer.stdout.strip().isdigit():
        raise ClusterError(f"PostgreSQL could not be launched: {answer.stderr.strip()}")
    return int(answer.stdout)


def wait_until_ready(pid: int, pgdata: Path, socket_dir: Path) -> bool:
    """Wait until server `pid` accepts connections; False when it ended instead.

    There is deliberately no deadline: crash recovery takes as long as the write-ahead log is, and giving up on a living
    server helps nobody. What it is doing is logged every few seconds.
    """
    began = time.monotonic()
    report_at = began + PATIENCE_S
    pause_s = 0.005
    while exists(pid):
        lock = read_lock_file(pgdata)
        status = lock.status if lock is not None and lock.pid == pid else "starting"
        if status in ("ready", "standby") and _answers(socket_dir):
            return True
        if time.monotonic() >= report_at:
            log.info("PostgreSQL (process %d) is %s for %.0f s", pid, status, time.monotonic() - began)
            report_at += PATIENCE_S
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.1)
    return False


def wait_until_gone(pid: int) -> None:
    """Wait until the server process has ended; a last checkpoint may take its time, which is logged."""
    began = time.monotonic()
    report_at = began + PATIENCE_S
    while exists(pid):
        if time.monotonic() >= report_at:
            log.info("PostgreSQL (process %d) is stopping for %.0f s", pid, time.monotonic() - began)
            report_at += PATIENCE_S
        time.sleep(0.01)


def _answers(socket_dir: Path) -> bool:
    # The lock file of a server killed this instant still says "ready"; only a living one answers a request for TLS.
    # Asking that much and leaving writes nothing into the server's log. Source: PostgreSQL manual, "Message Flow", SSL.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(2.0)
        try:
            connection.connect(str(socket_dir / f".s.PGSQL.{PORT}"))
            connection.sendall((8).to_bytes(4, "big") + (80877103).to_bytes(4, "big"))
            return connection.recv(1) in (b"N", b"S")
        except PermissionError:
            raise
        except OSError:
            return False
