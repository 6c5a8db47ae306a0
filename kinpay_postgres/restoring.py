"""A folder in which a restore is under way: nobody but the restorer starts it, and half a restore is never used.

The marker is written into an empty folder before anything else and goes when the restorer says that the cluster may be used.
A restorer that is killed leaves it; the next restore into the folder stops what runs there, clears it and begins anew.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kinpay_postgres.account import give
from kinpay_postgres.cluster import stop
from kinpay_postgres.errors import ClusterError
from kinpay_postgres.folder import RESTORING, Folder, prepare

_NOBODYS: Final = frozenset({"lock", "lost+found"})
"""What a folder may hold and still be empty: the lock of whoever looked at it, and what a file system makes itself."""


@contextmanager
def restoring(data_dir: Path) -> Iterator[None]:
    """Holds `data_dir`, empty or missing or left by a restore that was killed, until the block has ended.

    Only then can the cluster be started by others. If the block raises, its server is stopped and the folder is empty again.

    Raises:
        ClusterError: the folder holds something; another restore into it is under way.
    """
    data_dir = data_dir.expanduser().resolve()
    made = not data_dir.exists()
    if not made:
        _want_empty(data_dir)
    folder, account = prepare(data_dir)
    with folder.locked(account):
        _want_empty(data_dir)
        handle = os.open(folder.path / RESTORING, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise ClusterError(f"another restore into {data_dir} is under way") from None
        give(folder.path / RESTORING, account, mode=0o600)
        _sync(folder.path)
    try:
        _clear(folder)
        yield
        (folder.path / RESTORING).unlink()
        _sync(folder.path)
    except BaseException:
        _clear(folder)
        (folder.path / RESTORING).unlink(missing_ok=True)
        if made:
            shutil.rmtree(folder.path, ignore_errors=True)
        raise
    finally:
        os.close(handle)


def _want_empty(data_dir: Path) -> None:
    try:
        names = set(os.listdir(data_dir)) - _NOBODYS
    except OSError as error:
        raise ClusterError(f"{data_dir} cannot be read: {error.strerror}") from error
    if names and RESTORING not in names:
        raise ClusterError(f"{data_dir} is not empty: a backup is only ever restored into a new folder")


def _clear(folder: Folder) -> None:
    """Stops what runs in a folder that has the marker, and removes everything else in it."""
    stop(folder.path, mode="immediate")
    shutil.rmtree(folder.socket_dir, ignore_errors=True)
    for name in sorted(set(os.listdir(folder.path)) - _NOBODYS - {RESTORING}):
        path = folder.path / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
