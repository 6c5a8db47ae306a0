"""The rows of debits and refunds, and the moves of a charge: compare-and-set, each with its audit event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

from kinpay.charges.charge import CHARGE, ChargeEvent, ChargeState
from kinpay.charges.debit import DebitStatus
from kinpay.charges.description import Part, describe_day, describe_one
from kinpay.charges.request import Charge
from kinpay.charges.rolled import unroll
from kinpay.charges.store import CHARGE_COLUMNS, charge_of
from kinpay.database.audit import Event
from kinpay.database.sql import Connection, Sql
from kinpay.people.lock import LockedCircle, lock_circle
from kinpay.primitives.errors import Conflict, NotFound
from kinpay.primitives.ids import new_id
from kinpay.primitives.money import Money

FIRST_CHECK: Final = timedelta(seconds=20)
"""When the reconciler looks at a debit or refund whose sender may have died: longer than a provider call may take."""

WHERE_CHARGE = Sql("SELECT circle_id FROM charge WHERE id = :charge_id")
WHERE_DEBIT = Sql("SELECT circle_id FROM debit WHERE id = :debit_id")
WHERE_REFUND = Sql("SELECT circle_id FROM refund WHERE id = :refund_id")
READ_CHARGE = Sql(f"SELECT {CHARGE_COLUMNS} FROM charge WHERE id = :charge_id AND circle_id = :circle_id FOR UPDATE")


async def lock_charge(conn: Connection, charge_id: str) -> tuple[LockedCircle, Charge]:
    """Locks the charge's circle, then reads the charge. Raises: NotFound."""
    circle_id = await WHERE_CHARGE.value(conn, charge_id=charge_id)
    if circle_id is None:
        raise NotFound()
    circle = await lock_circle(conn, circle_id)
    return circle, await read_charge(conn, charge_id, circle_id)


async def read_charge(conn: Connection, charge_id: str, circle_id: str) -> Charge:
    """The charge, under its circle's lock. Raises: NotFound."""
    row = await READ_CHARGE.row(conn, charge_id=charge_id, circle_id=circle_id)
    if row is None:
        raise NotFound()
    return charge_of(row)


MOVE_CHARGE = Sql("""
    UPDATE charge
    SET state = :to, captured_minor = :captured_minor, refunded_minor = :refunded_minor, delivered = :delivered,
        void_requested = :void_requested, late = :late, mandate_id = :mandate_id, mandate_version = :mandate_version,
        agreement_id = :agreement_id, payer_id = :payer_id, owed_since = :owed_since, retry_at = :retry_at, due_on = :due_on,
        finished_at = CASE WHEN :to IN ('succeeded', 'voided', 'declined') THEN coalesce(finished_at, :now::timestamptz) END
    WHERE id = :id AND circle_id = :circle_id AND state = :from
""")


async def move_charge(
    conn: Connection,
    charge: Charge,
    event: ChargeEvent,
    *,
    now: datetime,
    retry_at: datetime | None = None,
    actor_id: str | None = None,
    **detail: Any,
) -> Event:
    """Moves the charge along its life cycle and writes its changed fields; returns the audit event to record.

    `actor_id`: whoever asked for it; None where it happens by itself.

    Raises: WrongState if the life cycle does not allow it; Conflict if somebody moved it meanwhile.
    """
    before = charge.state
    charge.state = CHARGE.after(before, event)
    await _write(conn, charge, before, now=now, retry_at=retry_at)
    body = {"from": before.value, "to": charge.state.value, **amounts(charge), **detail}
    return Event(f"charge.{event.value}", charge.id, body, actor_id)


async def rewrite_charge(
    conn: Connection, charge: Charge, kind: str, *, now: datetime, actor_id: str | None = None, **detail: Any
) -> Event:
    """Writes changed fields of a charge that stays in its state (a refund, a wish to void); returns the audit event."""
    await _write(conn, charge, charge.state, now=now, retry_at=None)
    return Event(f"charge.{kind}", charge.id, {**amounts(charge), **detail}, actor_id)


def amounts(charge: Charge) -> dict[str, Any]:
    """What of a charge may change, as the audit keeps it after every move."""
    return {
        "captured_minor": charge.captured_minor,
        "refunded_minor": charge.refunded_minor,
        "mandate_id": charge.mandate_id,
        "mandate_version": charge.mandate_version,
        "agreement_id": charge.agreement_id,
        "payer_id": charge.payer_id,
        "delivered": charge.delivered,
        "void_requested": charge.void_requested,
        "late": charge.late,
    }


async def _write(conn: Connection, charge: Charge, before: ChargeState, *, now: datetime, retry_at: datetime | None) -> None:
    touched = await MOVE_CHARGE.run(
        conn,
        id=charge.id,
        circle_id=charge.circle_id,
        **{"from": before.value, "to": charge.state.value},
        captured_minor=charge.captured_minor,
        refunded_minor=charge.refunded_minor,
        delivered=charge.delivered,
        void_requested=charge.void_requested,
        late=charge.late,
        mandate_id=charge.mandate_id,
        mandate_version=charge.mandate_version,
        agreement_id=charge.agreement_id,
        payer_id=charge.payer_id,
        owed_since=charge.owed_since,
        retry_at=retry_at,
        due_on=charge.due_on,
        now=now,
    )
    if touched != 1:
        raise Conflict(thing="charge")
    await unroll(conn, charge, now=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Debit:
    """A debit's row."""

    id: str
    circle_id: str
    payer_id: str
    agreement_id: str
    agreement_ref: str
    provider_account_id: str
    spender_ref: str | None
    currency: str
    amount_minor: int
    state: DebitStatus
    unknown: bool
    late: bool
    attempts: int
    created_at: datetime
    kind: str
    day: date | None
    terminal_id: str
    charge_ids: tuple[str, ...]

    @property
    def amount(self) -> Money:
        """What the payer is to be debited."""
        return Money(self.amount_minor, self.currency)

    @property
    def charge_id(self) -> str | None:
        """The one charge that it is for; None of a day's debit, which is for several."""
        return self.charge_ids[0] if self.day is None else None


PARTS = Sql("""
    SELECT cd.charge_id, c.terminal_id, c.spender_id, cd.amount_minor
    FROM charge_debit cd JOIN charge c ON c.id = cd.charge_id AND c.circle_id = cd.circle_id
    WHERE cd.debit_id = :debit_id
""")


async def description_of(conn: Connection, debit: Debit) -> str:
    """What the payer reads at the provider. From it, and from nothing else, a debit that our books lost is booked again."""
    if debit.day is None:
        return describe_one(debit.charge_ids[0], terminal_id=debit.terminal_id)
    return describe_day(debit.day, [Part(**row) for row in await PARTS.rows(conn, debit_id=debit.id)])


READ_DEBIT = Sql("""
    SELECT d.id, d.circle_id, d.payer_id, d.agreement_id, a.provider_ref AS agreement_ref, d.provider_account_id, d.spender_ref,
           d.currency, d.amount_minor, d.state, d.unknown, d.late, d.attempts, d.created_at, d.kind, d.day,
           (SELECT array_agg(cd.charge_id ORDER BY cd.charge_id) FROM charge_debit cd WHERE cd.debit_id = d.id) AS charge_ids,
           (SELECT c.terminal_id FROM charge_debit cd JOIN charge c ON c.id = cd.charge_id AND c.circle_id = cd.circle_id
            WHERE cd.debit_id = d.id ORDER BY cd.charge_id LIMIT 1) AS terminal_id
    FROM debit d JOIN agreement a ON a.id = d.agreement_id
    WHERE d.id = :debit_id
""")


async def read_debit(conn: Connection, debit_id: str) -> Debit:
    """The debit and which charges it is for. Raises: NotFound."""
    row = await READ_DEBIT.row(conn, debit_id=debit_id)
    if row is None:
        raise NotFound()
    return Debit(**{**dict(row), "state": DebitStatus(row["state"]), "charge_ids": tuple(row["charge_ids"])})


async def lock_debit(conn: Connection, debit_id: str) -> tuple[LockedCircle, list[Charge], Debit]:
    """Locks the debit's circle, then reads the debit and its charges. Raises: NotFound."""
    circle_id = await WHERE_DEBIT.value(conn, debit_id=debit_id)
    if circle_id is None:
        raise NotFound()
    circle = await lock_circle(conn, circle_id)
    debit = await read_debit(conn, debit_id)
    return circle, [await read_charge(conn, charge_id, circle_id) for charge_id in debit.charge_ids], debit


WRITE_DEBIT = Sql("""
    INSERT INTO debit (id, circle_id, operator_id, payer_id, agreement_id, provider_account_id, spender_ref, currency,
                       amount_minor, kind, day, state, created_at, next_check_at)
    SELECT :id, :circle_id, a.operator_id, a.payer_id, a.id, a.provider_account_id,
           (SELECT replace(s.spender_id::text, '-', '') FROM agreement_spender s
            WHERE s.agreement_id = a.id AND s.spender_id = :spender_id AND s.state = 'bound'),
           :currency, :amount_minor, :kind, :day, 'submitted', :now, :next_check_at
    FROM agreement a WHERE a.id = :agreement_id
""")
LINK_DEBIT = Sql("""
    INSERT INTO charge_debit (circle_id, charge_id, debit_id, amount_minor)
    SELECT :circle_id, n.charge_id, :debit_id, n.amount_minor
    FROM unnest(:charges::uuid[], :amounts::bigint[]) AS n (charge_id, amount_minor)
""")


async def write_debit(
    conn: Connection,
    charges: Sequence[Charge],
    *,
    kind: str,
    now: datetime,
    day: date | None = None,
    debit_id: str | None = None,
    agreement_id: str | None = None,
) -> tuple[str, Event]:
    """A new debit for the captured amounts on the charges' present agreement; committed before the first byte leaves.

    Several charges are one day's. The provider is told the spender if there is just one. `debit_id`, `agreement_id`: the key of
    one that the provider has already, where our books lost it, and whom it debited.
    """
    debit_id, first = debit_id or new_id(), charges[0]
    agreement_id = agreement_id or first.agreement_id
    amounts = {charge.id: charge.debited_minor for charge in charges}
    spenders = {charge.spender_id for charge in charges}
    await WRITE_DEBIT.run(
        conn,
        id=debit_id,
        circle_id=first.circle_id,
        spender_id=first.spender_id if len(spenders) == 1 else None,
        currency=first.currency,
        amount_minor=sum(amounts.values()),
        kind=kind,
        day=day,
        agreement_id=agreement_id,
        now=now,
        next_check_at=now + FIRST_CHECK,
    )
    await LINK_DEBIT.run(
        conn, circle_id=first.circle_id, charges=list(amounts), debit_id=debit_id, amounts=list(amounts.values())
    )
    about = {"charge_id": first.id} if day is None else {"charges": amounts, "day": day.isoformat()}
    body = {
        **about,
        "agreement_id": agreement_id,
        "amount_minor": sum(amounts.values()),
        "currency": first.currency,
        "kind": kind,
    }
    return debit_id, Event("debit.submitted", debit_id, body)


FINISH_DEBIT = Sql("""
    UPDATE debit
    SET state = :to, provider_ref = coalesce(:provider_ref, provider_ref), failure_cause = :failure_cause,
        failure_code = :failure_code, late = :late, finished_at = :now, next_check_at = NULL
    WHERE id = :id AND state = :from
""")


async def finish_debit(
    conn: Connection,
    debit: Debit,
    to: DebitStatus,
    *,
    now: datetime,
    provider_ref: str | None,
    failure_cause: str | None = None,
    failure_code: str | None = None,
    late: bool = False,
) -> Event:
    """Ends a debit, one way or the other; returns the audit event. Raises: Conflict."""
    touched = await FINISH_DEBIT.run(
        conn,
        id=debit.id,
        **{"from": debit.state.value, "to": to.value},
        provider_ref=provider_ref,
        failure_cause=failure_cause,
        failure_code=failure_code,
        late=late,
        now=now,
    )
    if touched != 1:
        raise Conflict(thing="debit")
    body = {"charge_id": debit.charge_id, "from": debit.state.value, "to": to.value, "amount_minor": debit.amount_minor}
    if failure_code:
        body["failure_code"] = failure_code
    return Event("debit.late_success" if late else f"debit.{to.value}", debit.id, body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """A refund's row, with what its debit says of where the money goes."""

    id: str
    circle_id: str
    charge_id: str
    debit_id: str
    payer_id: str
    provider_account_id: str
    currency: str
    amount_minor: int
    reason: str
    state: str
    attempts: int

    @property
    def amount(self) -> Money:
        """What goes back."""
        return Money(self.amount_minor, self.currency)


READ_REFUND = Sql("""
    SELECT r.id, r.circle_id, r.charge_id, r.debit_id, d.payer_id, d.provider_account_id, r.currency, r.amount_minor, r.reason,
           r.state, r.attempts
    FROM refund r JOIN debit d ON d.id = r.debit_id
    WHERE r.id = :refund_id
""")


async def read_refund(conn: Connection, refund_id: str) -> Refund:
    """The refund. Raises: NotFound."""
    row = await READ_REFUND.row(conn, refund_id=refund_id)
    if row is None:
        raise NotFound()
    return Refund(**dict(row))


async def lock_refund(conn: Connection, refund_id: str) -> tuple[LockedCircle, Charge, Refund]:
    """Locks the refund's circle, then reads the refund and its charge. Raises: NotFound."""
    circle_id = await WHERE_REFUND.value(conn, refund_id=refund_id)
    if circle_id is None:
        raise NotFound()
    circle = await lock_circle(conn, circle_id)
    refund = await read_refund(conn, refund_id)
    return circle, await read_charge(conn, refund.charge_id, circle_id), refund
