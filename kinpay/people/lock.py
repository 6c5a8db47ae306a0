"""The circle's lock: whatever changes a circle's money or permissions holds its row. Several circles: in sorted order."""

from __future__ import annotations

from dataclasses import dataclass

from kinpay.database.sql import Connection, Sql
from kinpay.primitives.errors import NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedCircle:
    """A circle whose row is locked to the end of the transaction."""

    id: str
    operator_id: str
    name: str
    time_zone: str
    state: str
    version: int
    charge_seq: int


LOCK_CIRCLE = Sql("""
    SELECT c.id, c.operator_id, c.name, c.time_zone, c.state, c.version, l.charge_seq
    FROM circle c JOIN audit_lane l ON l.id = c.id WHERE c.id = :circle_id FOR UPDATE
""")


async def lock_circle(conn: Connection, circle_id: str) -> LockedCircle:
    """Waits for the circle and locks it. Raises: NotFound."""
    row = await LOCK_CIRCLE.row(conn, circle_id=circle_id)
    if row is None:
        raise NotFound()
    return LockedCircle(**row)


MOVE_VERSION = Sql("UPDATE circle SET version = version + 1 WHERE id = :circle_id")


async def rules_changed(conn: Connection, circle_id: str) -> None:
    """Moves the circle's version, so that every process reads its mandates, limits, agreements and members anew.

    Must be called, under the circle's lock, by whatever changes one of them.
    """
    await MOVE_VERSION.run(conn, circle_id=circle_id)
