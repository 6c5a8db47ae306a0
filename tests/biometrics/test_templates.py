"""Templates: encrypted each under its own key, in no table, log or dump in the clear; destroyed for good, with a receipt."""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from kinpay.biometrics import enrol
from kinpay.biometrics.keyring import FolderKeyring, KeyGone
from kinpay.biometrics.template import CONTENT_MAX_BYTES, Template, read_template
from kinpay.database.pool import Database
from kinpay.primitives.errors import Invalid, NotFound
from kinpay.primitives.ids import new_id
from kinpay.primitives.server_keys import SealBroken, ServerKeys
from tests.biometrics.seed import Place, seed_person, seed_place

NOW = datetime(2026, 3, 2, 7, 0, tzinfo=UTC)
CANARY = b"canary-of-a-face-" + bytes(range(33, 120)) * 3


@pytest.fixture
def keyring(tmp_path: Path, keys: ServerKeys) -> FolderKeyring:
    return FolderKeyring.open(tmp_path / "keyring", keys)


def face(content: bytes = CANARY) -> Template:
    return read_template(content, model="opaque", model_version="1")


async def enrolled(db: Database, keyring: FolderKeyring, *, provisional_until: datetime | None = None) -> tuple[str, Place]:
    async with db.transaction() as conn:
        place = await seed_place(conn)
        person_id = await seed_person(conn, place.operator_id, birth_date=date(1948, 1, 1))
        template_id = await enrol.enrol(
            conn, keyring, person_id=person_id, template=face(), captured_by=place.terminal_id,
            provisional_until=provisional_until, lane=place.operator_id, now=NOW,
        )  # fmt: skip
    return template_id, place


async def test_what_goes_in_comes_out_and_nothing_of_it_is_anywhere_in_the_clear(
    db: Database, database_url: str, keyring: FolderKeyring, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    template_id, _ = await enrolled(db, keyring)
    async with db.connection() as conn:
        opened = await enrol.open_template(conn, keyring, template_id=template_id, now=NOW)
    assert opened.content.open() == CANARY
    assert "canary" not in repr(opened)
    assert "canary" not in caplog.text
    for hidden in (CANARY, CANARY.hex().encode()):
        assert hidden not in await dump(database_url)
        assert all(hidden not in file.read_bytes() for file in (tmp_path / "keyring").iterdir())


async def dump(database_url: str) -> bytes:
    """Every row of every table as text, as a dump would hold it."""
    conn = await asyncpg.connect(database_url)
    try:
        tables = await conn.fetch("SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables"
                                  " WHERE schemaname = 'public'")  # fmt: skip
        rows = [await conn.fetch(f"SELECT t::text AS text FROM {table['name']} t") for table in tables]
    finally:
        await conn.close()
    text = "\n".join(row["text"] for table in rows for row in table)
    assert "template.enrolled" in text, "the dump sees what there is to see"
    return text.encode()


async def test_each_template_has_its_own_key_so_that_one_is_destroyed_alone(db: Database, keyring: FolderKeyring) -> None:
    first, place = await enrolled(db, keyring)
    async with db.transaction() as conn:
        person_id = await conn.fetchval("SELECT person_id FROM template WHERE id = $1", first)
        second = await enrol.enrol(
            conn, keyring, person_id=person_id, template=face(b"second"), captured_by=place.terminal_id,
            provisional_until=None, lane=place.operator_id, now=NOW,
        )  # fmt: skip
        erased = await enrol.destroy(conn, first, reason="asked", lane=place.operator_id, now=NOW)
        assert await enrol.destroy(conn, first, reason="asked", lane=place.operator_id, now=NOW) is None
    await enrol.finish(keyring, [erased])
    async with db.connection() as conn:
        with pytest.raises(NotFound):
            await enrol.open_template(conn, keyring, template_id=first, now=NOW)
        opened = await enrol.open_template(conn, keyring, template_id=second, now=NOW)
    assert opened.content.open() == b"second"


async def test_even_a_backup_of_the_row_stays_closed_once_the_key_is_destroyed(db: Database, keyring: FolderKeyring) -> None:
    template_id, place = await enrolled(db, keyring)
    async with db.transaction() as conn:
        backup = await conn.fetchval("SELECT ciphertext FROM template WHERE id = $1", template_id)
        erased = await enrol.destroy(conn, template_id, reason="withdrawn", lane=place.operator_id, now=NOW)
    assert erased is not None
    await enrol.destroy_key(db, keyring, template_id=template_id, key_id=erased.key_id, lane=erased.lane)
    await enrol.destroy_key(db, keyring, template_id=template_id, key_id=erased.key_id, lane=erased.lane)
    async with db.transaction() as conn:
        restore = "UPDATE template SET ciphertext = $2, destroyed_at = NULL WHERE id = $1"
        await conn.execute(restore, template_id, backup)
        with pytest.raises(KeyGone):
            await enrol.open_template(conn, keyring, template_id=template_id, now=NOW)
        kinds = await conn.fetch("SELECT kind FROM audit_event WHERE subject_id = $1 ORDER BY seq", template_id)
        task = await conn.fetchval("SELECT body FROM outbox WHERE topic = 'template.destroy_key'")
    assert [row["kind"] for row in kinds] == ["template.enrolled", "template.destroyed", "template.key_destroyed"]
    assert task == {"key_id": erased.key_id, "lane": erased.lane}


async def test_a_provisional_template_is_confirmed_in_time_or_not_at_all(db: Database, keyring: FolderKeyring) -> None:
    until = NOW + timedelta(minutes=15)
    kept, place = await enrolled(db, keyring, provisional_until=until)
    late, _ = await enrolled(db, keyring, provisional_until=until)
    async with db.transaction() as conn:
        assert await enrol.confirm(conn, kept, lane=place.operator_id, now=until - timedelta(seconds=1))
        assert not await enrol.confirm(conn, late, lane=place.operator_id, now=until)
        with pytest.raises(NotFound):
            await enrol.open_template(conn, keyring, template_id=late, now=until)
        assert (await enrol.open_template(conn, keyring, template_id=kept, now=until)).content.open() == CANARY


async def test_a_ciphertext_moved_to_another_person_or_model_does_not_open(db: Database, keyring: FolderKeyring) -> None:
    template_id, place = await enrolled(db, keyring)
    async with db.transaction() as conn:
        other = await seed_person(conn, place.operator_id)
        await conn.execute("UPDATE template SET person_id = $2 WHERE id = $1", template_id, other)
        with pytest.raises(SealBroken):
            await enrol.open_template(conn, keyring, template_id=template_id, now=NOW)


async def enrol_and_fail(db: Database, keyring: FolderKeyring, like: str, place: Place) -> None:
    async with db.transaction() as conn:
        person_id = await conn.fetchval("SELECT person_id FROM template WHERE id = $1", like)
        await enrol.enrol(
            conn, keyring, person_id=person_id, template=face(), captured_by=place.terminal_id,
            provisional_until=None, lane=place.operator_id, now=NOW,
        )  # fmt: skip
        raise NotFound()


async def test_a_rolled_back_enrolment_leaves_a_key_that_the_sweep_removes(db: Database, keyring: FolderKeyring) -> None:
    kept, place = await enrolled(db, keyring)
    with pytest.raises(NotFound, match="not-found"):
        await enrol_and_fail(db, keyring, kept, place)
    assert len(await keyring.key_ids()) == 2
    assert await enrol.sweep_keys(db, keyring, older_than=datetime.now(UTC) - timedelta(hours=1)) == 0
    assert await enrol.sweep_keys(db, keyring, older_than=datetime.now(UTC) + timedelta(seconds=1)) == 1
    async with db.connection() as conn:
        assert (await enrol.open_template(conn, keyring, template_id=kept, now=NOW)).content.open() == CANARY


@pytest.mark.parametrize("content", [b"", bytes(CONTENT_MAX_BYTES + 1)])
def test_a_template_of_impossible_size_is_refused(content: bytes) -> None:
    with pytest.raises(Invalid):
        read_template(content, model="m", model_version="1")


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "模型", "a\n"])
def test_a_model_is_named_by_a_plain_word(name: str) -> None:
    with pytest.raises(Invalid):
        read_template(b"x", model=name, model_version="1")


async def test_nobody_is_enrolled_who_is_not_there(db: Database, keyring: FolderKeyring) -> None:
    with pytest.raises(NotFound):
        async with db.transaction() as conn:
            await enrol.enrol(
                conn, keyring, person_id=new_id(), template=face(), captured_by=new_id(),
                provisional_until=None, lane=new_id(), now=NOW,
            )  # fmt: skip
