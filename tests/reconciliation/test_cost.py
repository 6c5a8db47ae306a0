"""What a statement costs depends on its lines, not on how many debits there ever were."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from kinpay.database.pool import Database
from kinpay.database.sql import Sql
from kinpay.primitives.ids import new_id
from kinpay.reconciliation.fetch import read_lines
from kinpay.reconciliation.match import BY_INDEX, find_odd_lines, mend, name_breaks
from kinpay.reconciliation.missing import find_missing
from kinpay.reconciliation.reconcile_day import take_statement
from tests.reconciliation.planted import DAY, nothing, plant
from tests.reconciliation.telling import told

HISTORY, LINES = 3_000, 20
# How it was found before: by the text of the key, so that all debits are read.
BY_TEXT = Sql("""
    SELECT count(*) FROM provider_line l JOIN debit d ON replace(d.id::text, '-', '') = l.key WHERE l.statement_id = :id
""")


async def _read(conn: Any) -> int:
    """Rows of debits and refunds that this connection has read of late."""
    rows: int = await conn.fetchval(
        "SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables"
        " WHERE relname IN ('debit', 'refund')"
    )
    return rows


@pytest.mark.books_broken  # debits out of nowhere
async def test_a_few_lines_read_a_few_debits_of_very_many(db: Database) -> None:
    async with db.transaction() as conn:
        planted = await plant(conn, lines=HISTORY, breaks=0)
    account, day, statement_id = planted.shop.provider_account_id, date(2026, 4, 6), new_id()
    await take_statement(db, nothing(), provider_account_id=account, day=DAY + timedelta(days=1))
    async with db.transaction() as conn:
        now = datetime.now(UTC)
        await BY_INDEX.run(conn)
        lines = told(*planted.lines[:LINES])
        await read_lines(conn, lines, statement_id=statement_id, provider_account_id=account, day=day)
        before = await _read(conn)
        found = await find_odd_lines(conn, statement_id=statement_id, provider_account_id=account, lines=LINES)
        assert found == (LINES, 0)
        await name_breaks(conn, statement_id=statement_id, provider_account_id=account, day=day, now=now)
        await find_missing(conn, provider_account_id=account, looked_until=now, now=now)
        await mend(conn, provider_account_id=account, now=now)
        assert await _read(conn) - before <= 3 * LINES
        assert await BY_TEXT.value(conn, id=statement_id) > 0
        assert await _read(conn) - before >= HISTORY, "the measure itself"
        await conn.execute(
            "INSERT INTO provider_statement VALUES ($1, $2, $3, $4, $5, '', 0, 0)", statement_id, account, day, now, LINES
        )
