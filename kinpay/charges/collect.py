"""Collecting what is debited with its day: delivered now, owed by tonight; and what costs nothing at all.

Source: semantics.md "Charge" (daily debit: the day ends in the operator's zone); claim 5 (settlement rule).
"""

from __future__ import annotations

from datetime import date, datetime

from kinpay.charges.books import move_charge, rewrite_charge
from kinpay.charges.charge import ChargeEvent
from kinpay.charges.request import Charge
from kinpay.charges.usage import change_usage
from kinpay.database.audit import record
from kinpay.database.outbox import enqueue
from kinpay.database.sql import Connection, Sql
from kinpay.people.lock import LockedCircle
from kinpay.primitives.errors import Invalid

TODAY = Sql("SELECT (:now::timestamptz AT TIME ZONE time_zone)::date FROM operator WHERE id = :operator_id")


async def collect(
    conn: Connection, circle: LockedCircle, charge: Charge, *, wanted_minor: int, actor_id: str, now: datetime
) -> None:
    """HELD → DUE, for `wanted_minor` of what was authorised: it is handed over, and nobody is debited before the day ends."""
    held = charge.taken
    day: date = await TODAY.value(conn, operator_id=circle.operator_id, now=now)
    charge.captured_minor, charge.delivered, charge.due_on = wanted_minor, True, day
    if charge.taken != held:
        await change_usage(conn, charge, before=held, after=charge.taken)
    moved = await move_charge(conn, charge, ChargeEvent.COLLECT, now=now, actor_id=actor_id, due_on=day.isoformat())
    await record(conn, circle.id, moved, now=now)
    await enqueue(conn, "charge.due", lane=circle.id, subject_id=charge.id, body={"day": day.isoformat()}, now=now)


async def give_for_nothing(conn: Connection, circle: LockedCircle, charge: Charge, *, actor_id: str, now: datetime) -> None:
    """HELD → SUCCEEDED of a ride that costs nothing: there is nothing to debit, and nothing to book."""
    charge.captured_minor, charge.delivered = 0, True
    moved = await move_charge(conn, charge, ChargeEvent.SUCCEED, now=now, actor_id=actor_id)
    await record(conn, circle.id, moved, now=now)
    await enqueue(conn, "charge.succeeded", lane=circle.id, subject_id=charge.id, body={"late": False}, now=now)


async def reduce_due(
    conn: Connection, circle: LockedCircle, charge: Charge, *, amount_minor: int, actor_id: str, now: datetime
) -> None:
    """Takes `amount_minor` off what the day will debit; if that is all of it, the charge is voided. No money goes back.

    Raises: Invalid for more than is due.
    """
    left = charge.debited_minor - amount_minor
    if left < 0:
        raise Invalid("refund_above_captured", field="amount_minor", left_minor=charge.debited_minor)
    before = charge.taken
    if left == 0:
        await change_usage(conn, charge, before=before, after=None)
        event = await move_charge(conn, charge, ChargeEvent.VOID, now=now, actor_id=actor_id, reason="given_back")
        topic, body = "charge.voided", {"reason": "given_back"}
    else:
        charge.captured_minor = left
        await change_usage(conn, charge, before=before, after=charge.taken)
        event = await rewrite_charge(conn, charge, "reduced", now=now, actor_id=actor_id, amount_minor=amount_minor)
        topic, body = "charge.due", {}
    await record(conn, circle.id, event, now=now)
    await enqueue(conn, topic, lane=circle.id, subject_id=charge.id, body={**body, "actor_id": actor_id}, now=now)
