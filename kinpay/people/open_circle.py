"""Opening a circle: whoever opens it pays in it."""

from __future__ import annotations

from typing import Final

from kinpay.database import audit
from kinpay.database.pool import database_now
from kinpay.database.sql import Connection, Sql
from kinpay.people import store
from kinpay.people.circle import Circle, Role
from kinpay.primitives.actor import Actor
from kinpay.primitives.clock import zone
from kinpay.primitives.errors import WrongState
from kinpay.primitives.ids import new_id

MOST_CIRCLES: Final = 50
"""How many circles one person may be a payer of; a bound on what one account can make us keep."""

COUNT_PAID = Sql("""
    SELECT count(*) FROM circle_member WHERE person_id = :person_id AND role = 'payer' AND ended_at IS NULL
""")
INSERT_CIRCLE = Sql("""
    WITH circle AS (
        INSERT INTO circle (id, operator_id, name, time_zone, state, created_at)
        VALUES (:id, :operator_id, :name, :time_zone, 'active', :now) RETURNING id)
    INSERT INTO circle_zone (circle_id, time_zone, since) SELECT id, :time_zone, :now FROM circle
""")


async def open_circle(conn: Connection, actor: Actor, *, name: str, time_zone: str) -> Circle:
    """Makes a circle at the asker's operator, in an IANA `time_zone`, with the asker as its first payer.

    Raises: Invalid for a zone that does not exist; WrongState for somebody who pays in too many circles already.
    """
    zone(time_zone)
    now = await database_now(conn)
    if await COUNT_PAID.value(conn, person_id=actor.id) >= MOST_CIRCLES:
        raise WrongState("person", state="too_many_circles", event="open_circle")
    circle_id = new_id()
    await INSERT_CIRCLE.run(conn, id=circle_id, operator_id=actor.operator_id, name=name, time_zone=time_zone, now=now)
    event = audit.Event("circle.opened", circle_id, {"time_zone": time_zone}, actor.id)
    await audit.record(conn, circle_id, event, now=now)
    await store.add_member(conn, circle_id, actor.id, Role.PAYER, now)
    circle = await store.circle_row(conn, circle_id)
    assert circle is not None
    return circle


async def look_at_circle(conn: Connection, actor: Actor, *, circle_id: str) -> Circle:
    """The circle as its members see it. Raises: NotFound for everybody else."""
    await store.require_member(conn, circle_id, actor.id)
    circle = await store.circle_row(conn, circle_id)
    assert circle is not None
    return circle
