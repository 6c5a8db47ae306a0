"""The hot statements go by an index from the first charge on: their plans are made while the tables are empty, and stay."""

from __future__ import annotations

from datetime import timedelta

import pytest

from kinpay.charges.batch import CONNECTIONS, Batcher
from kinpay.charges.charge import ChargeState
from kinpay.charges.request import Burn, Signed
from kinpay.database.pool import Database, database_now
from kinpay.primitives.ids import new_id
from tests.charges.household import Household, found, limit, session_of, shop_of, terms

HOT = [
    "audit_event",
    "audit_lane",
    "burnt_code",
    "charge",
    "circle",
    "request_key",
    "request_nonce",
    "terminal_session",
    "usage",
]


TOO_MUCH = """
    SELECT relname, 'whole' AS how, seq_scan AS count FROM pg_stat_user_tables WHERE relname = ANY($1::text[])
    UNION ALL
    SELECT relname, 'index ' || indexrelname, greatest(0, idx_tup_read - idx_scan) FROM pg_stat_user_indexes
    WHERE relname = ANY($1::text[])
"""
"""A table read from end to end; an index of which a look-up reads more than the one entry that it is for."""


async def read_too_much(db: Database) -> dict[tuple[str, str], int]:
    """How often that happened so far."""
    async with db.connection() as conn:
        return {(row["relname"], row["how"]): row["count"] for row in await conn.fetch(TOO_MUCH, HOT)}


async def buy_twenty(db: Database, homes: list[Household], session_id: str) -> None:
    """One after another, each signed and by a code, as a till asks."""
    batcher = Batcher(db)
    async with db.connection() as conn:
        ends = await database_now(conn) + timedelta(minutes=1)
    for _ in range(4):
        for home in homes:
            charge = await home.buy(
                batcher,
                100,
                burn=Burn(code_id=new_id(), kind="pay", expires_at=ends),
                signed=Signed(signer_id=session_id, nonce=new_id()),
            )
            assert charge.state is ChargeState.HELD
    await batcher.close()


@pytest.mark.parametrize("by_index", [True, False])
async def test_no_hot_statement_reads_a_whole_table(db: Database, database_url: str, by_index: bool) -> None:
    shop = await shop_of(db)
    homes = await found(db, shop, terms(limit(100_000), limit(100_000, "month")), count=5)
    async with db.connection() as conn:
        session_id = await session_of(conn, shop.terminal_id)
        await conn.execute("ANALYZE")
    before = await read_too_much(db)
    tills = await Database.open(database_url, max_connections=CONNECTIONS, by_index=by_index)
    await buy_twenty(tills, homes, session_id)
    await tills.close()  # A connection that ends hands in what it counted.
    more = {place: count - before[place] for place, count in (await read_too_much(db)).items() if count > before[place]}
    if by_index:
        assert more == {}
    else:
        assert more, "planned for empty tables, as any other connection plans: this test would notice"
