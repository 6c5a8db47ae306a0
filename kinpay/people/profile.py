"""What people change about themselves."""

from __future__ import annotations

from kinpay.database import audit
from kinpay.database.pool import database_now
from kinpay.database.sql import Connection, Sql
from kinpay.people.person import Person
from kinpay.people.store import read_person
from kinpay.primitives.actor import Actor
from kinpay.primitives.errors import NotFound

CHANGE = Sql("""
    UPDATE person SET locale = coalesce(:locale, locale), display_name = coalesce(:display_name, display_name)
    WHERE id = :person_id AND state = 'active'
    RETURNING id, operator_id, account, display_name, locale, birth_date, assisted, state, created_at
""")


async def change_profile(conn: Connection, actor: Actor, *, locale: str | None, display_name: str | None) -> Person:
    """Changes the language, the shown name, or both; None leaves one as it is. Raises: NotFound for a closed account."""
    now = await database_now(conn)
    row = await CHANGE.row(conn, person_id=actor.id, locale=locale, display_name=display_name)
    if row is None:
        raise NotFound()
    changed = [name for name, value in (("display_name", display_name), ("locale", locale)) if value is not None]
    event = audit.Event("person.changed", actor.id, {"fields": changed}, actor.id)
    await audit.record(conn, actor.operator_id, event, now=now)
    return read_person(row)
