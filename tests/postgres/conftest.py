"""Folders in which a private cluster may live, and their end."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import kinpay_postgres
from kinpay_postgres.folder import Folder


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """An empty folder; pytest's own are closed to the account that runs PostgreSQL for root."""
    folder = Path(tempfile.mkdtemp(prefix="kpg-", dir="/tmp"))
    yield folder
    _remove(folder)


@pytest.fixture(scope="module")
def cluster() -> Iterator[kinpay_postgres.Cluster]:
    """A running cluster shared by the tests of a module that leave it running."""
    folder = Path(tempfile.mkdtemp(prefix="kpg-", dir="/tmp"))
    yield kinpay_postgres.start(folder, settings={"fsync": "off"})
    _remove(folder)


def _remove(folder: Path) -> None:
    kinpay_postgres.stop(folder, mode="immediate")
    socket_dir = Folder(folder).socket_dir
    shutil.rmtree(folder)
    shutil.rmtree(socket_dir, ignore_errors=True)
