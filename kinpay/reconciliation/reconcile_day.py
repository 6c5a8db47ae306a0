"""Reconciling a provider's day: read its statement, match it, ask for what is not known, name what differs."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from kinpay.charges.reconcile import reconcile_debit
from kinpay.charges.refund import send_refund
from kinpay.database.audit import Event, record
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection, Sql
from kinpay.primitives.apart import apart
from kinpay.primitives.errors import Conflict, NotFound
from kinpay.primitives.ids import new_id
from kinpay.providers.contract import Adapters, StatementLine
from kinpay.reconciliation.fetch import read_lines
from kinpay.reconciliation.match import CLOCKS_DIFFER, find_breaks, find_missing, mend

log = logging.getLogger(__name__)

READY_AFTER: Final = timedelta(hours=2)
"""How long after its end a provider has a day's statement."""
_BACK: Final = timedelta(days=7)
"""How far back a statement that was not there is asked for again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """What a day came to: its lines, how many agree, and how many breaks were found by it."""

    statement_id: str
    lines: int
    matched: int
    breaks: int


DUE = Sql("""
    SELECT a.id, d.day::date AS day
    FROM provider_account a
    CROSS JOIN LATERAL generate_series(
        greatest((a.created_at AT TIME ZONE 'UTC')::date, (:now::timestamptz AT TIME ZONE 'UTC')::date - :back::integer),
        ((:now::timestamptz - :ready::interval) AT TIME ZONE 'UTC')::date - 1, interval '1 day') AS d (day)
    WHERE a.enabled
      AND NOT EXISTS (SELECT 1 FROM provider_statement s WHERE s.provider_account_id = a.id AND s.day = d.day::date)
    ORDER BY d.day, a.id LIMIT 50
""")


async def reconcile_due(db: Database, adapters: Adapters) -> int:
    """Reconciles every day of every provider account whose statement should be there; returns how many it tried."""
    async with db.connection() as conn:
        due = await DUE.rows(conn, now=await database_now(conn), back=_BACK.days, ready=READY_AFTER)
    for row in due:
        await apart(reconcile_day(db, adapters, provider_account_id=row["id"], day=row["day"]), row["id"])
    return len(due)


async def reconcile_day(db: Database, adapters: Adapters, *, provider_account_id: str, day: date) -> Reconciled:
    """Fetches and matches the provider's UTC day, and asks the provider once more for each order whose outcome differs.

    Raises: Conflict if it was done; NotFound for an account that there is not; UnknownOutcome, NotExecuted, NotKnown or
    Misconfigured if the statement is not to be had now.
    """
    provider = await adapters.adapter(provider_account_id)
    # The provider is asked before any transaction is open: the adapter gives the first line when it has verified them all.
    lines = [line async for line in provider.statement(day)]
    done = await take_statement(db, _each(lines), provider_account_id=provider_account_id, day=day)
    await _ask_again(db, adapters, provider_account_id, day=day)
    return done


async def _each(lines: list[StatementLine]) -> AsyncIterable[StatementLine]:
    for line in lines:
        yield line


INSERT = Sql("""
    INSERT INTO provider_statement (id, provider_account_id, day, fetched_at, lines, sha256, matched, breaks)
    VALUES (:id, :account_id, :day, :now, :lines, :sha256, 0, 0)
    ON CONFLICT (provider_account_id, day) DO NOTHING RETURNING 1
""")
COUNTED = Sql("UPDATE provider_statement SET matched = :matched, breaks = :breaks WHERE id = :id")
OPERATOR = Sql("SELECT operator_id FROM provider_account WHERE id = :account_id")


async def take_statement(
    db: Database, lines: AsyncIterable[StatementLine], *, provider_account_id: str, day: date
) -> Reconciled:
    """Keeps and matches a day's statement, whole or not at all.

    Raises: Conflict if the day was reconciled; NotFound for an account that there is not.
    """
    statement_id = new_id()
    async with db.transaction() as conn:
        operator_id = await OPERATOR.value(conn, account_id=provider_account_id)
        if operator_id is None:
            raise NotFound()
        read = await read_lines(conn, lines, statement_id=statement_id, provider_account_id=provider_account_id, day=day)
        now = await database_now(conn)
        named = {"id": statement_id, "account_id": provider_account_id, "day": day, "now": now}
        if await INSERT.value(conn, **named, lines=read.lines, sha256=read.sha256) is None:
            raise Conflict(thing="statement", day=day.isoformat())
        matched, breaks = await find_breaks(
            conn, statement_id=statement_id, provider_account_id=provider_account_id, day=day, now=now
        )
        start = datetime.combine(day, time(0), UTC)
        breaks += await find_missing(
            conn,
            provider_account_id=provider_account_id,
            since=start - CLOCKS_DIFFER - timedelta(days=1),
            until=start + timedelta(days=2),
            now=now,
        )
        await COUNTED.run(conn, id=statement_id, matched=matched, breaks=breaks)
        await _mend(conn, operator_id, provider_account_id, now=now)
        body = {"account": provider_account_id, "day": day.isoformat(), "lines": read.lines, "sha256": read.sha256.hex()}
        event = Event("reconciliation.done", statement_id, {**body, "matched": matched, "breaks": breaks})
        await record(conn, operator_id, event, now=now)
    log.info("day reconciled", extra={"account_id": provider_account_id, "lines": read.lines, "breaks": breaks})
    return Reconciled(statement_id=statement_id, lines=read.lines, matched=matched, breaks=breaks)


async def _mend(conn: Connection, operator_id: str, provider_account_id: str, *, now: datetime) -> None:
    mended = await mend(conn, provider_account_id=provider_account_id, now=now)
    events = [Event("break.resolved", ident, {"resolution": resolution}) for ident, resolution in mended.items()]
    if events:
        await record(conn, operator_id, *events, now=now)


OTHER_OUTCOME = Sql("""
    SELECT kind, key FROM recon_break
    WHERE provider_account_id = :account_id AND day = :day AND state = 'open' AND what = 'differing'
      AND ours ->> 'state' <> 'succeeded' LIMIT 10000
""")


async def _ask_again(db: Database, adapters: Adapters, provider_account_id: str, *, day: date) -> None:
    """What the statement holds for done and we do not: the provider's own answer under the key decides, as always."""
    async with db.connection() as conn:
        found = await OTHER_OUTCOME.rows(conn, account_id=provider_account_id, day=day)
        operator_id = await OPERATOR.value(conn, account_id=provider_account_id)
    for row in found:
        ask = reconcile_debit if row["kind"] == "debit" else send_refund
        await apart(ask(db, adapters, row["key"]), row["key"])
    if found:
        async with db.transaction() as conn:
            await _mend(conn, operator_id, provider_account_id, now=await database_now(conn))
