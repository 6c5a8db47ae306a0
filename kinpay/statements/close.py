"""Closing a month: its figures become final, and the audit log vouches for them by their hash.

Some days after its end, so that what was reserved in its last minutes can still be captured in it (story S4.5). What happens to
its charges after that is told in the month in which it happens.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Final

from kinpay.database.audit import Event, record
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection, Sql
from kinpay.mandates.tell import tell
from kinpay.people.lock import LockedCircle, lock_circle
from kinpay.people.store import people_of
from kinpay.primitives.apart import apart
from kinpay.primitives.clock import local_date
from kinpay.primitives.errors import WrongState
from kinpay.statements.kept import rows_hash, write_late, write_paid, write_unpaid
from kinpay.statements.statement import following, read_month
from kinpay.statements.store import Month, eras_of, month_rows

CLOSED_AFTER: Final = timedelta(days=3)
"""How long after its end a month is closed."""
AT_ONCE: Final = 200
"""How many circles are looked at by one errand."""

# The oldest month with charges that is not closed: circles whose first charge after their last closed month is old enough.
DUE = Sql("""
    SELECT c.id FROM circle c
    CROSS JOIN LATERAL (SELECT coalesce(max(m.ends), '-infinity') AS ends FROM statement_month m
                        WHERE m.circle_id = c.id) closed
    CROSS JOIN LATERAL (SELECT decided_at FROM charge h WHERE h.circle_id = c.id AND h.decided_at >= closed.ends
                        ORDER BY h.decided_at LIMIT 1) oldest
    WHERE c.id > :after AND (oldest.decided_at AT TIME ZONE c.time_zone)::date
          < date_trunc('month', (:now::timestamptz - :grace::interval) AT TIME ZONE c.time_zone)::date
    ORDER BY c.id LIMIT :most
""")


async def close_months(db: Database) -> int:
    """Closes the oldest open month, if its time has come, of the circles that have one; returns how many circles."""
    async with db.connection() as conn:
        now = await database_now(conn)
        found = [row["id"] for row in await DUE.rows(conn, after="0" * 32, now=now, grace=CLOSED_AFTER, most=AT_ONCE)]
    for circle_id in found:
        await apart(_close_oldest(db, circle_id), circle_id)
    return len(found)


OLDEST = Sql("""
    SELECT h.decided_at FROM charge h
    WHERE h.circle_id = :circle_id
      AND h.decided_at >= coalesce((SELECT max(ends) FROM statement_month WHERE circle_id = :circle_id), '-infinity')
    ORDER BY h.decided_at LIMIT 1
""")


async def _close_oldest(db: Database, circle_id: str) -> None:
    async with db.transaction() as conn:
        circle = await lock_circle(conn, circle_id)
        oldest: datetime | None = await OLDEST.value(conn, circle_id=circle_id)
        if oldest is None:
            return
        eras = await eras_of(conn, circle_id, time_zone=circle.time_zone)
        first = local_date(oldest, circle.time_zone).replace(day=1)
        month = await month_rows(conn, circle_id, first, eras=eras)
        if month.span.end <= oldest:  # the wall was changed: the charge belongs to the month after
            first = following(first)
            month = await month_rows(conn, circle_id, first, eras=eras)
        if month.closed_at is None and month.span.end + CLOSED_AFTER <= await database_now(conn):
            await _keep(conn, circle, first, month)


async def close_month(conn: Connection, circle_id: str, month: str) -> str:
    """Closes `YYYY-MM` of a circle; returns the hash of its figures (64 hexadecimal digits). Closed before: the same hash.

    Raises: NotFound; Invalid for what is no month; WrongState for a month whose time has not come.
    """
    first = read_month(month)
    circle = await lock_circle(conn, circle_id)
    found = await month_rows(conn, circle_id, first, eras=await eras_of(conn, circle_id, time_zone=circle.time_zone))
    if found.hash is not None:
        return found.hash
    if found.span.end + CLOSED_AFTER > await database_now(conn):
        raise WrongState("statement", state="open", event="close")
    return (await _keep(conn, circle, first, found)).hex()


KEEP = Sql("""
    INSERT INTO statement_month (circle_id, month, starts, ends, closed_at, paid, unpaid, late, hash)
    VALUES (:circle_id, :month, :starts, :ends, :now, :paid, :unpaid, :late, :hash)
""")
FORGET = Sql("DELETE FROM rolled_day WHERE circle_id = :circle_id AND starts >= :starts AND ends <= :ends")


async def _keep(conn: Connection, circle: LockedCircle, first: date, month: Month) -> bytes:
    now, name = await database_now(conn), f"{first:%Y-%m}"
    digest = rows_hash(name, month.rows)
    await KEEP.run(
        conn,
        circle_id=circle.id,
        month=first,
        starts=month.span.start,
        ends=month.span.end,
        now=now,
        paid=write_paid(month.rows.paid),
        unpaid=write_unpaid(month.rows.unpaid),
        late=write_late(month.rows.late),
        hash=digest,
    )
    await FORGET.run(conn, circle_id=circle.id, starts=month.span.start, ends=month.span.end)
    body = {"month": name, "hash": digest.hex(), "ends": month.span.end.isoformat()}
    await record(conn, circle.id, Event("statement.closed", circle.id, body), now=now)
    told = {"circle_id": circle.id, "circle_name": circle.name, "month": name}
    payers = await people_of(conn, circle.id, "payer")
    await tell(conn, "statement_closed", circle_id=circle.id, subject_id=circle.id, people=payers, body=told, now=now)
    return digest
