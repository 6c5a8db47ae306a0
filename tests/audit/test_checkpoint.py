"""What no chain can show by itself, an anchor kept elsewhere does: a tail cut off, a whole chain rewritten, a lane gone."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kinpay.audit import checkpoint
from kinpay.audit.check import check
from kinpay.audit.checkpoint import Anchor, merkle_root, public_key_of, read_anchor, verify_anchor
from kinpay.database.audit import GENESIS, link_hash
from kinpay.database.pool import Database
from kinpay.primitives.errors import NotFound
from kinpay.primitives.server_keys import ServerKeys
from tests.audit import story as stories
from tests.audit.story import Story


async def anchored(db: Database, keys: ServerKeys, path: Path) -> tuple[Story, Anchor]:
    """An honest past, and the file that somebody else keeps."""
    story = await stories.tell(db)
    async with db.transaction() as conn:
        await checkpoint.make_checkpoint(conn, keys, await conn.fetchval("SELECT kinpay_now()"))
        await checkpoint.export(conn, path)
    return story, read_anchor(content_of(path))


def content_of(path: Path) -> bytes:
    """The bytes of a small file."""
    return path.read_bytes()


def files_in(folder: Path) -> list[str]:
    """The names of what is in a folder."""
    return [path.name for path in folder.iterdir()]


async def told(db: Database, anchor: Anchor, keys: ServerKeys) -> list[tuple[str, ...]]:
    """The rows that an anchor names."""
    async with db.connection() as conn:
        return [finding.ids for finding in await verify_anchor(conn, anchor, public_key_of(keys))]


def test_the_root_is_that_of_rfc_6962() -> None:
    """Against the recursive definition: a list is split at the largest power of two below its length."""

    def root(leaves: list[bytes]) -> bytes:
        if not leaves:
            return hashlib.sha256(b"").digest()
        if len(leaves) == 1:
            return hashlib.sha256(b"\x00" + leaves[0]).digest()
        split = 1 << ((len(leaves) - 1).bit_length() - 1)
        return hashlib.sha256(b"\x01" + root(leaves[:split]) + root(leaves[split:])).digest()

    for size in range(40):
        leaves = [bytes([number]) for number in range(size)]
        assert merkle_root(leaves) == root(leaves)


async def test_an_anchor_agrees_with_what_goes_on_growing(db: Database, keys: ServerKeys, tmp_path: Path) -> None:
    story, anchor = await anchored(db, keys, tmp_path / "anchor.json")
    assert await told(db, anchor, keys) == []
    await story.ask(story.families[1], 10)
    assert await told(db, anchor, keys) == []
    assert files_in(tmp_path) == ["anchor.json"]


async def test_a_checkpoint_writes_only_lanes_that_moved(db: Database, keys: ServerKeys, tmp_path: Path) -> None:
    story, first = await anchored(db, keys, tmp_path / "first.json")
    async with db.transaction() as conn:
        again = await checkpoint.make_checkpoint(conn, keys, await conn.fetchval("SELECT kinpay_now()"))
    assert again.id == first.id, "nothing moved"
    await story.ask(story.families[1], 10)
    async with db.transaction() as conn:
        made = await checkpoint.make_checkpoint(conn, keys, await conn.fetchval("SELECT kinpay_now()"))
        moved = await conn.fetchval("SELECT count(*) FROM checkpoint_lane WHERE checkpoint_id = $1", made.id)
        second = await checkpoint.anchor_of(conn)
    assert moved == 1
    assert len(second.ends) == len(first.ends)
    assert await told(db, second, keys) == []
    assert await told(db, first, keys) == []


async def test_there_is_nothing_to_export_before_the_first(db: Database, tmp_path: Path) -> None:
    async with db.connection() as conn:
        with pytest.raises(NotFound):
            await checkpoint.export(conn, tmp_path / "anchor.json")
    assert not files_in(tmp_path)


@pytest.mark.books_broken
async def test_a_tail_cut_off_without_a_trace_is_found(db: Database, keys: ServerKeys, tmp_path: Path) -> None:
    """The last event, its effect and the lane's end are all taken away together: the database alone agrees with itself."""
    story = await stories.begin(db, families=1)
    lane = story.families[0].circle_id
    await story.ask(story.families[0], 100)
    gone = await story.ask(story.families[0], 900)
    async with db.transaction() as conn:
        await checkpoint.make_checkpoint(conn, keys, await conn.fetchval("SELECT kinpay_now()"))
        anchor = await checkpoint.export(conn, tmp_path / "anchor.json")
        await conn.execute("SET LOCAL session_replication_role = replica")
        await conn.execute("DELETE FROM checkpoint_lane")
        await conn.execute("DELETE FROM checkpoint")
        await conn.execute("DELETE FROM charge WHERE id = $1", gone)
        await conn.execute("UPDATE audit_lane SET charge_seq = 1")
        await conn.execute("UPDATE usage SET amount_minor = 100, count = 1")
        await conn.execute("DELETE FROM audit_event e USING audit_lane l WHERE l.id = e.lane AND e.seq = l.seq")
        await conn.execute(
            "UPDATE audit_lane l SET seq = e.seq, hash = e.hash FROM audit_event e WHERE e.lane = l.id AND e.seq = l.seq - 1"
        )
    async with db.connection() as conn:
        assert [str(finding) for finding in await check(conn)] == []
    assert await told(db, anchor, keys) == [(lane,)]


async def rewrite(conn: Any, lane: str) -> None:
    """Computes a lane's chain anew from its genesis, as whoever altered its rows would."""
    last = GENESIS
    for row in await conn.fetch("SELECT * FROM audit_event WHERE lane = $1 ORDER BY seq", lane):
        facts = {name: row[name] for name in ("lane", "seq", "at", "kind", "subject_id", "actor_id", "body")}
        last = link_hash(last, **facts)
        await conn.execute("UPDATE audit_event SET hash = $3 WHERE lane = $1 AND seq = $2", lane, row["seq"], last)
    await conn.execute("UPDATE audit_lane SET hash = $2 WHERE id = $1", lane, last)


@pytest.mark.books_broken
async def test_a_chain_rewritten_as_a_whole_is_found(db: Database, keys: ServerKeys, tmp_path: Path) -> None:
    """A charge made smaller everywhere, the log included, and every hash computed anew."""
    story = await stories.begin(db, families=1)
    lane = story.families[0].circle_id
    charge_id = await story.ask(story.families[0], 500)
    async with db.transaction() as conn:
        await checkpoint.make_checkpoint(conn, keys, await conn.fetchval("SELECT kinpay_now()"))
        anchor = await checkpoint.export(conn, tmp_path / "anchor.json")
        await conn.execute("SET LOCAL session_replication_role = replica")
        await conn.execute("DELETE FROM checkpoint_lane")
        await conn.execute("UPDATE charge SET amount_minor = 5 WHERE id = $1", charge_id)
        await conn.execute("UPDATE usage SET amount_minor = 5")
        altered = (
            "UPDATE audit_event SET body = replace(body, '\"amount_minor\":500', '\"amount_minor\":5') WHERE subject_id = $1"
        )
        await conn.execute(altered, charge_id)
        await rewrite(conn, lane)
    async with db.connection() as conn:
        assert [str(finding) for finding in await check(conn)] == []
    assert await told(db, anchor, keys) == [(lane, str(anchor.ends[0].seq))]


@pytest.mark.books_broken
async def test_a_lane_that_vanished_is_found(db: Database, keys: ServerKeys, tmp_path: Path) -> None:
    story, anchor = await anchored(db, keys, tmp_path / "anchor.json")
    lane = story.families[0].circle_id
    async with db.transaction() as conn:
        await conn.execute("SET LOCAL session_replication_role = replica")
        await conn.execute("DELETE FROM audit_event WHERE lane = $1", lane)
        await conn.execute("DELETE FROM audit_lane WHERE id = $1", lane)
    assert await told(db, anchor, keys) == [(lane,)]


@pytest.mark.books_broken
async def test_a_database_rewritten_against_its_own_checkpoint_is_found(db: Database, keys: ServerKeys, tmp_path: Path) -> None:
    """Without a file from outside, the checkpoint's rows still name the lane."""
    story, _ = await anchored(db, keys, tmp_path / "anchor.json")
    lane = story.families[0].circle_id
    async with db.transaction() as conn:
        await conn.execute("SET LOCAL session_replication_role = replica")
        await conn.execute("UPDATE audit_event SET actor_id = subject_id WHERE lane = $1 AND seq = 3", lane)
        await rewrite(conn, lane)
    async with db.connection() as conn:
        findings = await check(conn)
    assert [(finding.invariant, finding.ids[0]) for finding in findings] == [("I11 hash_chain", lane)]


async def test_an_altered_anchor_is_no_witness(db: Database, keys: ServerKeys, tmp_path: Path) -> None:
    _, anchor = await anchored(db, keys, tmp_path / "anchor.json")
    first = anchor.ends[0]
    shorter = msgspec.structs.replace(first, seq=first.seq - 1)
    for altered in (
        msgspec.structs.replace(anchor, ends=[shorter, *anchor.ends[1:]]),
        msgspec.structs.replace(anchor, ends=anchor.ends[1:]),
        msgspec.structs.replace(anchor, at="2020-01-01T00:00:00.000000+00:00"),
        msgspec.structs.replace(anchor, root="00" * 32),
        msgspec.structs.replace(anchor, signature="00" * 64),
        msgspec.structs.replace(anchor, signature="no"),
    ):
        assert await told(db, altered, keys) == [(anchor.id,)]
    assert await told(db, anchor, ServerKeys.of([bytes(32)])) == [(anchor.id,)]
