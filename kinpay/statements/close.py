"""Closing a month: its figures become final, and the audit log vouches for them by their hash.

Some days after its end, so that what was reserved in its last minutes can still be captured in it (story S4.5). What happens to
its charges after that is told in the month in which it happens.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Final

from kinpay.database.audit import Event, record
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection, Record, Sql
from kinpay.mandates.tell import tell
from kinpay.people.lock import LockedCircle, lock_circle
from kinpay.people.store import people_of
from kinpay.primitives.apart import apart
from kinpay.statements.kept import rows_hash, write_late, write_paid, write_unpaid
from kinpay.statements.statement import month_around, time_zone_at
from kinpay.statements.store import Month, eras_of, month_rows
from kinpay.statements.sums import LOOKED_BACK

CLOSED_AFTER: Final = timedelta(days=3)
"""How long after its end a month is closed."""
AT_ONCE: Final = 200
"""How many circles are looked at by one errand."""

# When something that no closed month tells happened first, of circles of which that is old enough: a charge decided since their
# last closed month, or something late. What was late in a closed month is told there.
DUE = Sql("""
    SELECT c.id, oldest.at FROM circle c
    CROSS JOIN LATERAL (SELECT coalesce(max(m.ends), '-infinity') AS ends FROM statement_month m
                        WHERE m.circle_id = c.id) closed
    CROSS JOIN LATERAL (
        SELECT min(found.at) AS at FROM (
            (SELECT h.decided_at AS at FROM charge h WHERE h.circle_id = c.id AND h.decided_at >= closed.ends
             ORDER BY h.decided_at LIMIT 1)
            UNION ALL
            (SELECT d.finished_at FROM debit d
             WHERE d.circle_id = c.id AND d.state = 'succeeded' AND d.finished_at >= closed.ends
               AND EXISTS (SELECT FROM charge_debit cd JOIN charge h ON h.id = cd.charge_id AND h.circle_id = c.id
                           JOIN statement_month m ON m.circle_id = c.id AND h.decided_at >= m.starts AND h.decided_at < m.ends
                           WHERE cd.debit_id = d.id AND d.finished_at > m.closed_at)
             ORDER BY d.finished_at LIMIT 1)
            UNION ALL
            (SELECT r.at FROM (SELECT charge_id, created_at AS at FROM refund
                               WHERE circle_id = c.id AND created_at >= closed.ends
                               UNION ALL SELECT charge_id, finished_at FROM refund
                               WHERE circle_id = c.id AND state = 'failed' AND finished_at >= closed.ends) r
             JOIN charge h ON h.id = r.charge_id AND h.circle_id = c.id
             JOIN statement_month m ON m.circle_id = c.id AND h.decided_at >= m.starts AND h.decided_at < m.ends
             WHERE r.at > m.closed_at ORDER BY r.at LIMIT 1)
            UNION ALL
            (SELECT h.finished_at FROM charge h
             JOIN statement_month m ON m.circle_id = c.id AND h.decided_at >= m.starts AND h.decided_at < m.ends
             WHERE h.circle_id = c.id AND h.decided_at >= closed.ends - :looked_back::interval AND h.decided_at < closed.ends
               AND h.state IN ('declined', 'voided') AND h.finished_at >= closed.ends AND h.finished_at > m.closed_at
             ORDER BY h.finished_at LIMIT 1)
        ) found
    ) oldest
    WHERE c.id > :after AND oldest.at < :now::timestamptz - :grace::interval
      AND (:circle_id::uuid IS NULL OR c.id = :circle_id)
    ORDER BY c.id LIMIT :most
""")


async def close_months(db: Database) -> int:
    """Closes the oldest open month of every circle of which its time has come; returns how many were closed."""
    closed: list[str] = []
    after = "0" * 32
    while True:
        async with db.connection() as conn:
            found = [row["id"] for row in await _due(conn, after=after, now=await database_now(conn))]
        for circle_id in found:
            await apart(_close_oldest(db, circle_id, closed), circle_id)
        if len(found) < AT_ONCE:
            return len(closed)
        after = found[-1]


async def _due(conn: Connection, *, now: datetime, after: str = "0" * 32, circle_id: str | None = None) -> list[Record]:
    return await DUE.rows(
        conn, after=after, now=now, grace=CLOSED_AFTER, looked_back=LOOKED_BACK, circle_id=circle_id, most=AT_ONCE
    )


async def _close_oldest(db: Database, circle_id: str, closed: list[str]) -> None:
    async with db.transaction() as conn:
        circle = await lock_circle(conn, circle_id)
        now = await database_now(conn)
        oldest = [row["at"] for row in await _due(conn, now=now, circle_id=circle_id)]
        if not oldest:
            return
        eras = await eras_of(conn, circle_id, time_zone=circle.time_zone)
        first = month_around(oldest[0], eras)
        month = await month_rows(conn, circle_id, first, eras=eras)
        if month.closed_at is not None or month.span.end + CLOSED_AFTER > now:
            return
        await _keep(conn, circle, first, month, time_zone=time_zone_at(month.span.end, eras), now=now)
    closed.append(circle_id)


SAID = Sql("""
    SELECT m.id, m.name FROM (SELECT DISTINCT merchant_id FROM charge
                              WHERE circle_id = :circle_id AND decided_at >= :starts AND decided_at < :ends) c
    JOIN merchant m ON m.id = c.merchant_id
    UNION SELECT p.id, p.display_name FROM (SELECT DISTINCT unnest(ARRAY[spender_id, payer_id]) AS id FROM charge
                                            WHERE circle_id = :circle_id AND decided_at >= :starts AND decided_at < :ends) c
    JOIN person p ON p.id = c.id
    UNION SELECT id, name FROM merchant WHERE id = ANY(:others)
    UNION SELECT id, display_name FROM person WHERE id = ANY(:others)
""")
UNDECIDED = Sql("""
    SELECT id, state FROM charge
    WHERE circle_id = :circle_id AND decided_at >= :starts AND decided_at < :ends AND state NOT IN ('succeeded', 'refused')
""")
KEEP = Sql("""
    INSERT INTO statement_month (circle_id, month, starts, ends, closed_at, paid, unpaid, late, hash, time_zone, names, states)
    VALUES (:circle_id, :month, :starts, :ends, :now, :paid, :unpaid, :late, :hash, :time_zone, :names, :states)
""")
FORGET = Sql("DELETE FROM rolled_day WHERE circle_id = :circle_id AND starts >= :starts AND ends <= :ends")


async def _keep(
    conn: Connection, circle: LockedCircle, first: date, month: Month, *, time_zone: str, now: datetime
) -> None:  # fmt: skip
    name = f"{first:%Y-%m}"
    digest = rows_hash(name, month.rows)
    within = {"circle_id": circle.id, "starts": month.span.start, "ends": month.span.end}
    others = sorted({ident for row in month.rows.moved for ident in (row.spender_id, row.payer_id, row.merchant_id)})
    names = {row["id"]: row["name"] for row in await SAID.rows(conn, **within, others=others)}
    states = {row["id"]: row["state"] for row in await UNDECIDED.rows(conn, **within)}
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
        time_zone=time_zone,
        names=names | {circle.id: circle.name},
        states=states,
    )
    await FORGET.run(conn, **within)
    body = {"month": name, "hash": digest.hex(), "ends": month.span.end.isoformat()}
    await record(conn, circle.id, Event("statement.closed", circle.id, body), now=now)
    told = {"circle_id": circle.id, "circle_name": circle.name, "month": name}
    payers = await people_of(conn, circle.id, "payer")
    await tell(conn, "statement_closed", circle_id=circle.id, subject_id=circle.id, people=payers, body=told, now=now)
