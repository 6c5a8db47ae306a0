"""The end of a day: what is due is frozen into one itemised debit per payer and agreement, sent, and tried again if refused.

The charges of a debit are fixed before its first byte leaves and never cut anew; a provider's cap splits it.
Source: semantics.md "Charge" (daily debit); claim 5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from itertools import groupby
from typing import Any, Final

from kinpay.charges.books import move_charge, write_debit
from kinpay.charges.charge import ChargeEvent
from kinpay.charges.next_agreement import next_agreements
from kinpay.charges.request import Charge
from kinpay.charges.store import CHARGE_COLUMNS, charge_of
from kinpay.charges.submit import send_debit
from kinpay.database.audit import Event, record
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection, Sql
from kinpay.ledger import entry
from kinpay.ledger.post import post
from kinpay.people.lock import lock_circle
from kinpay.primitives.apart import apart
from kinpay.primitives.money import Money
from kinpay.providers.contract import Adapters

AT_ONCE: Final = 200
"""How many circles one errand looks at."""

DUE_CIRCLES = Sql("""
    SELECT DISTINCT c.circle_id FROM charge c JOIN operator o ON o.id = c.operator_id
    WHERE c.state = 'due' AND c.due_on < (kinpay_now() AT TIME ZONE o.time_zone)::date
    ORDER BY c.circle_id LIMIT :most
""")


async def close_days(db: Database, adapters: Adapters) -> int:
    """Debits what was due on days that are over; returns how many circles it looked at."""
    async with db.connection() as conn:
        found = [row["circle_id"] for row in await DUE_CIRCLES.rows(conn, most=AT_ONCE)]
    for circle_id in found:
        await apart(_close_circle(db, adapters, circle_id), circle_id)
    return len(found)


async def _close_circle(db: Database, adapters: Adapters, circle_id: str) -> None:
    async with db.transaction() as conn:
        debit_ids = await freeze_due(conn, circle_id)
    for debit_id in debit_ids:
        await apart(send_debit(db, adapters, debit_id), debit_id)


async def debit_the_last(db: Database, adapters: Adapters, agreement_id: str) -> None:
    """Debits what is still due under an agreement that is about to end at its provider: afterwards it would be refused.

    Raises: what `freeze_due` raises.
    """
    async with db.transaction() as conn:
        circle_id = await CIRCLE_OF.value(conn, agreement_id=agreement_id)
        debit_ids = await freeze_due(conn, circle_id, ending_id=agreement_id) if circle_id else []
    for debit_id in debit_ids:
        await send_debit(db, adapters, debit_id)


CIRCLE_OF = Sql("SELECT circle_id FROM agreement WHERE id = :agreement_id")
DUE = Sql(f"""
    SELECT {CHARGE_COLUMNS} FROM charge
    WHERE circle_id = :circle_id AND state = 'due'
      AND (due_on < (SELECT (:now::timestamptz AT TIME ZONE time_zone)::date FROM operator WHERE id = :operator_id)
           OR agreement_id = :ending_id)
    ORDER BY agreement_id, due_on, decided_at, id FOR UPDATE
""")
CAPS = Sql("SELECT id, per_debit_minor FROM agreement WHERE id = ANY(:ids)")


async def freeze_due(conn: Connection, circle_id: str, *, ending_id: str | None = None) -> list[str]:
    """Writes the debits of a circle's days that are over (and of all days for the agreement `ending_id`); returns their ids.

    Raises: NotFound if there is no such circle.
    """
    circle = await lock_circle(conn, circle_id)
    now = await database_now(conn)
    rows = await DUE.rows(conn, circle_id=circle_id, operator_id=circle.operator_id, ending_id=ending_id, now=now)
    due = [charge_of(row) for row in rows]
    caps = {row["id"]: row["per_debit_minor"] for row in await CAPS.rows(conn, ids=sorted({c.agreement_id for c in due}))}
    made: list[str] = []
    for (agreement_id, day), charges in groupby(due, key=lambda charge: (charge.agreement_id, charge.due_on)):
        for part in pack(charges, caps[agreement_id]):
            made.append(await freeze(conn, part, day=day, now=now))
    return made


def pack(charges: Iterable[Charge], cap_minor: int | None) -> Iterator[list[Charge]]:
    """Cuts a day into debits none of which is above the provider's cap; the charges stay in their order. Pure.

    No single charge is above it: that was decided before anything was handed over, and `next_agreements` chooses so, too.
    """
    part: list[Charge] = []
    for charge in charges:
        if part and cap_minor is not None and sum(one.debited_minor for one in part) + charge.debited_minor > cap_minor:
            yield part
            part = []
        part.append(charge)
    if part:
        yield part


async def freeze(conn: Connection, charges: Sequence[Charge], *, day: date | None, now: datetime) -> str:
    """DUE → SUBMITTED of these charges, with their one debit and the capture of each in the books."""
    events = [event for charge in charges for event in await submit_due(conn, charge, now=now)]
    debit_id, sent = await write_debit(conn, charges, kind="daily", day=day, now=now)
    await record(conn, charges[0].circle_id, *events, sent, now=now)
    return debit_id


async def submit_due(conn: Connection, charge: Charge, *, now: datetime, **detail: Any) -> list[Event]:
    """DUE → SUBMITTED with its capture in the books: from now on a debit takes it. Returns the audit events to record."""
    about = entry.About(circle_id=charge.circle_id, charge_id=charge.id)
    amount = Money(charge.debited_minor, charge.currency)
    captured = entry.capture(about, payer_id=charge.payer_id or "", merchant_id=charge.merchant_id, amount=amount)
    return [await move_charge(conn, charge, ChargeEvent.SUBMIT, now=now, **detail), await post(conn, captured, now=now)]


OWED_DAYS = Sql("""
    SELECT DISTINCT circle_id, payer_id, due_on FROM charge
    WHERE retry_at <= kinpay_now() AND state = 'arrears' AND due_on IS NOT NULL LIMIT :most
""")


async def retry_days(db: Database, adapters: Adapters) -> int:
    """Tries again, as one debit each, the days that are owed and whose time has come; returns how many."""
    async with db.connection() as conn:
        owed = await OWED_DAYS.rows(conn, most=AT_ONCE)
    for row in owed:
        await apart(_retry_day(db, adapters, row["circle_id"], row["payer_id"], row["due_on"]), row["circle_id"])
    return len(owed)


async def _retry_day(db: Database, adapters: Adapters, circle_id: str, payer_id: str, day: date) -> None:
    async with db.transaction() as conn:
        debit_ids = await _freeze_owed(conn, circle_id, payer_id=payer_id, day=day)
    for debit_id in debit_ids:
        await apart(send_debit(db, adapters, debit_id), debit_id)


OWED = Sql(f"""
    SELECT {CHARGE_COLUMNS} FROM charge
    WHERE circle_id = :circle_id AND payer_id = :payer_id AND due_on = :day AND state = 'arrears' AND retry_at <= :now
    ORDER BY decided_at, id FOR UPDATE
""")
PUT_OFF = Sql("UPDATE charge SET retry_at = :now::timestamptz + interval '1 day' WHERE id = ANY(:ids) AND state = 'arrears'")


async def _freeze_owed(conn: Connection, circle_id: str, *, payer_id: str, day: date) -> list[str]:
    """ARREARS → SUBMITTED, each on the next of the agreements that can carry it; what has none is put off by a day."""
    circle = await lock_circle(conn, circle_id)
    now = await database_now(conn)
    owed = [charge_of(row) for row in await OWED.rows(conn, circle_id=circle_id, payer_id=payer_id, day=day, now=now)]
    following = await next_agreements(conn, circle_id, [charge.id for charge in owed])
    await PUT_OFF.run(conn, ids=[charge.id for charge in owed if charge.id not in following], now=now)
    made: list[str] = []
    ready = sorted((charge for charge in owed if charge.id in following), key=lambda charge: following[charge.id].agreement_id)
    for following_one, charges in groupby(ready, key=lambda charge: following[charge.id]):
        for part in pack(charges, following_one.per_debit_minor):
            for charge in part:
                charge.agreement_id = following_one.agreement_id
            events = [await move_charge(conn, charge, ChargeEvent.RETRY, now=now) for charge in part]
            debit_id, sent = await write_debit(conn, part, kind="arrears", day=day, now=now)
            await record(conn, circle.id, *events, sent, now=now)
            made.append(debit_id)
    return made
