"""Changing a circle's time zone, which moves every window; no fresh room opens by it.

A window cut short ends at the moment of the change. The new window around now counts what history holds of it, and carries what
the old one had used beyond that.
Source: semantics.md "Limits" (windows follow the circle's zone; changing the zone never opens a fresh window).
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from kinpay.database import audit
from kinpay.database.pool import database_now
from kinpay.database.sql import Connection, Sql
from kinpay.mandates.change_terms import spend_proof
from kinpay.mandates.counters import FITTING, NET_MINOR, periods_of
from kinpay.mandates.tell import tell
from kinpay.people.lock import LockedCircle, rules_changed
from kinpay.people.store import lock_as_member, people_of
from kinpay.primitives.clock import zone
from kinpay.primitives.errors import Forbidden
from kinpay.primitives.period import window_around

CHANGE: Final = "circle.time_zone"
"""The operation that a proof for another zone names; its content is `{"time_zone": name}`."""

MOVE_ZONE = Sql("UPDATE circle SET time_zone = :time_zone WHERE id = :circle_id")
INSERT_ZONE = Sql("INSERT INTO circle_zone (circle_id, time_zone, since) VALUES (:circle_id, :time_zone, :now)")


async def change_time_zone(conn: Connection, *, circle_id: str, payer_id: str, time_zone: str, proof_id: str | None) -> None:
    """Puts an IANA zone in force for every window from now on; the same zone again is nothing. `proof_id` is burnt here.

    Raises: NotFound for a stranger; Forbidden for a member who does not pay; Invalid for an unknown zone; ProofRequired;
    ProofInvalid.
    """
    zone(time_zone)
    circle, roles = await lock_as_member(conn, circle_id, payer_id)
    if "payer" not in roles:
        raise Forbidden()
    if circle.time_zone == time_zone:
        return
    now = await database_now(conn)
    await spend_proof(conn, proof_id, needed=True, operation=CHANGE, now=now)
    await MOVE_ZONE.run(conn, circle_id=circle.id, time_zone=time_zone)
    await INSERT_ZONE.run(conn, circle_id=circle.id, time_zone=time_zone, now=now)
    for period in await periods_of(conn, circle.id):
        await _move_windows(conn, circle, period, time_zone=time_zone, now=now)
    await rules_changed(conn, circle.id)
    facts = {"from": circle.time_zone, "to": time_zone}
    body = {"circle_id": circle.id, "circle_name": circle.name, **facts}
    people = await people_of(conn, circle.id)
    await tell(conn, "time_zone_changed", circle_id=circle.id, subject_id=circle.id, people=people, body=body, now=now)
    event = audit.Event("circle.time_zone_changed", circle.id, {**facts, "proof": proof_id}, payer_id)
    await audit.record(conn, circle.id, event, now=now)


OPEN_WINDOWS = Sql(
    """
    WITH used AS (
        SELECT k.id, count(*)::integer AS count,
               sum("""
    + NET_MINOR
    + """)::bigint AS amount_minor
        FROM counter k JOIN charge ch ON ch.decided_at >= :new_start AND ch.decided_at < :new_end AND """
    + FITTING
    + """
        WHERE k.circle_id = :circle_id AND k.period = :period GROUP BY k.id),
    both_windows AS (
        SELECT k.id, coalesce(n.amount_minor, 0) AS amount_minor, coalesce(n.count, 0) AS count,
               coalesce(o.amount_minor + o.carried_minor, 0) AS old_minor, coalesce(o.count + o.carried_count, 0) AS old_count
        FROM counter k LEFT JOIN used n ON n.id = k.id
        LEFT JOIN usage o ON o.counter_id = k.id AND o.window_start = :old_start
        WHERE k.circle_id = :circle_id AND k.period = :period)
    INSERT INTO usage (circle_id, counter_id, window_start, window_end, amount_minor, count, carried_minor, carried_count)
    SELECT :circle_id, id, :new_start, :new_end, amount_minor, count, greatest(0, old_minor - amount_minor),
           greatest(0, old_count - count)
    FROM both_windows WHERE amount_minor > 0 OR count > 0 OR old_minor > 0 OR old_count > 0
    ON CONFLICT (counter_id, window_start) DO UPDATE
    SET window_end = excluded.window_end, amount_minor = excluded.amount_minor, count = excluded.count,
        carried_minor = excluded.carried_minor, carried_count = excluded.carried_count
"""
)
CUT_SHORT = Sql("""
    UPDATE usage u SET window_end = :now FROM counter k
    WHERE k.circle_id = :circle_id AND k.period = :period AND u.counter_id = k.id
      AND u.window_start = :old_start AND u.window_start < :now AND u.window_end > :now
""")


async def _move_windows(conn: Connection, circle: LockedCircle, period: str, *, time_zone: str, now: datetime) -> None:
    """Opens the new window around now for every counter of one period, and ends the old one. Some periods know no zone."""
    old, new = window_around(now, period, circle.time_zone), window_around(now, period, time_zone)
    if old == new:
        return
    named = {"circle_id": circle.id, "period": period, "old_start": old.start}
    await OPEN_WINDOWS.run(conn, **named, new_start=new.start, new_end=new.end)
    if old.start != new.start:
        await CUT_SHORT.run(conn, **named, now=now)
