"""Which operating-system account runs the server, and how commands run as it.

PostgreSQL refuses to run as root, so root lends the work to an account without privileges. Everybody else runs it as
themselves.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kinpay_postgres.errors import ClusterError

PREFERRED_ACCOUNTS = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """The account that owns the files and processes of one cluster."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str


def account_for(folder: Path) -> Account:
    """Choose who runs a server on `folder`: ourselves, or for root the folder's owner, else `postgres` or `nobody`.

    Raises:
        ClusterError: root finds no account without privileges on this machine.
    """
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), tuple(os.getgroups()), _name_of(os.geteuid()))
    owner = folder.stat().st_uid
    if owner != 0:
        return _by_uid(owner)
    for name in PREFERRED_ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return _of_entry(entry)
    raise ClusterError(
        f"PostgreSQL refuses to run as root, and no account named {' or '.join(PREFERRED_ACCOUNTS)} exists to run it. "
        "Create one (useradd --system postgres), or run this as an ordinary user."
    )


def run_as(
    account: Account, command: Sequence[str], *, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `command` to its end as `account` from `/`, in a session of its own, with its output captured as text.

    Raises:
        ClusterError: this process may not act as that account.
        OSError: the program cannot be executed by that account.
    """
    # A terminal's Ctrl-C must not reach the server or a half-done initdb, hence a session of its own; and the caller's
    # current folder may be closed to the account, hence "/".
    as_other = account.uid != os.geteuid()
    try:
        return subprocess.run(  # noqa: S603  the programs are PostgreSQL's own and /bin/sh
            command,
            user=account.uid if as_other else None,
            group=account.gid if as_other else None,
            extra_groups=account.groups if as_other else None,
            cwd="/",
            env=plain_environment() | dict(env or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            start_new_session=True,
            umask=0o077,
            check=False,
        )
    except subprocess.SubprocessError as error:
        raise ClusterError(
            f"cannot run commands as the account {account.name}: {error}. Run this as an ordinary user instead."
        ) from error


def plain_environment() -> dict[str, str]:
    """The caller's environment without what would redirect PostgreSQL (PG*) or translate its messages."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "LC_", "LANG"))}
    return kept | {"LC_ALL": "C"}


def can_enter(account: Account, folder: Path) -> Path | None:
    """Return the first folder on the way to and including `folder` that `account` cannot pass, or None if it can.

    The account itself is asked, because mode bits alone do not tell about access-control lists.
    """
    way = [str(parent) for parent in reversed(folder.parents)] + [str(folder)]
    script = 'for f do [ -x "$f" ] || { printf %s "$f"; exit 1; }; done'
    answer = run_as(account, ["/bin/sh", "-c", script, "sh", *way])
    return None if answer.returncode == 0 else Path(answer.stdout or str(folder))


def give(path: Path, account: Account, *, mode: int) -> None:
    """Make `account` the owner of `path` with exactly `mode`; root gives, others already own what they made.

    Raises:
        OSError: `path` is missing, a symbolic link, or not ours to give.
    """
    # Root works here inside folders of another account, so a link planted under the name must not be followed.
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        if os.geteuid() == 0:
            os.fchown(handle, account.uid, account.gid)
        os.fchmod(handle, mode)
    finally:
        os.close(handle)


def _by_uid(uid: int) -> Account:
    try:
        return _of_entry(pwd.getpwuid(uid))
    except KeyError:
        return Account(uid, uid, (), str(uid))


def _of_entry(entry: pwd.struct_passwd) -> Account:
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Account(entry.pw_uid, entry.pw_gid, groups, entry.pw_name)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
