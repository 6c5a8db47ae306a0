"""A database that was brought back by PostgreSQL's or a host's own means is closed by hand, then asked for like any other."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from kinpay.database.pool import Database, database_now
from kinpay.primitives.errors import Invalid
from kinpay.recovery.closed import ELSEWHERE, close_as_of, closed_as_of, open_again
from tests.server.test_serve import environment, home, output_of

__all__ = ["home"]

SECRET = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
SHUT = "SELECT count(*) FROM pg_trigger WHERE tgname = 'closed'"
LAST = "SELECT backup, point_at, opened_at IS NOT NULL FROM restoration ORDER BY restored_at DESC LIMIT 1"


async def test_it_is_closed_once_for_each_point(db: Database) -> None:
    async with db.transaction() as conn:
        now = await database_now(conn)
        with pytest.raises(Invalid):
            await close_as_of(conn, now + timedelta(hours=1), now=now)
        assert await close_as_of(conn, now - timedelta(hours=1), now=now)
        assert await conn.fetchval(SHUT) == 3
        assert not await close_as_of(conn, now - timedelta(hours=1), now=now), "it is"
        assert not await close_as_of(conn, now - timedelta(minutes=1), now=now), "and asks for more than that"
        assert await close_as_of(conn, now - timedelta(hours=2), now=now + timedelta(seconds=1)), "but not for this"
        assert await closed_as_of(conn) == now - timedelta(hours=2)
        restoration_id = await conn.fetchval("SELECT id FROM restoration WHERE opened_at IS NULL")
        assert await open_again(conn, restoration_id, unsettled=None, now=now)
        assert not await close_as_of(conn, now - timedelta(hours=2), now=now), "what was asked for and opened stays open"
        assert await conn.fetchval(SHUT) == 0


async def test_the_command_closes_asks_and_opens(home: Path, db: Database, database_url: str) -> None:
    (home / "secret").write_text(SECRET)
    (home / "secret").chmod(0o600)
    env = environment(home, KINPAY_DATABASE_URL=database_url)
    async with db.connection() as conn:
        point = await database_now(conn) - timedelta(hours=1)
    status, _, said = await output_of("requery", env=env)
    assert status == 1, "it was never restored, as far as it knows"
    assert "Traceback" not in said
    status, told, said = await output_of("requery", "--restored-to", point.isoformat(), env=env)
    assert (status, "the database is open" in told) == (0, True), told + said
    async with db.connection() as conn:
        assert tuple(await conn.fetchrow(LAST)) == (ELSEWHERE, point, True)
    status, _, said = await output_of("requery", "--restored-to", "2026-11-22T08:30:00", env=env)
    assert (status, "zone" in said) == (1, True), said
