"""Closing merchants' days: an hour after midnight on the operator's wall, from the ledger alone."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final

from kinpay.database.audit import Event, record
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Sql
from kinpay.ledger.entry import Account, AccountKind
from kinpay.primitives.apart import apart
from kinpay.primitives.clock import local_date, start_of_day

CLOSED_AFTER: Final = timedelta(hours=1)
"""How long after a day's end: longer than any transaction that still books into it."""
AT_ONCE: Final = 200

# The first day with postings after the last one that was closed, of merchants who have one.
DUE = Sql("""
    SELECT m.id AS merchant_id, m.operator_id, o.time_zone, a.id AS account_id, a.currency, first.at
    FROM ledger_account a JOIN merchant m ON m.id = a.owner_id JOIN operator o ON o.id = m.operator_id
    CROSS JOIN LATERAL (SELECT coalesce(max(ends), '-infinity') AS ends FROM settlement_day s
                        WHERE s.merchant_id = m.id AND s.currency = a.currency) last
    CROSS JOIN LATERAL (SELECT p.at FROM posting p WHERE p.account_id = a.id AND p.at >= last.ends
                        ORDER BY p.at LIMIT 1) first
    WHERE a.kind = 'merchant'
      AND (first.at AT TIME ZONE o.time_zone)::date < ((:now::timestamptz - :grace::interval) AT TIME ZONE o.time_zone)::date
    ORDER BY first.at LIMIT :most
""")


async def close_settlements(db: Database) -> int:
    """Closes the oldest open day of every merchant and currency that has one; returns how many."""
    async with db.connection() as conn:
        due = await DUE.rows(conn, now=await database_now(conn), grace=CLOSED_AFTER, most=AT_ONCE)
    for row in due:
        day = local_date(row["at"], row["time_zone"])
        closing = close_day(
            db,
            operator_id=row["operator_id"],
            merchant_id=row["merchant_id"],
            currency=row["currency"],
            day=day,
            time_zone=row["time_zone"],
        )
        await apart(closing, row["merchant_id"])
    return len(due)


SUM = Sql("""
    SELECT count(*) FILTER (WHERE e.kind = 'capture') AS captures,
           coalesce(-sum(p.amount_minor) FILTER (WHERE e.kind = 'capture'), 0)::bigint AS captured_minor,
           count(*) FILTER (WHERE e.kind = 'refund') AS refunds,
           coalesce(sum(p.amount_minor) FILTER (WHERE e.kind <> 'capture'), 0)::bigint AS refunded_minor
    FROM posting p JOIN entry e ON e.id = p.entry_id
    WHERE p.account_id = :account_id AND p.at >= :starts AND p.at < :ends
""")
KEEP = Sql("""
    INSERT INTO settlement_day (merchant_id, day, currency, starts, ends, captures, captured_minor, refunds, refunded_minor,
                                closed_at)
    VALUES (:merchant_id, :day, :currency, :starts, :ends, :captures, :captured_minor, :refunds, :refunded_minor, :now)
    ON CONFLICT DO NOTHING RETURNING 1
""")


async def close_day(db: Database, *, operator_id: str, merchant_id: str, currency: str, day: date, time_zone: str) -> None:
    """Keeps what a merchant's day came to; a day that was closed before stays as it is."""
    starts, ends = start_of_day(day, time_zone), start_of_day(day + timedelta(days=1), time_zone)
    account = Account(AccountKind.MERCHANT, merchant_id, currency)
    async with db.transaction() as conn:
        now = await database_now(conn)
        row = await SUM.row(conn, account_id=account.id, starts=starts, ends=ends)
        assert row is not None, "an aggregate always answers"
        sums = {**row}
        named = {"merchant_id": merchant_id, "day": day, "currency": currency}
        if await KEEP.value(conn, **named, starts=starts, ends=ends, now=now, **sums) is None:
            return
        body = {"day": day.isoformat(), "currency": currency, **sums}
        await record(conn, operator_id, Event("settlement.closed", merchant_id, body), now=now)
