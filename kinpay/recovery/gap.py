"""Asking the providers for the gap: what happened between the point that was restored and now, and our books do not know.

First what they have and we lost, by their statements; then what we have and do not know the end of, by query under its key;
then agreements. In this order: a charge whose first debit was refused may have fallen back to a second one that was lost, and
must not fall back once more. Whatever is done twice is done once.
Source: reliability.md F26, §0.1; docs/backup.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Final

from kinpay.charges.reconcile import reconcile_debit
from kinpay.charges.refund import send_refund
from kinpay.database.audit import Event, record
from kinpay.database.outbox import enqueue
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection, Record, Sql
from kinpay.mandates.sign_agreement import refresh_agreement
from kinpay.primitives.apart import apart
from kinpay.primitives.errors import Conflict, NotFound
from kinpay.primitives.ids import is_id
from kinpay.providers.contract import (
    Adapters,
    KnownDebit,
    Misconfigured,
    NotExecuted,
    NotKnown,
    Provider,
    ProviderRefund,
    RefundRequest,
    StatementLine,
    UnknownOutcome,
)
from kinpay.reconciliation.match import found_events
from kinpay.recovery.closed import closed_as_of, last_restoration, note_asked, open_again
from kinpay.recovery.lost import Booked, Objection
from kinpay.recovery.lost_debit import book_lost_debit
from kinpay.recovery.lost_refund import book_lost_refund

log = logging.getLogger(__name__)

MARGIN: Final = timedelta(hours=1)
"""How far before the restored point is asked, too: clocks differ, and what was pending then has ended since."""
STATEMENTS: Final = "statements"
OUR_OWN: Final = "our own"
"""Steps that can be left out: what providers tell, and what we ask for."""
_WATCHED_FOR: Final = timedelta(days=3)
_ROUNDS: Final = 3
_AT_ONCE: Final = 8
_SILENT: Final = (UnknownOutcome, NotExecuted, Misconfigured, NotKnown)


@dataclass(slots=True)
class Asked:
    """What the providers were asked, and what came of it. Lists name what it is by kind and key."""

    since: datetime
    lines: int = 0
    booked: list[str] = field(default_factory=list)
    doubts: dict[str, str] = field(default_factory=dict)
    objections: dict[str, str] = field(default_factory=dict)
    silent: list[str] = field(default_factory=list)
    unfinished: int = 0
    agreements: int = 0
    opened: bool = False
    is_open: bool = False
    nothing_sent: bool = False
    """Whether it is not known whose money an objection or a silence is about, so that nobody's may be moved."""
    withheld: set[str] = field(default_factory=set)
    """Circles that an objection is about: nothing of theirs is asked for or sent before somebody has looked."""

    @property
    def settled(self) -> bool:
        """Whether nothing is left that could make somebody be debited twice."""
        return not self.objections and not self.silent


ACCOUNTS = Sql("SELECT id, operator_id, provider FROM provider_account ORDER BY created_at, id")


async def ask_for_gap(
    db: Database, adapters: Adapters, *, public_url: str, open_anyway: str | None = None, skip: frozenset[str] = frozenset()
) -> Asked:
    """Asks, books, settles; opens the database if everything is settled, or if `open_anyway` says why it may be all the same.

    `db`: of connections that may write although it is closed. `skip` leaves steps out.

    Raises: NotFound in a database that never was restored; Conflict while another one is running.
    """
    async with _one_at_a_time(db):
        return await _ask(db, adapters, public_url=public_url, open_anyway=open_anyway, skip=skip)


TRY_LOCK = Sql("SELECT pg_try_advisory_lock(:number)")
UNLOCK = Sql("SELECT pg_advisory_unlock(:number)")
_LOCK: Final = 7_290_117_551


@asynccontextmanager
async def _one_at_a_time(db: Database) -> AsyncIterator[None]:
    async with db.connection() as conn:
        if not await TRY_LOCK.value(conn, number=_LOCK):
            raise Conflict(thing="requery", reason="another one is running")
        try:
            yield
        finally:
            await UNLOCK.value(conn, number=_LOCK)


async def _ask(
    db: Database, adapters: Adapters, *, public_url: str, open_anyway: str | None, skip: frozenset[str]
) -> Asked:  # fmt: skip
    async with db.connection() as conn:
        restoration = await last_restoration(conn)
        accounts = await ACCOUNTS.rows(conn)
    asked = Asked(since=restoration.point_at - MARGIN)
    for _ in range(_ROUNDS):
        before = len(asked.booked)
        asked.objections, asked.silent, asked.lines, asked.nothing_sent, asked.withheld = {}, [], 0, False, set()
        if STATEMENTS not in skip:
            for account in accounts:
                await _take_account(db, adapters, account, asked, until=restoration.restored_at)
        if OUR_OWN not in skip:
            await _finish_known(db, adapters, asked)
        if len(asked.booked) == before:
            break
    if OUR_OWN not in skip:
        await _ask_agreements(db, adapters, asked, public_url=public_url)
    async with db.transaction() as conn:
        now = await database_now(conn)
        await note_asked(conn, restoration.id, now=now)
        if asked.settled or open_anyway is not None:
            unsettled = None if asked.settled else open_anyway
            asked.opened = await open_again(conn, restoration.id, unsettled=unsettled, now=now)
        asked.is_open = await closed_as_of(conn) is None
        if asked.opened:
            await _tell_payers(conn, restoration.point_at, now=now)
    return asked


async def ask_again(db: Database, adapters: Adapters, *, public_url: str) -> int:
    """For the schedule: reads the statements of a gap once more, for days after the opening; returns what it booked.

    A lost debit that was still pending at its provider when it was asked has ended since; a statement may have been late.
    """
    async with db.connection() as conn:
        try:
            restoration = await last_restoration(conn)
        except NotFound:
            return 0
        now = await database_now(conn)
    if restoration.opened_at is None or now - restoration.opened_at > _WATCHED_FOR:
        return 0
    try:
        return len((await ask_for_gap(db, adapters, public_url=public_url, skip=frozenset({OUR_OWN}))).booked)
    except Conflict:
        return 0


PAYERS = Sql("""
    SELECT c.id, c.name, array_agg(m.person_id ORDER BY m.person_id) AS people
    FROM circle c JOIN circle_member m ON m.circle_id = c.id AND m.role = 'payer' AND m.ended_at IS NULL
    GROUP BY c.id, c.name ORDER BY c.id
""")


async def _tell_payers(conn: Connection, point_at: datetime, *, now: datetime) -> None:
    """What they lowered, froze or revoked after the point is lost, and nobody but they can know that."""
    for row in await PAYERS.rows(conn):
        body = {
            "people": list(row["people"]),
            "circle_id": row["id"],
            "circle_name": row["name"],
            "until": point_at.isoformat(),
        }
        await enqueue(conn, "notice.circle_restored", lane=row["id"], subject_id=row["id"], body=body, now=now)


async def _take_account(db: Database, adapters: Adapters, account: Record, asked: Asked, *, until: datetime) -> None:
    """Reads what a provider says of each day of the gap, and books what our books lack; debits before refunds.

    A statement from `until` on need not be there yet: while it is closed nobody is debited. What it says is taken.
    """
    async with db.connection() as conn:
        today = (await database_now(conn)).astimezone(UTC).date()
    needed = until.astimezone(UTC).date()
    lost: list[tuple[date, StatementLine]] = []
    provider: Provider | None = None
    for day in _days(asked.since.astimezone(UTC).date(), max(today, needed)):
        try:
            provider = await adapters.adapter(account["id"])
            lost += await _lost_of(db, provider, day, asked)
        except _SILENT as error:
            if day <= needed:
                asked.silent.append(f"{account['provider']} {day} ({type(error).__name__})")
                asked.nothing_sent = True
    lost.sort(key=lambda one: (one[1].kind, one[1].finished_at))
    for start in range(0, len(lost) if provider is not None else 0, _AT_ONCE):
        assert provider is not None
        part = lost[start : start + _AT_ONCE]
        told = await asyncio.gather(*(_look_up(provider, line) for _, line in part), return_exceptions=True)
        for (day, line), known in zip(part, told, strict=True):
            await _take_line(db, account, day, line, known, asked)


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


async def _lost_of(db: Database, provider: Provider, day: date, asked: Asked) -> list[tuple[date, StatementLine]]:
    """The lines of a day that our books lack; no more of a long statement is kept than that."""
    lost: list[StatementLine] = []
    part: list[StatementLine] = []
    async for line in provider.statement(day):
        asked.lines += 1
        part.append(line)
        if len(part) == _IN_ONE:
            lost += await _unknown_of(db, part)
            part = []
    return [(day, line) for line in lost + await _unknown_of(db, part)]


# What we hold for done already, and what somebody has looked at and resolved, is not asked for.
UNKNOWN = Sql("""
    SELECT l.at - 1 AS at FROM unnest(:kinds::text[], :keys::text[]) WITH ORDINALITY AS l (kind, key, at)
    WHERE NOT EXISTS (SELECT FROM debit d WHERE l.kind = 'debit' AND replace(d.id::text, '-', '') = l.key AND d.id = ANY(:ids)
                      AND d.state = 'succeeded')
      AND NOT EXISTS (SELECT FROM refund r WHERE l.kind = 'refund' AND r.id = ANY(:ids)
                      AND replace(r.id::text, '-', '') = l.key AND r.state = 'succeeded')
      AND NOT EXISTS (SELECT FROM recon_break b WHERE b.kind = l.kind AND b.key = l.key AND b.state = 'resolved'
                      AND b.resolution NOT IN ('settled', 'appeared'))
    ORDER BY l.at
""")
_IN_ONE: Final = 10_000


async def _unknown_of(db: Database, lines: list[StatementLine]) -> list[StatementLine]:
    keys = [line.key for line in lines]
    async with db.connection() as conn:
        rows = await UNKNOWN.rows(conn, kinds=[line.kind for line in lines], keys=keys, ids=[key for key in keys if is_id(key)])
    return [lines[row["at"]] for row in rows]


async def _look_up(provider: Provider, line: StatementLine) -> KnownDebit | ProviderRefund:
    """Asks for the one order, outside any transaction. Raises: as the port does."""
    if line.kind == "debit":
        return await provider.look_up_debit(line.key)
    return await provider.get_refund(RefundRequest(key=line.key, debit_key=line.debit_key or "", amount=line.amount))


async def _take_line(
    db: Database,
    account: Record,
    day: date,
    line: StatementLine,
    known: KnownDebit | ProviderRefund | BaseException,
    asked: Asked,
) -> None:
    """Books one order, or objects: one that goes wrong holds up none of those behind it, and nothing of its circle is sent."""
    name = f"{line.kind} {line.key}"
    try:
        async with db.transaction() as conn:
            await _name_break(conn, account, day, line)
        async with db.transaction() as conn:
            booked = await _book(conn, known, account_id=account["id"])
            await _settle_break(conn, account, line, booked)
    except Objection as objection:
        _object(asked, line, objection.code, objection.circle_ids)
        return
    except _SILENT as error:
        _object(asked, line, f"provider_{type(error).__name__}", None)
        return
    except Exception as error:
        _object(asked, line, f"error_{type(error).__name__}", None)
        log.error("a lost one could not be booked", extra={"kind": line.kind, "key": line.key}, exc_info=error)
        return
    asked.booked.append(name)
    if booked.doubt is not None:
        asked.doubts[name] = booked.doubt


def _object(asked: Asked, line: StatementLine, code: str, circle_ids: frozenset[str] | None) -> None:
    asked.objections[f"{line.kind} {line.key}"] = code
    if circle_ids is None:
        asked.nothing_sent = True
    else:
        asked.withheld |= circle_ids
    log.error("lost and not to be booked", extra={"kind": line.kind, "key": line.key, "reason": code})


async def _book(conn: Connection, known: KnownDebit | ProviderRefund | BaseException, *, account_id: str) -> Booked:
    """Books what the provider answered. Raises: Objection; what the provider raised."""
    if isinstance(known, BaseException):
        raise known
    if isinstance(known, KnownDebit):
        return await book_lost_debit(conn, known, account_id=account_id)
    return await book_lost_refund(conn, known, account_id=account_id)


NAME = Sql("""
    INSERT INTO recon_break (id, provider_account_id, day, what, kind, key, theirs, owner_id, found_at)
    SELECT gen_random_uuid(), :account_id, :day, 'orphan', :kind, :key,
           jsonb_build_object('amount_minor', :amount_minor::bigint, 'currency', :currency::text, 'debit_key', :debit_key::text,
                              'finished_at', :finished_at::timestamptz),
           (SELECT person_id FROM staff WHERE operator_id = :operator_id AND role = 'owner' AND ended_at IS NULL
            ORDER BY created_at, person_id LIMIT 1),
           kinpay_now()
    WHERE NOT EXISTS (SELECT FROM debit d WHERE :kind = 'debit' AND replace(d.id::text, '-', '') = :key)
      AND NOT EXISTS (SELECT FROM refund r WHERE :kind = 'refund' AND replace(r.id::text, '-', '') = :key)
    ON CONFLICT (provider_account_id, kind, key, what) DO NOTHING
    RETURNING id, what, kind, key, day, ours, theirs
""")
# What is in doubt is for somebody of the staff to find out: that break stays open, with what is known.
SETTLE = Sql("""
    UPDATE recon_break
    SET state = CASE WHEN :sure THEN 'resolved' ELSE 'open' END,
        resolution = CASE WHEN :sure THEN 'settled' END, resolved_at = CASE WHEN :sure THEN kinpay_now() END,
        note = :note
    WHERE provider_account_id = :account_id AND kind = :kind AND key = :key AND what = 'orphan' AND state = 'open'
    RETURNING id
""")


async def _name_break(conn: Connection, account: Record, day: date, line: StatementLine) -> None:
    named = await NAME.rows(
        conn,
        account_id=account["id"],
        operator_id=account["operator_id"],
        day=day,
        kind=line.kind,
        key=line.key,
        amount_minor=line.amount.minor,
        currency=line.amount.currency,
        debit_key=line.debit_key,
        finished_at=line.finished_at,
    )
    for row in named:
        await record(conn, account["operator_id"], *found_events(row["id"], [row]), now=await database_now(conn))


async def _settle_break(conn: Connection, account: Record, line: StatementLine, booked: Booked) -> None:
    note = "lost with the database, booked from the provider's word"
    if booked.doubt is not None:
        note += f"; {booked.doubt}: charge {', '.join(booked.charge_ids)}"
    row = await SETTLE.row(conn, account_id=account["id"], kind=line.kind, key=line.key, sure=booked.doubt is None, note=note)
    if row is not None and booked.doubt is None:
        event = Event("break.resolved", row["id"], {"resolution": "settled", "by": "itself"})
        await record(conn, account["operator_id"], event, now=await database_now(conn))


DEBITS = Sql("SELECT id FROM debit WHERE state = 'submitted' AND circle_id <> ALL(:withheld) ORDER BY created_at, id")
REFUNDS = Sql("SELECT id FROM refund WHERE state = 'submitted' AND circle_id <> ALL(:withheld) ORDER BY created_at, id")
UNFINISHED = Sql("""
    SELECT (SELECT count(*) FROM debit WHERE state = 'submitted') + (SELECT count(*) FROM refund WHERE state = 'submitted')
""")


async def _finish_known(db: Database, adapters: Adapters, asked: Asked) -> None:
    """Every debit and refund whose end we do not know is asked for under its key, and settled as always.

    But a debit that was refused may have been followed by one that is not booked: where something is not settled, the next one
    would be the second.
    """
    withheld = sorted(asked.withheld)
    if not asked.nothing_sent:
        async with db.connection() as conn:
            debits = [row["id"] for row in await DEBITS.rows(conn, withheld=withheld)]
        for debit_id in debits:
            await apart(reconcile_debit(db, adapters, debit_id), debit_id)
        async with db.connection() as conn:
            refunds = [row["id"] for row in await REFUNDS.rows(conn, withheld=withheld)]
        for refund_id in refunds:
            await apart(send_refund(db, adapters, refund_id), refund_id)
    async with db.connection() as conn:
        asked.unfinished = await UNFINISHED.value(conn)


OPEN_AGREEMENTS = Sql("SELECT id FROM agreement WHERE state IN ('created', 'pending', 'active') ORDER BY created_at, id")


async def _ask_agreements(db: Database, adapters: Adapters, asked: Asked, *, public_url: str) -> None:
    """Every agreement that is not over here: it may have been signed or ended since."""
    async with db.connection() as conn:
        ids = [row["id"] for row in await OPEN_AGREEMENTS.rows(conn)]
    room = asyncio.Semaphore(_AT_ONCE)

    async def ask(agreement_id: str) -> None:
        async with room:
            await apart(refresh_agreement(db, adapters, agreement_id, public_url=public_url), agreement_id)

    await asyncio.gather(*(ask(agreement_id) for agreement_id in ids))
    asked.agreements = len(ids)
