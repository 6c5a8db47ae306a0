"""The ground the other tests stand on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from kinpay.database.pool import Database
from tests.conftest import set_clock


async def test_a_fresh_database_has_the_schema_and_nothing_in_it(db: Database) -> None:
    async with db.connection() as conn:
        assert await conn.fetchval("SELECT count(*) FROM operator") == 0


async def test_the_clock_moves_and_goes_on_running(db: Database) -> None:
    moment = datetime(2031, 3, 9, 4, 0, tzinfo=UTC)
    async with db.connection() as conn:
        await conn.fetchval("SELECT kinpay_now()")
        await set_clock(conn, moment)
        first = await conn.fetchval("SELECT kinpay_now()")
        second = await conn.fetchval("SELECT kinpay_now()")
    assert moment <= first < second < moment + timedelta(seconds=20)
