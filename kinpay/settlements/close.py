"""Closing merchants' days: an hour after midnight on the operator's wall, from the ledger alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
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
    SELECT m.id AS merchant_id, m.operator_id, o.time_zone, a.currency, first.at, last.day AS last_day, last.ends AS last_ends
    FROM ledger_account a JOIN merchant m ON m.id = a.owner_id JOIN operator o ON o.id = m.operator_id
    CROSS JOIN LATERAL (SELECT max(ends) AS ends, max(day) AS day FROM settlement_day s
                        WHERE s.merchant_id = m.id AND s.currency = a.currency) last
    CROSS JOIN LATERAL (SELECT p.at FROM posting p WHERE p.account_id = a.id AND p.at >= coalesce(last.ends, '-infinity')
                        ORDER BY p.at LIMIT 1) first
    WHERE a.kind = 'merchant'
      AND (first.at AT TIME ZONE o.time_zone)::date < ((:now::timestamptz - :grace::interval) AT TIME ZONE o.time_zone)::date
    ORDER BY first.at LIMIT :most
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What a day is from and to."""

    day: date
    starts: datetime
    ends: datetime


def next_span(at: datetime, time_zone: str, *, last_day: date | None, last_ends: datetime | None) -> Span:
    """The day that a posting at `at` is in, given the last one that was closed. Days neither overlap nor come twice.

    That matters where the operator's zone was put right: the wall's date may then be one that is closed already, and the first
    day by the new wall is longer or shorter than others.
    """
    day = local_date(at, time_zone)
    if last_day is not None and day <= last_day:
        day = last_day + timedelta(days=1)
    starts, ends = start_of_day(day, time_zone), start_of_day(day + timedelta(days=1), time_zone)
    if last_ends is not None:
        starts = max(starts, last_ends) if at >= starts else last_ends
    return Span(day=day, starts=starts, ends=ends)


async def close_settlements(db: Database) -> int:
    """Closes the oldest open day of every merchant and currency that has one; returns how many."""
    async with db.connection() as conn:
        now = await database_now(conn)
        due = await DUE.rows(conn, now=now, grace=CLOSED_AFTER, most=AT_ONCE)
    closed = 0
    for row in due:
        span = next_span(row["at"], row["time_zone"], last_day=row["last_day"], last_ends=row["last_ends"])
        if span.ends + CLOSED_AFTER > now:
            continue
        closing = close_day(
            db, operator_id=row["operator_id"], merchant_id=row["merchant_id"], currency=row["currency"], span=span
        )
        await apart(closing, row["merchant_id"])
        closed += 1
    return closed


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


async def close_day(db: Database, *, operator_id: str, merchant_id: str, currency: str, span: Span) -> None:
    """Keeps what a merchant's day came to; a day that was closed before stays as it is."""
    account = Account(AccountKind.MERCHANT, merchant_id, currency)
    async with db.transaction() as conn:
        now = await database_now(conn)
        row = await SUM.row(conn, account_id=account.id, starts=span.starts, ends=span.ends)
        assert row is not None, "an aggregate always answers"
        sums = {**row}
        named = {"merchant_id": merchant_id, "day": span.day, "currency": currency}
        if await KEEP.value(conn, **named, starts=span.starts, ends=span.ends, now=now, **sums) is None:
            return
        body = {"day": span.day.isoformat(), "currency": currency, **sums}
        await record(conn, operator_id, Event("settlement.closed", merchant_id, body), now=now)
