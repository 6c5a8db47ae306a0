"""A restore that is interrupted leaves nothing that could be used; one that comes to its end leaves a closed database."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM, Signals

import asyncpg
import pytest

import kinpay_postgres
from kinpay.database.migrate import migrate
from kinpay.database.pool import Database
from kinpay.recovery.back_up import back_up
from kinpay.server.secret_file import read_keys
from kinpay_postgres import ClusterError
from kinpay_postgres.base_backup import Place
from kinpay_postgres.folder import RESTORING, Folder
from kinpay_postgres.keep_log import SLOT
from kinpay_postgres.programs import programs_for

STRUCK = """
import importlib, os, sys, time
import kinpay.cli.main
module, name, when, number, *words = sys.argv[1:]
module = importlib.import_module(module)
real = getattr(module, name)
def struck(*given, **named):
    done = real(*given, **named) if when == "after" else None
    os.kill(os.getpid(), int(number))
    for _ in range(300):
        time.sleep(0.1)
setattr(module, name, struck)
sys.exit(kinpay.cli.main.main(words))
"""
"""Runs the command line and sends it a signal at one step of the restore."""

STEPS = {
    "before anything is copied": ("kinpay_postgres.recover", "_lay_out", "before"),
    "while it replays": ("kinpay_postgres.recover", "_wait_until_over", "before"),
    "promoted": ("kinpay_postgres.recover", "_take_over", "before"),
    "recovered and stopped": ("kinpay.recovery.restore", "recover", "after"),
    "started": ("kinpay.recovery.restore", "migrate", "before"),
    "migrated": ("kinpay.recovery.restore", "close_restored", "before"),
}
CLOSED = "SELECT count(*) FROM restoration WHERE opened_at IS NULL"
SHUT = "SELECT count(*) FROM pg_trigger WHERE tgname = 'closed'"


@dataclass(frozen=True, slots=True)
class House:
    """A backup of an empty house, and where it is restored to."""

    root: Path
    place: Place

    @property
    def folder(self) -> Path:
        """The embedded cluster's of the home."""
        return self.root / "home" / "postgres"

    @property
    def environment(self) -> dict[str, str]:
        """Of commands."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("KINPAY_")}
        return own | {
            "KINPAY_HOME": str(self.root / "home"),
            "KINPAY_SECRET_FILE": str(self.root / "secret"),
            "KINPAY_DEMO": "1",
            "KINPAY_CODE_CHANNEL": f"file:{self.root / 'codes'}",
            "KINPAY_PORT": "0",
        }

    def restore(self, *strike: str) -> subprocess.CompletedProcess[str]:
        """Runs `kinpay restore`, struck at a step if one is named."""
        return self.run("restore", str(self.place.path), "--into", str(self.folder), strike=strike)

    def run(self, *words: str, strike: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end."""
        start = ["-c", STRUCK, *strike] if strike else ["-m", "kinpay.cli.main"]
        command = [sys.executable, *start, *words]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=300, check=False)

    def count(self, text: str) -> int:
        """One number from the restored database."""

        async def ask() -> int:
            conn = await asyncpg.connect(kinpay_postgres.start(self.folder).url("kinpay"))
            try:
                return int(await conn.fetchval(text))
            finally:
                await conn.close()

        return asyncio.run(ask())


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """A folder that the server's account may pass through."""
    folder = Path(tempfile.mkdtemp(prefix="kinpay-restore-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        kinpay_postgres.stop(folder / "first", mode="immediate")
        shutil.rmtree(Folder(folder / "first").socket_dir, ignore_errors=True)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def backup(root: Path) -> Place:
    """A base backup of an empty house."""
    (root / "secret").write_text(base64.b64encode(bytes(32)).decode() + "\n")
    (root / "secret").chmod(0o600)
    place = Place(root / "backups")
    settings = {"fsync": "off", "shared_buffers": "32MB", "max_connections": "30"}
    first = kinpay_postgres.start(root / "first", settings=settings)
    url = kinpay_postgres.create_database(first, "kinpay")

    async def make() -> None:
        await migrate(url)
        db = await Database.open(url, max_connections=2)
        try:
            programs = programs_for(url, server_version=first.version)
            await back_up(db, read_keys(root / "secret", may_create=False), place, programs=programs, slot=SLOT)
        finally:
            await db.close()

    asyncio.run(make())
    kinpay_postgres.stop(first)
    return place


@pytest.fixture
def house(root: Path, backup: Place) -> Iterator[House]:
    """See `House`."""
    (root / "home").mkdir()
    (root / "home").chmod(0o711)
    made = House(root, backup)
    try:
        yield made
    finally:
        if made.folder.exists():
            kinpay_postgres.stop(made.folder, mode="immediate")
        shutil.rmtree(Folder(made.folder).socket_dir, ignore_errors=True)
        shutil.rmtree(root / "home")


@pytest.mark.parametrize("step", STEPS)
def test_a_restore_that_is_killed_cannot_be_used(house: House, step: str) -> None:
    done = house.restore(*STEPS[step], str(int(SIGKILL)))
    assert done.returncode == -SIGKILL, done
    with pytest.raises(ClusterError, match="is being restored into"):
        kinpay_postgres.start(house.folder)


def test_a_server_does_not_come_up_on_half_a_restore_which_can_be_done_again(house: House) -> None:
    house.restore(*STEPS["migrated"], str(int(SIGKILL)))
    served = house.run("serve")
    assert (served.returncode, "is being restored into" in served.stderr) == (1, True), served
    again = house.restore()
    assert again.returncode == 0, again
    assert (house.count(CLOSED), house.count(SHUT)) == (1, 3)
    assert not (house.folder / RESTORING).exists()


@pytest.mark.parametrize(("step", "number"), [("while it replays", SIGTERM), ("migrated", SIGTERM), ("promoted", SIGINT)])
def test_a_restore_that_is_ended_leaves_nothing(house: House, step: str, number: Signals) -> None:
    done = house.restore(*STEPS[step], str(int(number)))
    assert done.returncode == 128 + number, done
    assert not house.folder.exists()
    running = subprocess.run(["/bin/ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(house.folder) not in running


def test_a_restore_that_fails_leaves_nothing_and_the_same_folder_can_be_named_again(house: House) -> None:
    far = house.run("restore", str(house.place.path), "--into", str(house.folder), "--until", "2099-01-01T00:00:00Z")
    assert (far.returncode, "the kept log ends before" in far.stderr) == (1, True), far
    assert not house.folder.exists()
    house.folder.mkdir()
    (house.folder / "lost+found").mkdir()
    done = house.restore()
    assert (done.returncode, "everything adds up" in done.stdout) == (0, True), done
