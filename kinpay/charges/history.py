"""Who sees which charges of the past."""

from __future__ import annotations

from kinpay.charges.request import Charge
from kinpay.charges.store import CHARGE_COLUMNS, charge_of
from kinpay.database.audit import Event, record
from kinpay.database.pool import database_now
from kinpay.database.sql import Connection, Sql
from kinpay.primitives.errors import NotFound

ROLES = Sql("SELECT role FROM circle_member WHERE circle_id = :circle_id AND person_id = :person_id AND ended_at IS NULL")


async def may_see(conn: Connection, charge: Charge, person_id: str) -> bool:
    """Its spender, its payer, and the payers, approvers and viewers of its circle."""
    if person_id in (charge.spender_id, charge.payer_id):
        return True
    roles = {row[0] for row in await ROLES.rows(conn, circle_id=charge.circle_id, person_id=person_id)}
    return bool(roles & {"payer", "approver", "viewer"})


async def note_read(conn: Connection, charge: Charge, person_id: str) -> None:
    """Somebody of the staff, who is nobody to the family, looked at its charge: a link of the family's own chain.

    Source: threat A30 (reliability.md).
    """
    await record(conn, charge.circle_id, Event("staff.read", charge.id, {}, person_id), now=await database_now(conn))


# Each merchant's newest by its own index; a key of the operator merges those of its merchants.
MERCHANTS_PAGE = Sql(f"""
    SELECT c.* FROM merchant m CROSS JOIN LATERAL (
        SELECT {CHARGE_COLUMNS} FROM charge
        WHERE merchant_id = m.id AND (:after::uuid IS NULL OR id < :after) ORDER BY id DESC LIMIT :limit
    ) c
    WHERE m.operator_id = :operator_id AND (:merchant_id::uuid IS NULL OR m.id = :merchant_id)
    ORDER BY c.id DESC LIMIT :limit
""")


async def charges_of_merchant(
    conn: Connection, operator_id: str, *, merchant_id: str | None, after: str | None, limit: int
) -> list[Charge]:
    """A page of the charges of one of the operator's merchants (None: of all of them), newest first."""
    rows = await MERCHANTS_PAGE.rows(conn, operator_id=operator_id, merchant_id=merchant_id, after=after, limit=limit)
    return [charge_of(row) for row in rows]


PAGE = Sql(f"""
    SELECT {CHARGE_COLUMNS} FROM charge
    WHERE circle_id = :circle_id AND (:spender_id::uuid IS NULL OR spender_id = :spender_id)
      AND (:after::uuid IS NULL
           OR (decided_at, id) < (SELECT decided_at, id FROM charge WHERE id = :after AND circle_id = :circle_id))
    ORDER BY decided_at DESC, id DESC LIMIT :limit
""")


async def charges_of_circle(conn: Connection, circle_id: str, person_id: str, *, after: str | None, limit: int) -> list[Charge]:
    """A page of a circle's charges, newest first, as far as the person may see them. Raises: NotFound."""
    roles = {row[0] for row in await ROLES.rows(conn, circle_id=circle_id, person_id=person_id)}
    if not roles:
        raise NotFound()
    spender_id = None if roles & {"payer", "approver", "viewer"} else person_id
    rows = await PAGE.rows(conn, circle_id=circle_id, spender_id=spender_id, after=after, limit=limit)
    return [charge_of(row) for row in rows]
