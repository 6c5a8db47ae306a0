"""The daily debits of a circle, each with the charges it is made of: who sees which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from kinpay.charges.history import ROLES
from kinpay.database.sql import Connection, Sql
from kinpay.primitives.errors import NotFound

_LOOKING_ROLES = frozenset({"payer", "approver", "viewer"})


@dataclass(frozen=True, slots=True, kw_only=True)
class DayCharge:
    """One charge of a day's debit; amounts in minor units. `fare_minor`: what a ride would have cost by itself."""

    charge_id: str
    decided_at: datetime
    spender_id: str
    merchant_id: str
    merchant_name: str
    amount_minor: int
    fare_minor: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DayDebit:
    """One try to debit a day, whole or a part below the provider's cap."""

    id: str
    day: date
    kind: str
    payer_id: str
    agreement_id: str
    currency: str
    amount_minor: int
    state: str
    created_at: datetime
    finished_at: datetime | None
    charges: tuple[DayCharge, ...]


DEBITS = Sql("""
    SELECT d.id, d.day, d.kind, d.payer_id, d.agreement_id, d.currency, d.amount_minor, d.state, d.created_at, d.finished_at
    FROM debit d
    WHERE d.circle_id = :circle_id AND d.day IS NOT NULL AND (:payer_id::uuid IS NULL OR d.payer_id = :payer_id)
      AND (:after::uuid IS NULL OR (d.created_at, d.id) < (SELECT created_at, id FROM debit WHERE id = :after))
    ORDER BY d.created_at DESC, d.id DESC LIMIT :limit
""")
CHARGES = Sql("""
    SELECT cd.debit_id, c.id AS charge_id, c.decided_at, c.spender_id, c.merchant_id, m.name AS merchant_name,
           cd.amount_minor, c.fare_minor
    FROM charge_debit cd JOIN charge c ON c.id = cd.charge_id AND c.circle_id = cd.circle_id
    JOIN merchant m ON m.id = c.merchant_id
    WHERE cd.debit_id = ANY(:ids) ORDER BY c.decided_at, c.id
""")


async def days_of_circle(
    conn: Connection, circle_id: str, person_id: str, *, after: str | None, limit: int
) -> Sequence[DayDebit]:
    """A page of a circle's daily debits, newest first, for its payers, approvers and viewers.

    Raises: NotFound for everybody else, a spender among them: they see their charges.
    """
    roles = {row[0] for row in await ROLES.rows(conn, circle_id=circle_id, person_id=person_id)}
    if not roles & _LOOKING_ROLES:
        raise NotFound()
    debits = await DEBITS.rows(conn, circle_id=circle_id, payer_id=None, after=after, limit=limit)
    charges: dict[str, list[DayCharge]] = {row["id"]: [] for row in debits}
    for row in await CHARGES.rows(conn, ids=list(charges)):
        values = {**row}
        charges[values.pop("debit_id")].append(DayCharge(**values))
    return [DayDebit(**row, charges=tuple(charges[row["id"]])) for row in debits]
