"""The folder of one cluster: what lies where in it, who owns it, and what is remembered between starts.

password      the superuser's, readable by the server's account only
cluster.json  version, binaries and settings of the last start
lock          held while somebody starts the server
restoring     there while a backup is being restored: nobody else starts it
pgdata/       PostgreSQL's own files
socket/       the Unix socket (elsewhere when this path is too long for one)
server.log    what the server wrote since its last start; server.log.1 the time before
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kinpay_postgres.account import Account, account_for, can_enter, give
from kinpay_postgres.errors import ClusterError

LONGEST_SOCKET_DIR = 80
UNFINISHED = "pgdata.new-"
RESTORING = "restoring"
OURS = {"password", "cluster.json", "lock", "pgdata", "socket", "server.log", "server.log.1", "lost+found", RESTORING}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is remembered of the last start; `binaries` None means the embedded wheel, whichever version it has then."""

    version: str = ""
    binaries: str | None = None
    settings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Folder:
    """The paths inside one cluster's folder, which is absolute and free of symbolic links."""

    path: Path

    @property
    def pgdata(self) -> Path:
        """PostgreSQL's data directory; it exists only once initdb has finished."""
        return self.path / "pgdata"

    @property
    def log_file(self) -> Path:
        """The server's log."""
        return self.path / "server.log"

    @property
    def socket_dir(self) -> Path:
        """Where the Unix socket lies: a function of the folder alone, so that every process finds it."""
        inside = self.path / "socket"
        if len(os.fsencode(inside)) <= LONGEST_SOCKET_DIR:
            return inside
        # Not tempfile's folder, which depends on each process's environment; who owns it is checked before use.
        name = f"kinpay-postgres-{hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]}"
        return Path("/tmp") / name  # noqa: S108

    def read_password(self) -> str:
        """The superuser's password.

        Raises:
            ClusterError: this account may not read it.
        """
        try:
            return (self.path / "password").read_text().strip()
        except OSError as error:
            raise ClusterError(f"cannot read the password of the cluster in {self.path}: {error}") from error

    def read_record(self) -> Record:
        """What the last start left; an empty record before the first."""
        try:
            kept = json.loads((self.path / "cluster.json").read_text())
        except FileNotFoundError:
            return Record()
        except (OSError, ValueError) as error:
            raise ClusterError(f"cannot read {self.path / 'cluster.json'}: {error}") from error
        return Record(version=kept["version"], binaries=kept["binaries"], settings=kept["settings"])

    def write_record(self, record: Record, account: Account) -> None:
        """Replace what is remembered, all or nothing."""
        kept = {"version": record.version, "binaries": record.binaries, "settings": record.settings}
        self._write("cluster.json", json.dumps(kept, indent=1), account)

    def ensure_password(self, account: Account) -> None:
        """Make a random superuser password unless an earlier, interrupted start already made one."""
        if not (self.path / "password").exists():
            self._write("password", secrets.token_urlsafe(24) + "\n", account)

    def ensure_socket_dir(self, account: Account) -> None:
        """Make the socket's folder, closed to everybody else.

        Raises:
            ClusterError: somebody else has taken the name in /tmp.
        """
        where = self.socket_dir
        where.mkdir(mode=0o700, exist_ok=True)
        found = where.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (account.uid, os.geteuid()):
            raise ClusterError(f"{where}, where the socket must be, belongs to somebody else; remove it")
        give(where, account, mode=0o700)

    def turn_log(self) -> None:
        """Begin an empty log, keeping the one before."""
        if self.log_file.exists():
            self.log_file.replace(self.path / "server.log.1")

    def remove_unfinished(self) -> None:
        """Remove what an interrupted initdb left."""
        for leftover in self.path.glob(UNFINISHED + "*"):
            shutil.rmtree(leftover, ignore_errors=True)

    @contextmanager
    def locked(self, account: Account) -> Iterator[None]:
        """Hold the folder against other starters; waits for them, and a killed one holds nothing."""
        handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            if os.geteuid() == 0:
                os.fchown(handle, account.uid, account.gid)
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _write(self, name: str, text: str, account: Account) -> None:
        fresh = self.path / f".{name}.{secrets.token_hex(4)}"
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        give(fresh, account, mode=0o600)
        fresh.replace(self.path / name)


def prepare(data_dir: Path) -> tuple[Folder, Account]:
    """Make `data_dir` if it is missing, choose the account that will serve it, and give it to that account.

    Raises:
        ClusterError: it holds other things, belongs to somebody else, or the account cannot get there.
    """
    path = data_dir.expanduser().resolve()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        names = set(os.listdir(path))
        if "lock" not in names and not all(name in OURS or name.startswith((".", UNFINISHED)) for name in names):
            raise ClusterError(f"{path} is neither empty nor a folder made by kinpay_postgres; name another one")
        account = account_for(path)
        blocked = can_enter(account, path.parent)
        if blocked is not None:
            raise ClusterError(
                f"the account {account.name}, which must run PostgreSQL because root may not, cannot enter {blocked}. "
                f"Put the data somewhere else (for example under /var/lib), or open that folder: chmod o+x {blocked}"
            )
        give(path, account, mode=0o700)
    except OSError as error:
        raise ClusterError(f"{path} cannot hold a cluster: {error}") from error
    return Folder(path), account
