"""What a provider says of a debit becomes what our books say: one function for the answer, the callback and the query.

Source: semantics.md "Charge" (fallback, arrears, late truth); reliability.md §1c, F09-F11.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from kinpay.charges.books import (
    Debit,
    finish_debit,
    lock_debit,
    move_charge,
    write_debit,
)
from kinpay.charges.charge import ChargeEvent, ChargeState
from kinpay.charges.debit import DebitStatus
from kinpay.charges.decide import Approve, decide
from kinpay.charges.refund import Why, give_back, return_surplus
from kinpay.charges.request import Charge
from kinpay.charges.rules import CircleRow, read_standings
from kinpay.charges.standing import CircleStanding, Moment
from kinpay.charges.usage import change_usage, count_late, read_usage, take_usage
from kinpay.database.audit import Event, record
from kinpay.database.outbox import enqueue
from kinpay.database.pool import database_now
from kinpay.database.sql import Connection, Sql
from kinpay.ledger import entry
from kinpay.ledger.post import post
from kinpay.people.lock import LockedCircle, rules_changed
from kinpay.primitives.money import Money
from kinpay.providers.contract import DebitState, Failure, FailureCause, ProviderDebit

log = logging.getLogger(__name__)

RETRY_AFTER: Final = (timedelta(hours=1), timedelta(hours=6), timedelta(days=1), timedelta(days=3), timedelta(days=7))
"""When what is owed is tried again: after the first, second … refusal; the last interval repeats."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a debit came to. `known` False: not known yet. `next_debit_id`: a fallback was committed and is to be sent."""

    known: bool
    next_debit_id: str | None = None


async def settle_debit(conn: Connection, debit_id: str, seen: ProviderDebit) -> Settlement:
    """Books what the provider says, under the circle's lock; repetitions and what lags behind change nothing.

    Raises: NotFound for a debit that is not ours.
    """
    circle, charges, debit = await lock_debit(conn, debit_id)
    now = await database_now(conn)
    if seen.amount != debit.amount:
        log.error("provider tells another amount", extra={"debit_id": debit_id})
        return Settlement(known=False)
    if seen.state is DebitState.PENDING:
        await PENDING.run(conn, debit_id=debit_id, provider_ref=seen.provider_ref, now=now)
        return Settlement(known=False)
    if seen.state is DebitState.SUCCEEDED and debit.state is not DebitStatus.SUCCEEDED:
        await _succeeded(conn, circle, charges, debit, seen, now=now)
    elif seen.state is DebitState.FAILED and debit.state is DebitStatus.SUBMITTED:
        failure = seen.failure or Failure(cause=FailureCause.OTHER, code="unspecified")
        return await _failed(conn, circle, charges, debit, seen, failure, now=now)
    return Settlement(known=True)


PENDING = Sql("""
    UPDATE debit
    SET provider_ref = coalesce(:provider_ref, provider_ref), unknown = true, attempts = attempts + 1,
        next_check_at = :now::timestamptz + make_interval(secs => least(300, 3 * 2 ^ least(attempts, 7)))
    WHERE id = :debit_id AND state = 'submitted'
""")


async def _succeeded(
    conn: Connection, circle: LockedCircle, charges: Sequence[Charge], debit: Debit, seen: ProviderDebit, *, now: datetime
) -> None:
    """The payer was debited: on time, late, or once too often; for one charge, or for all of a day."""
    late = debit.state is DebitStatus.FAILED
    finished = await finish_debit(conn, debit, DebitStatus.SUCCEEDED, now=now, provider_ref=seen.provider_ref, late=late)
    await record(conn, circle.id, finished, await _book_debit(conn, debit, now=now), now=now)
    for charge in charges:
        await _charge_debited(conn, circle, charge, debit, late=late, now=now)
    if debit.day is not None:
        await tell_of_day(conn, circle, debit, "daily_debited", count=len(charges), now=now)


async def _charge_debited(
    conn: Connection, circle: LockedCircle, charge: Charge, debit: Debit, *, late: bool, now: datetime
) -> None:
    """A charge's part of a debit that succeeded.

    Late money of a payer whom a fallback replaced goes back to them: the charge, its limits and its statement are another's.
    """
    before = charge.state
    replaced = debit.payer_id != charge.payer_id
    if before is ChargeState.SUCCEEDED or replaced:
        _, surplus = await return_surplus(conn, charge, debit.id, now=now)
        await record(conn, circle.id, surplus, now=now)
        if replaced:
            log.warning("late debit of a replaced payer goes back", extra={"charge_id": charge.id, "debit_id": debit.id})
            return
        await enqueue(conn, "charge.debited_twice", lane=circle.id, subject_id=charge.id, now=now)
        return
    if before in (ChargeState.DECLINED, ChargeState.VOIDED):
        await count_late(conn, circle, charge, now=now)
    events = []
    if before is not ChargeState.ARREARS and charge.owed_since is None and charge.due_on is None:
        events.append(await _book_capture(conn, charge, debit, now=now))
    charge.late, charge.agreement_id = charge.late or late, debit.agreement_id
    was_owed, charge.owed_since = charge.owed_since is not None, None
    event = ChargeEvent.SUCCEED if before is ChargeState.SUBMITTED else ChargeEvent.LATE_SUCCESS
    events.append(await move_charge(conn, charge, event, now=now, debit_id=debit.id))
    if was_owed:
        await rules_changed(conn, circle.id)
    await record(conn, circle.id, *events, now=now)
    body = {"late": late, "daily": debit.day is not None}
    await enqueue(conn, "charge.succeeded", lane=circle.id, subject_id=charge.id, body=body, now=now)
    if charge.void_requested or before in (ChargeState.DECLINED, ChargeState.VOIDED):
        why: Why = "void" if charge.void_requested else "late"
        await give_back(conn, circle, charge, amount_minor=charge.debited_minor, why=why, actor_id=None, now=now)


async def tell_of_day(
    conn: Connection, circle: LockedCircle, debit: Debit, kind: str, *, count: int, now: datetime, **more: Any
) -> None:
    """Tells the payer of a day's debit as a whole."""
    body = {
        "people": [debit.payer_id],
        "circle_id": circle.id,
        "circle_name": circle.name,
        "debit_id": debit.id,
        "day": debit.day.isoformat() if debit.day else None,
        "count": count,
        "captured_minor": debit.amount_minor,
        "currency": debit.currency,
        **more,
    }
    await enqueue(conn, f"notice.{kind}", lane=circle.id, subject_id=debit.id, body=body, now=now)


async def _book_debit(conn: Connection, debit: Debit, *, now: datetime) -> Event:
    about = entry.About(circle_id=debit.circle_id, charge_id=debit.charge_id, debit_id=debit.id)
    booked = entry.debit(about, payer_id=debit.payer_id, provider_account_id=debit.provider_account_id, amount=debit.amount)
    return await post(conn, booked, now=now)


async def _book_capture(conn: Connection, charge: Charge, debit: Debit, *, now: datetime) -> Event:
    about = entry.About(circle_id=charge.circle_id, charge_id=charge.id)
    amount = Money(charge.debited_minor, charge.currency)
    booked = entry.capture(about, payer_id=debit.payer_id, merchant_id=charge.merchant_id, amount=amount)
    return await post(conn, booked, now=now)


async def _failed(
    conn: Connection,
    circle: LockedCircle,
    charges: Sequence[Charge],
    debit: Debit,
    seen: ProviderDebit,
    failure: Failure,
    *,
    now: datetime,
) -> Settlement:
    """Definitively not debited: given up, fallen back, owed, or declined."""
    finished = await finish_debit(
        conn,
        debit,
        DebitStatus.FAILED,
        now=now,
        provider_ref=seen.provider_ref,
        failure_cause=failure.cause.value,
        failure_code=failure.code,
    )
    await record(conn, circle.id, finished, now=now)
    if debit.day is not None:
        await _owe_day(conn, circle, charges, debit, failure, now=now)
        return Settlement(known=True)
    (charge,) = charges
    if charge.state is not ChargeState.SUBMITTED:
        return Settlement(known=True)  # Another debit of this charge has decided it already.
    if charge.delivered:
        retry_at = await _owe(conn, circle, charge, debit, failure, now=now)
        body = {"failure_code": failure.code, "retry_at": retry_at.isoformat()}
        await enqueue(conn, "charge.owed", lane=circle.id, subject_id=charge.id, body=body, now=now)
        return Settlement(known=True)
    await change_usage(conn, charge, before=charge.taken, after=None)
    # What we closed ourselves (it never arrived, and the till has given up by now) is wanted of no other agreement either.
    if not charge.void_requested and failure.cause is not FailureCause.CLOSED:
        next_debit_id = await _fall_back(conn, circle, charge, failure, now=now)
        if next_debit_id is not None:
            return Settlement(known=True, next_debit_id=next_debit_id)
    event = ChargeEvent.VOID if charge.void_requested else ChargeEvent.DECLINE
    moved = await move_charge(conn, charge, event, now=now, failure_code=failure.code)
    await record(conn, circle.id, moved, now=now)
    body = {"failure_code": failure.code}
    await enqueue(conn, f"charge.{event.value}", lane=circle.id, subject_id=charge.id, body=body, now=now)
    return Settlement(known=True)


async def _owe_day(
    conn: Connection, circle: LockedCircle, charges: Sequence[Charge], debit: Debit, failure: Failure, *, now: datetime
) -> None:
    """A whole day is owed; the payer is told once, the merchants of each charge."""
    owed = [charge for charge in charges if charge.state is ChargeState.SUBMITTED]
    retries = [await _owe(conn, circle, charge, debit, failure, now=now) for charge in owed]
    for charge in owed:
        await enqueue(conn, "charge.owed", lane=circle.id, subject_id=charge.id, body={"daily": True}, now=now)
    if retries:
        more = {"retry_at": min(retries).isoformat(), "cause": failure.cause.value}
        await tell_of_day(conn, circle, debit, "daily_owed", count=len(owed), now=now, **more)


OWED_TIMES = Sql("SELECT count(*) FROM charge_debit WHERE charge_id = :charge_id")


async def _owe(
    conn: Connection, circle: LockedCircle, charge: Charge, debit: Debit, failure: Failure, *, now: datetime
) -> datetime:
    """Delivered and not paid: the payer owes it; the mandate is blocked until it is paid. Returns when it is tried again."""
    first = charge.owed_since is None and charge.due_on is None  # what is debited with its day is in the books already
    refused = await OWED_TIMES.value(conn, charge_id=charge.id)
    retry_at = now + RETRY_AFTER[min(refused, len(RETRY_AFTER)) - 1]
    charge.owed_since = charge.owed_since or now
    events = [await _book_capture(conn, charge, debit, now=now)] if first else []
    events.append(await move_charge(conn, charge, ChargeEvent.OWE, now=now, retry_at=retry_at, failure_code=failure.code))
    await record(conn, circle.id, *events, now=now)
    await rules_changed(conn, circle.id)
    return retry_at


SPENT = Sql("""
    SELECT DISTINCT d.agreement_id FROM charge_debit cd JOIN debit d ON d.id = cd.debit_id
    WHERE cd.charge_id = :charge_id AND d.state = 'failed'
""")


ZONE_CHANGED = Sql("SELECT EXISTS (SELECT 1 FROM circle_zone WHERE circle_id = :circle_id AND since > :decided_at)")


async def _fall_back(conn: Connection, circle: LockedCircle, charge: Charge, failure: Failure, *, now: datetime) -> str | None:
    """Decides afresh, without the agreements that were refused, and swaps the reservation; None if nothing is left.

    The reservation was given back just before. The moment judged is the charge's own, so that its windows stay its own; if the
    circle's zone has changed since, those windows are no longer what limits are judged by, and nothing is decided again.
    """
    if await ZONE_CHANGED.value(conn, circle_id=circle.id, decided_at=charge.decided_at):
        return None
    standing = await _standing_now(conn, circle)
    moment = Moment(charge.decided_at, circle.time_zone)
    usage = await read_usage(conn, list(standing.counting(charge.spender_id, charge.credential_id)), moment)
    spent = frozenset(row[0] for row in await SPENT.rows(conn, charge_id=charge.id))
    order = msgspec.structs.replace(charge.order, amount_minor=charge.debited_minor)
    decision = decide(order, standing, usage, moment, spent_agreements=spent)
    if not isinstance(decision, Approve):
        return None
    await take_usage(conn, circle.id, decision.uses, order)
    charge.mandate_id, charge.mandate_version = decision.mandate.id, decision.mandate.version
    charge.agreement_id, charge.payer_id = decision.agreement.id, decision.mandate.payer_id
    moved = await move_charge(conn, charge, ChargeEvent.FALL_BACK, now=now, failure_code=failure.code)
    debit_id, sent = await write_debit(conn, [charge], kind="charge", now=now)
    await record(conn, circle.id, moved, sent, now=now)
    return debit_id


async def _standing_now(conn: Connection, circle: LockedCircle) -> CircleStanding:
    row = CircleRow(circle.id, circle.operator_id, circle.version, circle.time_zone, circle.state)
    return (await read_standings(conn, [row]))[0]
