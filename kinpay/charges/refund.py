"""Money back to where it came from, whole or in parts. The limit gets the amount back in its original window, never the count.

Source: semantics.md "Charge"; reliability.md §1c (refund), I8.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from kinpay.charges.books import FIRST_CHECK, Refund, lock_charge, lock_refund, read_refund, rewrite_charge
from kinpay.charges.charge import ChargeState
from kinpay.charges.collect import reduce_due
from kinpay.charges.request import Charge
from kinpay.charges.rolled import unroll
from kinpay.charges.usage import change_usage
from kinpay.database.audit import Event, record
from kinpay.database.outbox import enqueue
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection, Record, Sql
from kinpay.ledger import entry
from kinpay.ledger.post import post
from kinpay.people.lock import LockedCircle
from kinpay.primitives.errors import Conflict, Invalid, KeyReused, WrongState
from kinpay.primitives.ids import id_under
from kinpay.primitives.money import Money
from kinpay.providers.contract import (
    Adapters,
    DebitState,
    Misconfigured,
    NotExecuted,
    NotKnown,
    Provider,
    ProviderRefund,
    RefundRequest,
    UnknownOutcome,
)

log = logging.getLogger(__name__)

Why = Literal["asked", "late", "void", "surplus"]

# What each succeeded debit of a charge still holds: refunds that were not refused are taken off.
REFUNDABLE = Sql("""
    SELECT d.id, d.payer_id, d.provider_account_id, d.currency,
           cd.amount_minor - coalesce((SELECT sum(r.amount_minor) FROM refund r
                                       WHERE r.debit_id = d.id AND r.charge_id = cd.charge_id
                                         AND r.state <> 'failed'), 0)::bigint AS rest_minor
    FROM charge_debit cd JOIN debit d ON d.id = cd.debit_id
    WHERE cd.charge_id = :charge_id AND d.state = 'succeeded'
    ORDER BY d.finished_at, d.id
""")


@dataclass(frozen=True, slots=True)
class KnownRefund:
    """A refund that a provider has: its key, and the debit it gives back."""

    refund_id: str
    debit_id: str


async def refund_charge(
    conn: Connection, charge_id: str, *, amount_minor: int, actor_id: str, mark: str | None = None
) -> list[str]:
    """Takes `amount_minor` of a succeeded charge back, over its debits in order; returns the refunds to be sent.

    What is still due tonight is just taken off the day's debit. `mark`: of the request's key. Refunds that bear it were asked
    for by this very request before the database was restored, so that there is nothing more to send. Raises: NotFound;
    WrongState unless it succeeded or is due; Invalid for more than is left; KeyReused if that was for another amount.
    """
    circle, charge = await lock_charge(conn, charge_id)
    before = None if mark is None else await ASKED_BEFORE.value(conn, charge_id=charge_id, mark=mark)
    if before is not None:
        if before != amount_minor:
            raise KeyReused()
        return []
    now = await database_now(conn)
    if charge.state is ChargeState.DUE:
        await reduce_due(conn, circle, charge, amount_minor=amount_minor, actor_id=actor_id, now=now)
        return []
    if charge.state is not ChargeState.SUCCEEDED:
        raise WrongState("charge", state=charge.state.value, event="refunded")
    left = charge.debited_minor - charge.refunded_minor
    if amount_minor > left:
        raise Invalid("refund_above_captured", field="amount_minor", left_minor=left)
    return await give_back(conn, circle, charge, amount_minor=amount_minor, why="asked", actor_id=actor_id, now=now, mark=mark)


# Of every charge of its debits: after a restore a refund of a day's debit may have been booked for another one of them.
ASKED_BEFORE = Sql("""
    SELECT sum(r.amount_minor)::bigint FROM refund r
    WHERE r.debit_id IN (SELECT debit_id FROM charge_debit WHERE charge_id = :charge_id) AND right(r.id::text, 8) = :mark
""")


async def give_back(
    conn: Connection,
    circle: LockedCircle,
    charge: Charge,
    *,
    amount_minor: int,
    why: Why,
    actor_id: str | None,
    now: datetime,
    mark: str | None = None,
    known: KnownRefund | None = None,
) -> list[str]:
    """Opens refunds over the charge's succeeded debits, frees the limit, books what the merchant gives back.

    `actor_id`: whoever asked for it, as the audit log names them; None where it happens by itself. `known`: the one refund that
    the provider has already, where our books lost it. Raises: Conflict for more than is left.
    """
    before = charge.taken
    charge.refunded_minor += amount_minor
    asked = await rewrite_charge(conn, charge, "refund_asked", now=now, actor_id=actor_id, amount_minor=amount_minor, why=why)
    events = [asked]
    await change_usage(conn, charge, before=before, after=charge.taken)
    refunds: list[str] = []
    rest = amount_minor
    for debit in await REFUNDABLE.rows(conn, charge_id=charge.id):
        part = min(rest, debit["rest_minor"])
        if part <= 0 or (known is not None and known.debit_id != debit["id"]):
            continue
        rest -= part
        refund_id = known.refund_id if known is not None else id_under(charge.id, mark=mark)
        opened = await open_refund(
            conn, charge, debit, refund_id=refund_id, amount_minor=part, why=why, actor_id=actor_id, now=now
        )
        about = entry.About(circle_id=circle.id, charge_id=charge.id, refund_id=refund_id)
        booked = entry.refund(
            about, payer_id=debit["payer_id"], merchant_id=charge.merchant_id, amount=Money(part, charge.currency)
        )
        events += [opened, await post(conn, booked, now=now)]
        refunds.append(refund_id)
    if rest:
        raise Conflict(thing="refund", rest_minor=rest)
    await record(conn, circle.id, *events, now=now)
    body = {"amount_minor": amount_minor, "why": why, "actor_id": actor_id}
    await enqueue(conn, "charge.refunded", lane=circle.id, subject_id=charge.id, body=body, now=now)
    return refunds


async def return_surplus(conn: Connection, charge: Charge, debit_id: str, *, now: datetime) -> tuple[str, Event]:
    """A second debit of one charge succeeded: all of it goes back; the merchant and the limits are not concerned."""
    await unroll(conn, charge, now=now)
    rows = await REFUNDABLE.rows(conn, charge_id=charge.id)
    debit = next(row for row in rows if row["id"] == debit_id)
    refund_id, rest_minor = id_under(charge.id), debit["rest_minor"]
    opened = await open_refund(conn, charge, debit, refund_id=refund_id, amount_minor=rest_minor, why="surplus", now=now)
    return refund_id, opened


OPEN_REFUND = Sql("""
    INSERT INTO refund (id, circle_id, charge_id, debit_id, currency, amount_minor, reason, state, created_at, next_check_at)
    VALUES (:id, :circle_id, :charge_id, :debit_id, :currency, :amount_minor, :reason, 'submitted', :now, :next_check_at)
""")


async def open_refund(
    conn: Connection,
    charge: Charge,
    debit: Record,
    *,
    refund_id: str,
    amount_minor: int,
    why: Why,
    now: datetime,
    actor_id: str | None = None,
) -> Event:
    """Writes the row of a refund of one of `REFUNDABLE`'s debits; returns the audit event."""
    await OPEN_REFUND.run(
        conn,
        id=refund_id,
        circle_id=charge.circle_id,
        charge_id=charge.id,
        debit_id=debit["id"],
        currency=charge.currency,
        amount_minor=amount_minor,
        reason=why,
        now=now,
        next_check_at=now + FIRST_CHECK if why == "asked" else now,  # Nobody waits for the others: the reconciler sends them.
    )
    body = {"charge_id": charge.id, "debit_id": debit["id"], "amount_minor": amount_minor, "reason": why}
    return Event("refund.submitted", refund_id, body, actor_id)


async def send_refund(db: Database, adapters: Adapters, refund_id: str) -> None:
    """Sends a committed refund (or, if it may have been sent already, asks for it first) and books the answer."""
    async with db.connection() as conn:
        refund = await read_refund(conn, refund_id)
    if refund.state != "submitted":
        return
    request = RefundRequest(key=refund.id, debit_key=refund.debit_id, amount=refund.amount)
    try:
        provider = await adapters.adapter(refund.provider_account_id)
        seen = await _ask_or_send(provider, request, sent_before=refund.attempts > 0)
    except (UnknownOutcome, NotExecuted, Misconfigured) as error:
        log.info("refund not known", extra={"refund_id": refund_id, "error": type(error).__name__})
        async with db.transaction() as conn:
            await REFUND_UNKNOWN.run(conn, refund_id=refund_id, now=await database_now(conn))
        return
    async with db.transaction() as conn:
        await settle_refund(conn, refund_id, seen)


REFUND_UNKNOWN = Sql("""
    UPDATE refund
    SET attempts = attempts + 1,
        next_check_at = :now::timestamptz + make_interval(secs => least(300, 3 * 2 ^ least(attempts, 7)))
    WHERE id = :refund_id AND state = 'submitted'
""")


async def _ask_or_send(provider: Provider, request: RefundRequest, *, sent_before: bool) -> ProviderRefund:
    if sent_before:
        try:
            return await provider.get_refund(request)
        except NotKnown:
            pass  # It never arrived: the same key may be sent again.
    return await provider.refund(request)


FINISH_REFUND = Sql("""
    UPDATE refund SET state = :to, provider_ref = :provider_ref, failure_code = :failure_code, finished_at = :now,
                      next_check_at = NULL
    WHERE id = :refund_id AND state = 'submitted'
""")


async def settle_refund(conn: Connection, refund_id: str, seen: ProviderRefund) -> None:
    """Books what the provider says of a refund: from the answer, a callback or a query alike. Repetitions change nothing."""
    circle, charge, refund = await lock_refund(conn, refund_id)
    now = await database_now(conn)
    if refund.state != "submitted" or seen.amount != refund.amount:
        return
    if seen.state is DebitState.PENDING:
        await REFUND_UNKNOWN.run(conn, refund_id=refund_id, now=now)
        return
    succeeded = seen.state is DebitState.SUCCEEDED
    code = seen.failure.code if seen.failure else None
    await FINISH_REFUND.run(
        conn,
        refund_id=refund_id,
        to="succeeded" if succeeded else "failed",
        provider_ref=seen.provider_ref,
        failure_code=code,
        now=now,
    )
    body = {"charge_id": charge.id, "amount_minor": refund.amount_minor, "failure_code": code}
    events = [Event("refund.succeeded" if succeeded else "refund.failed", refund.id, body)]
    about = entry.About(circle_id=circle.id, charge_id=charge.id, refund_id=refund.id)
    if succeeded:
        paid = entry.refund_paid(
            about, payer_id=refund.payer_id, provider_account_id=refund.provider_account_id, amount=refund.amount
        )
        events.append(await post(conn, paid, now=now))
    elif refund.reason != "surplus":  # A surplus was never the merchant's, and never freed a limit.
        events += await _take_back(conn, circle, charge, refund, about, now=now)
    else:
        await unroll(conn, charge, now=now)
    await record(conn, circle.id, *events, now=now)
    topic = "refund.succeeded" if succeeded else "refund.failed"
    await enqueue(conn, topic, lane=circle.id, subject_id=refund.id, body={"charge_id": charge.id}, now=now)


async def _take_back(
    conn: Connection, circle: LockedCircle, charge: Charge, refund: Refund, about: entry.About, *, now: datetime
) -> list[Event]:
    """A refund that the provider definitively refused: the merchant keeps the money, the limit counts it again."""
    before = charge.taken
    charge.refunded_minor -= refund.amount_minor
    await change_usage(conn, charge, before=before, after=charge.taken)
    undone = entry.refund_undone(about, payer_id=refund.payer_id, merchant_id=charge.merchant_id, amount=refund.amount)
    return [
        await rewrite_charge(conn, charge, "refund_failed", now=now, amount_minor=refund.amount_minor),
        await post(conn, undone, now=now),
    ]
