"""Summing up days that are over, so that a statement takes the same time whatever the history.

A day is summed up once every charge decided on it has ended; whatever changes one of them later takes the sums away
(`charges.rolled.unroll`), and the circle comes round again.
"""

from __future__ import annotations

from typing import Final

from kinpay.charges.rolled import ROLLED_AFTER
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection, Sql
from kinpay.people.lock import lock_circle
from kinpay.primitives.apart import apart
from kinpay.primitives.clock import local_date
from kinpay.statements.kept import write_paid, write_unpaid
from kinpay.statements.statement import preceding
from kinpay.statements.store import days_of, eras_of
from kinpay.statements.sums import Day, sum_days

AT_ONCE: Final = 500
"""How many circles are summed up by one errand."""

BEHIND = Sql("""
    SELECT l.id FROM audit_lane l JOIN circle c ON c.id = l.id LEFT JOIN roll_mark m ON m.circle_id = l.id
    WHERE l.charge_seq > 0
      AND (m.circle_id IS NULL OR ((l.charge_seq > m.charge_seq OR m.open) AND m.looked_at < :since))
    ORDER BY l.id LIMIT :most
""")


async def roll_days(db: Database) -> int:
    """Sums up the days that are over of circles that have moved since; returns how many circles it looked at."""
    async with db.connection() as conn:
        now = await database_now(conn)
        found = [row["id"] for row in await BEHIND.rows(conn, since=now - ROLLED_AFTER, most=AT_ONCE)]
    for circle_id in found:
        await apart(_roll_circle(db, circle_id), circle_id)
    return len(found)


async def _roll_circle(db: Database, circle_id: str) -> None:
    async with db.transaction() as conn:
        await roll_circle(conn, circle_id)


LOOK = Sql("""
    SELECT d.day, EXISTS (SELECT 1 FROM rolled_day r WHERE r.circle_id = :circle_id AND r.day = d.day AND r.starts = d.starts
                                                       AND r.ends = d.ends) AS rolled,
           d.ends > :since OR EXISTS (SELECT 1 FROM charge c WHERE c.circle_id = :circle_id AND c.decided_at >= d.starts
                                      AND c.decided_at < d.ends AND c.state IN ('asking', 'held', 'due', 'submitted')) AS open
    FROM unnest(:days::date[], :starts::timestamptz[], :ends::timestamptz[]) AS d (day, starts, ends)
    WHERE EXISTS (SELECT 1 FROM charge c WHERE c.circle_id = :circle_id AND c.decided_at >= d.starts AND c.decided_at < d.ends)
""")
KEEP = Sql("""
    INSERT INTO rolled_day (circle_id, day, starts, ends, paid, unpaid)
    VALUES (:circle_id, :day, :starts, :ends, :paid, :unpaid)
    ON CONFLICT (circle_id, day) DO UPDATE
    SET starts = excluded.starts, ends = excluded.ends, paid = excluded.paid, unpaid = excluded.unpaid
""")
MARK = Sql("""
    INSERT INTO roll_mark (circle_id, charge_seq, open, looked_at) VALUES (:circle_id, :charge_seq, :open, :now)
    ON CONFLICT (circle_id) DO UPDATE
    SET charge_seq = excluded.charge_seq, open = excluded.open, looked_at = excluded.looked_at
""")


async def roll_circle(conn: Connection, circle_id: str) -> int:
    """Sums up this month's and last month's days of a circle that are over and have not been; returns how many.

    Raises: NotFound if there is no such circle.
    """
    circle = await lock_circle(conn, circle_id)
    now = await database_now(conn)
    eras = await eras_of(conn, circle_id, time_zone=circle.time_zone)
    this_month = local_date(now, circle.time_zone).replace(day=1)
    days = {
        day.day: day for first in (preceding(this_month), this_month) for day in days_of(first, eras) if day.starts < day.ends
    }
    looked = await LOOK.rows(
        conn,
        circle_id=circle_id,
        since=now - ROLLED_AFTER,
        days=list(days),
        starts=[day.starts for day in days.values()],
        ends=[day.ends for day in days.values()],
    )
    ready = [days[row["day"]] for row in looked if not row["rolled"] and not row["open"]]
    for day in ready:
        await _keep(conn, circle_id, day)
    left_over = any(row["open"] for row in looked)
    await MARK.run(conn, circle_id=circle_id, charge_seq=circle.charge_seq, open=left_over, now=now)
    return len(ready)


async def _keep(conn: Connection, circle_id: str, day: Day) -> None:
    rows = await sum_days(conn, circle_id, [day])
    await KEEP.run(
        conn,
        circle_id=circle_id,
        day=day.day,
        starts=day.starts,
        ends=day.ends,
        paid=write_paid(rows.paid),
        unpaid=write_unpaid(rows.unpaid),
    )
