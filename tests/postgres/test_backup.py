"""Base backups, the kept log and recovery, on a cluster of their own: each way in which a backup is not what it seems."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import kinpay_postgres
from kinpay_postgres import Cluster, ClusterError
from kinpay_postgres.base_backup import Base, Place, make_base, prune, segments
from kinpay_postgres.folder import Folder
from kinpay_postgres.programs import programs_for
from kinpay_postgres.recover import recover
from kinpay_postgres.restoring import restoring

QUICK = {"fsync": "off", "shared_buffers": "32MB", "max_connections": "30"}
KEEP = """
import sys
from pathlib import Path
from kinpay_postgres.base_backup import Place
from kinpay_postgres.keep_log import keep_log
from kinpay_postgres.programs import programs_for
programs = programs_for(sys.argv[2], server_version=sys.argv[3])
keep_log(Place(Path(sys.argv[1])), programs, announce=lambda text: print(text, flush=True))
"""


def _ask(cluster: Cluster, *statements: str) -> list[Any]:
    async def work() -> list[Any]:
        conn = await asyncpg.connect(cluster.url("shop"))
        try:
            return [tuple(row) for text in statements for row in await conn.fetch(text)]
        finally:
            await conn.close()

    return asyncio.run(work())


@dataclass(frozen=True, slots=True)
class Shop:
    """A cluster with rows 1 (before the base backup), 2 and 3, between which lies `between`, and 4; its log was kept."""

    root: Path
    place: Place
    base: Base
    between: datetime
    version: str

    def recover(self, name: str, *, until: datetime | None = None, wal: Path | None = None) -> list[int]:
        """Recovers and tells which rows there are."""
        folder = self.root / name
        try:
            with restoring(folder):
                recover(self.base, wal or self.place.wal, folder, until=until, settings=QUICK)
            return [row[0] for row in _ask(kinpay_postgres.start(folder), "SELECT i FROM sold ORDER BY i")]
        finally:
            kinpay_postgres.stop(folder, mode="immediate")
            shutil.rmtree(Folder(folder).socket_dir, ignore_errors=True)


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """A folder that the server's account may pass through."""
    folder = Path(tempfile.mkdtemp(prefix="kinpay-backup-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        kinpay_postgres.stop(folder / "first", mode="immediate")
        shutil.rmtree(Folder(folder / "first").socket_dir, ignore_errors=True)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def shop(root: Path) -> Shop:
    """See `Shop`."""
    first = kinpay_postgres.start(root / "first", settings=QUICK)
    url = kinpay_postgres.create_database(first, "shop")
    _ask(first, "CREATE TABLE sold (i integer)", "INSERT INTO sold VALUES (1)")
    place = Place(root / "backups")
    command = [sys.executable, "-c", KEEP, str(place.path), url, first.version]
    keeper = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert keeper.stdout is not None
    assert keeper.stdout.readline().startswith("keeping the log")
    base = make_base(place, programs_for(url, server_version=first.version), about={"of": "a test"})
    _ask(first, "INSERT INTO sold VALUES (2)")
    time.sleep(0.1)
    between = datetime.now(UTC)
    time.sleep(0.1)
    _ask(first, "INSERT INTO sold VALUES (3)", "SELECT pg_switch_wal()", "INSERT INTO sold VALUES (4)")
    time.sleep(1)
    keeper.terminate()
    assert keeper.wait(30) == 0
    keeper.stdout.close()
    return Shop(root, place, base, between, first.version)


def test_it_is_as_it_was_at_the_point_and_at_the_end(shop: Shop) -> None:
    assert shop.recover("at", until=shop.between) == [1, 2]
    assert shop.recover("end") == [1, 2, 3, 4]


def test_a_point_that_the_log_does_not_reach_is_an_error_and_not_an_early_end(shop: Shop) -> None:
    with pytest.raises(ClusterError, match="the kept log ends before"):
        shop.recover("far", until=datetime.now(UTC) + timedelta(days=1))


def test_a_gap_in_the_log_is_an_error_and_not_an_early_end(shop: Shop, root: Path) -> None:
    holed = root / "holed"
    shutil.copytree(shop.place.wal, holed)
    after = [one for one in segments(holed) if one.begins >= shop.base.ends]
    assert len(after) >= 2
    after[0].path.unlink()
    with pytest.raises(ClusterError, match="gap"):
        shop.recover("gap", wal=holed)


def test_nothing_is_written_over(shop: Shop) -> None:
    before = sorted(os.listdir(shop.root / "first"))
    with pytest.raises(ClusterError, match="not empty"), restoring(shop.root / "first"):
        pass
    with pytest.raises(ClusterError, match="not held"):
        recover(shop.base, shop.place.wal, shop.root / "first")
    assert sorted(os.listdir(shop.root / "first")) == before


def test_a_damaged_file_is_found_before_anything_is_restored(shop: Shop, root: Path) -> None:
    bad = root / "bad"
    shutil.copytree(shop.base.path, bad)
    victim = bad / "global" / "pg_control"
    content = bytearray(victim.read_bytes())
    content[100] ^= 1
    victim.chmod(0o600)
    victim.write_bytes(bytes(content))
    damaged = Base(path=bad, system=shop.base.system, timeline=1, begins=shop.base.begins, ends=shop.base.ends, about={})
    with pytest.raises(ClusterError, match="pg_control"), restoring(root / "from-bad"):
        recover(damaged, shop.place.wal, root / "from-bad")
    assert not (root / "from-bad").exists()


def test_what_was_interrupted_is_not_a_backup_and_goes_with_the_next(shop: Shop) -> None:
    half = shop.place.path / "unfinished-0badcafe"
    shutil.copytree(shop.base.path, half)
    assert [base.path for base in shop.place.bases()] == [shop.base.path]
    url = kinpay_postgres.start(shop.root / "first").url("shop")
    second = make_base(shop.place, programs_for(url, server_version=shop.version), about={})
    assert not half.exists()
    assert [base.path for base in shop.place.bases()] == [shop.base.path, second.path]
    shutil.rmtree(second.path)


def test_a_full_disk_leaves_nothing_that_looks_whole(shop: Shop, root: Path) -> None:
    """A limit on the size of files stands for the disk: either way the writer is told that there is no room."""
    url = kinpay_postgres.start(shop.root / "first").url("shop")
    place = Place(root / "small")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(ClusterError, match="pg_basebackup failed"):
            make_base(place, programs_for(url, server_version=shop.version), about={})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert place.bases() == []
    assert not list(place.path.glob("unfinished-*"))


def test_missing_rights_and_programs_are_told(shop: Shop, root: Path) -> None:
    first = kinpay_postgres.start(shop.root / "first")
    _ask(first, "CREATE ROLE clerk LOGIN PASSWORD 'c'")
    url = "postgresql://clerk:c@" + first.url("shop").partition("@")[2]
    with pytest.raises(ClusterError, match=r"REPLICATION|replication"):
        make_base(Place(root / "clerks"), programs_for(url, server_version=shop.version), about={})
    with pytest.raises(ClusterError, match="postgresql-99"):
        programs_for(url, server_version="99.1")
    open_place = root / "open"
    open_place.mkdir(mode=0o755)
    with pytest.raises(ClusterError, match="chmod 700"):
        Place(open_place).prepare()


def test_a_password_is_in_no_command_line(shop: Shop) -> None:
    programs = programs_for("postgresql://me:s3cret@/shop?host=/x&password=other", server_version=shop.version)
    assert "s3cret" not in " ".join(programs.command("pg_basebackup"))
    assert "other" not in " ".join(programs.command("pg_basebackup"))
    assert programs.environment["PGPASSWORD"] == "other"
    assert "s3cret" not in repr(programs)
    with pytest.raises(ClusterError, match="sslpassword"):
        programs_for("postgresql://me@/shop?host=/x&sslpassword=s3cret", server_version=shop.version)


def test_pruning_keeps_what_the_kept_ones_need(shop: Shop, root: Path) -> None:
    place = Place(root / "pruned")
    shutil.copytree(shop.place.path, place.path)
    url = kinpay_postgres.start(shop.root / "first").url("shop")
    second = make_base(place, programs_for(url, server_version=shop.version), about={})
    gone = prune(place, keep=1)
    assert place.path / shop.base.path.name in gone
    assert [base.path for base in place.bases()] == [second.path]
    assert all(one.ends > second.begins for one in segments(place.wal))
    assert prune(place, keep=1) == []


@pytest.mark.second_postgres
def test_another_postgresql_is_backed_up_and_restored_with_its_own_programs(root: Path) -> None:
    binaries = kinpay_postgres.find_binaries()
    assert binaries is not None, "no other PostgreSQL here"
    other = kinpay_postgres.start(root / "other", binaries=binaries, settings=QUICK)
    try:
        url = kinpay_postgres.create_database(other, "shop")
        _ask(other, "CREATE TABLE sold (i integer)", "INSERT INTO sold VALUES (7)")
        programs = programs_for(url, server_version=other.version)
        assert programs.binaries == binaries
        base = make_base(Place(root / "others"), programs, about={})
    finally:
        kinpay_postgres.stop(other, mode="immediate")
    folder = root / "other-again"
    with restoring(folder):
        assert recover(base, root / "nothing-kept", folder, settings=QUICK).last_commit_at is None
    try:
        again = kinpay_postgres.start(folder)
        assert again.version == other.version
        assert _ask(again, "SELECT i FROM sold") == [(7,)]
    finally:
        kinpay_postgres.stop(folder, mode="immediate")


def test_a_restore_into_a_folder_with_an_odd_name(shop: Shop) -> None:
    """Nothing of a folder's name is read by a shell: `$b` once made every segment missing, and the log ended early."""
    assert shop.recover("a$b `id`'%f") == [1, 2, 3, 4]


def test_a_segment_that_cannot_be_fetched_is_an_error_and_not_an_early_end(
    shop: Shop, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = root / "programs"
    programs.mkdir()
    (programs / "cp").write_text("#!/bin/sh\necho 'cp: Input/output error' >&2\nexit 1\n")
    (programs / "cp").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    with pytest.raises(ClusterError, match="Input/output error"):
        shop.recover("unread")
    assert not (root / "unread").exists()


def test_a_damaged_segment_is_an_error_and_not_an_early_end(shop: Shop, root: Path) -> None:
    bad = root / "damaged-log"
    shutil.copytree(shop.place.wal, bad)
    whole = [one for one in segments(bad) if one.ends > shop.base.ends and not one.partial]
    assert whole, "the log was switched, so one segment at least is whole"
    whole[-1].path.write_bytes(bytes(whole[-1].ends - whole[-1].begins))
    with pytest.raises(ClusterError, match="before the kept log does"):
        shop.recover("damaged", wal=bad)
