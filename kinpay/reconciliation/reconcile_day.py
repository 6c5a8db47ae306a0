"""Reconciling a provider's day: read its statement, match it, ask for what is not known, name what differs."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import date, datetime

from kinpay.charges.reconcile import reconcile_debit
from kinpay.charges.refund import send_refund
from kinpay.database.audit import Event, record
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection, Sql
from kinpay.primitives.apart import apart
from kinpay.primitives.ids import new_id
from kinpay.providers.contract import Adapters, StatementLine
from kinpay.reconciliation.days import begin_day, due_days, finish_day, note_failure, note_try
from kinpay.reconciliation.fetch import read_lines
from kinpay.reconciliation.match import BY_INDEX, find_odd_lines, found_events, mend, name_breaks
from kinpay.reconciliation.missing import find_missing

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """What a day came to: its lines, how many agree, and how many breaks were found by it."""

    statement_id: str
    lines: int
    matched: int
    breaks: int


async def reconcile_due(db: Database, adapters: Adapters) -> int:
    """Reconciles every day of every provider account whose statement should be there; returns how many it tried.

    One that is not to be had is asked for again, at longer and longer intervals, for ever.
    """
    async with db.connection() as conn:
        due = await due_days(conn, now=await database_now(conn))
    for row in due:
        await apart(_reconcile_due_day(db, adapters, row["id"], row["day"]), row["id"])
    return len(due)


async def _reconcile_due_day(db: Database, adapters: Adapters, provider_account_id: str, day: date) -> None:
    async with db.transaction() as conn:
        await note_try(conn, provider_account_id, day, now=await database_now(conn))
    try:
        await reconcile_day(db, adapters, provider_account_id=provider_account_id, day=day)
    except Exception as error:
        async with db.transaction() as conn:
            await note_failure(conn, provider_account_id, day, reason=type(error).__name__)
        raise


async def reconcile_day(db: Database, adapters: Adapters, *, provider_account_id: str, day: date) -> Reconciled:
    """Fetches and matches the provider's UTC day, and asks the provider once more for each order whose outcome differs.

    Raises: Conflict if it was done; Invalid if it is not over for two hours; NotFound for an account that there is not;
    UnknownOutcome, NotExecuted, NotKnown or Misconfigured if the statement is not to be had now.
    """
    async with db.transaction() as conn:
        await begin_day(conn, provider_account_id, day, now=await database_now(conn))
    provider = await adapters.adapter(provider_account_id)
    async with aclosing(provider.statement(day)) as lines:
        # The provider is asked before any transaction is open: with the first line, the adapter has them all.
        first = await anext(lines, None)
        done = await take_statement(db, _from(first, lines), provider_account_id=provider_account_id, day=day)
    await _ask_again(db, adapters, provider_account_id, day=day)
    return done


async def _from(first: StatementLine | None, rest: AsyncIterator[StatementLine]) -> AsyncIterator[StatementLine]:
    if first is not None:
        yield first
        async for line in rest:
            yield line


INSERT = Sql("""
    INSERT INTO provider_statement (id, provider_account_id, day, fetched_at, lines, sha256, matched, breaks)
    VALUES (:id, :account_id, :day, :now, :lines, :sha256, :matched, :breaks)
""")
COUNTED = Sql("UPDATE provider_statement SET breaks = :breaks WHERE id = :id")


async def take_statement(
    db: Database, lines: AsyncIterable[StatementLine], *, provider_account_id: str, day: date
) -> Reconciled:
    """Keeps and matches a day's statement, whole or not at all.

    Raises: Conflict if the day was reconciled; Invalid if it is not over; NotFound for an account that there is not; whatever
    `lines` raises.
    """
    statement_id, account = new_id(), provider_account_id
    async with db.transaction() as conn:
        now = await database_now(conn)
        begun = await begin_day(conn, account, day, now=now)
        await BY_INDEX.run(conn)
        read = await read_lines(conn, lines, statement_id=statement_id, provider_account_id=account, day=day)
        matched, odd = await find_odd_lines(conn, statement_id=statement_id, provider_account_id=account, lines=read.lines)
        found = await name_breaks(conn, statement_id=statement_id, provider_account_id=account, day=day, now=now)
        kept = {"lines": read.lines, "sha256": read.sha256, "matched": matched, "breaks": odd}
        await INSERT.run(conn, id=statement_id, account_id=account, day=day, now=now, **kept)
        missing = await find_missing(conn, provider_account_id=account, looked_until=begun["looked_until"], now=now)
        await COUNTED.run(conn, id=statement_id, breaks=odd + len(missing))
        await finish_day(conn, account, day, now=now)
        counts = {"lines": read.lines, "matched": matched, "breaks": odd + len(missing)}
        about = {"account": account, "day": day.isoformat(), "sha256": read.sha256.hex(), **counts}
        events = [Event("reconciliation.done", statement_id, about), *found_events(statement_id, [*found, *missing])]
        await record(conn, begun["operator_id"], *events, *await mend(conn, provider_account_id=account, now=now), now=now)
    log.info("day reconciled", extra={"account_id": account, "lines": read.lines, "breaks": odd + len(missing)})
    return Reconciled(statement_id=statement_id, **counts)


OTHER_OUTCOME = Sql("""
    SELECT kind, key FROM recon_break
    WHERE provider_account_id = :account_id AND day = :day AND state = 'open' AND what = 'differing'
      AND ours ->> 'state' <> 'succeeded' LIMIT 10000
""")
OPERATOR = Sql("SELECT operator_id FROM provider_account WHERE id = :account_id")


async def _ask_again(db: Database, adapters: Adapters, provider_account_id: str, *, day: date) -> None:
    """What the statement holds for done and we do not: the provider's own answer under the key decides, as always."""
    async with db.connection() as conn:
        found = await OTHER_OUTCOME.rows(conn, account_id=provider_account_id, day=day)
    for row in found:
        ask = reconcile_debit if row["kind"] == "debit" else send_refund
        await apart(ask(db, adapters, row["key"]), row["key"])
    if found:
        async with db.transaction() as conn:
            await _mend(conn, provider_account_id, now=await database_now(conn))


async def _mend(conn: Connection, provider_account_id: str, *, now: datetime) -> None:
    events = await mend(conn, provider_account_id=provider_account_id, now=now)
    if events:
        await record(conn, await OPERATOR.value(conn, account_id=provider_account_id), *events, now=now)
