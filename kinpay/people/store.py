"""How people and circles are kept: the reads that several packages share, and the one way to add a member."""

from __future__ import annotations

from datetime import datetime

from kinpay.database import audit
from kinpay.database.sql import Connection, Record, Sql
from kinpay.people.circle import Circle, Member
from kinpay.people.lock import LockedCircle, lock_circle, rules_changed
from kinpay.people.person import Person, PersonState
from kinpay.primitives.errors import NotFound
from kinpay.primitives.fields import account_name


def read_person(row: Record) -> Person:
    """The person that a row with all of their columns describes."""
    return Person(**{**row, "state": PersonState(row["state"])})


PERSON = Sql("""
    SELECT id, operator_id, account, display_name, locale, birth_date, assisted, state, created_at
    FROM person WHERE id = :person_id
""")


async def person_row(conn: Connection, person_id: str) -> Person | None:
    """The person of that id, in whatever state, or None."""
    row = await PERSON.row(conn, person_id=person_id)
    return None if row is None else read_person(row)


BY_ACCOUNT = Sql("""
    SELECT id, operator_id, account, display_name, locale, birth_date, assisted, state, created_at
    FROM person WHERE operator_id = :operator_id AND account = :account
""")


async def find_by_account(conn: Connection, operator_id: str, account: str) -> Person | None:
    """The person with that account name at the operator, in whatever state, or None; the name is normalised here."""
    try:
        wanted = account_name(account)
    except ValueError:
        # Not a possible name, so nobody's; asked all the same, because every failure must take the same steps.
        wanted = ""
    row = await BY_ACCOUNT.row(conn, operator_id=operator_id, account=wanted)
    return None if row is None else read_person(row)


MEMBER_ROLES = Sql("""
    SELECT role FROM circle_member WHERE circle_id = :circle_id AND person_id = :person_id AND ended_at IS NULL
""")


async def member_roles(conn: Connection, circle_id: str, person_id: str) -> frozenset[str]:
    """The roles that a person has in a circle now; empty for a stranger and for a circle that is not there."""
    return frozenset(row["role"] for row in await MEMBER_ROLES.rows(conn, circle_id=circle_id, person_id=person_id))


PEOPLE_OF = Sql("""
    SELECT DISTINCT person_id FROM circle_member
    WHERE circle_id = :circle_id AND ended_at IS NULL AND (role = ANY(:roles) OR cardinality(:roles::text[]) = 0)
    ORDER BY person_id
""")


async def people_of(conn: Connection, circle_id: str, *roles: str) -> list[str]:
    """The ids of the circle's members who have one of `roles`; of all members when none is named."""
    rows = await PEOPLE_OF.rows(conn, circle_id=circle_id, roles=[str(role) for role in roles])
    return [row["person_id"] for row in rows]


ADD_MEMBER = Sql("""
    INSERT INTO circle_member (circle_id, person_id, role, since) VALUES (:circle_id, :person_id, :role, :now)
    ON CONFLICT (circle_id, person_id, role) DO UPDATE SET since = excluded.since, ended_at = NULL
        WHERE circle_member.ended_at IS NOT NULL
    RETURNING 1
""")


async def add_member(
    conn: Connection, circle_id: str, person_id: str, role: str, now: datetime, *, actor_id: str | None = None
) -> bool:
    """Gives a person a role in a circle whose lock the caller holds; notes it and moves the circle's version.

    Returns whether it is new: adding twice changes nothing. `actor_id` is whoever did it, by default the person.
    """
    if await ADD_MEMBER.value(conn, circle_id=circle_id, person_id=person_id, role=str(role), now=now) is None:
        return False
    await rules_changed(conn, circle_id)
    event = audit.Event("member.added", person_id, {"role": str(role)}, actor_id or person_id)
    await audit.record(conn, circle_id, event, now=now)
    return True


CIRCLE = Sql("SELECT id, operator_id, name, time_zone, state, created_at FROM circle WHERE id = :circle_id")
MEMBERS = Sql("""
    SELECT m.person_id, p.display_name, array_agg(m.role ORDER BY m.role) AS roles
    FROM circle_member m JOIN person p ON p.id = m.person_id
    WHERE m.circle_id = :circle_id AND m.ended_at IS NULL
    GROUP BY m.person_id, p.display_name ORDER BY min(m.since), m.person_id
""")


async def circle_row(conn: Connection, circle_id: str) -> Circle | None:
    """The circle with its present members, or None."""
    row = await CIRCLE.row(conn, circle_id=circle_id)
    if row is None:
        return None
    members = [
        Member(person_id=found["person_id"], display_name=found["display_name"], roles=frozenset(found["roles"]))
        for found in await MEMBERS.rows(conn, circle_id=circle_id)
    ]
    return Circle(**row, members=tuple(members))


CIRCLES_OF = Sql("""
    SELECT id, operator_id, name, time_zone, state, created_at FROM circle
    WHERE id IN (SELECT circle_id FROM circle_member WHERE person_id = :person_id AND ended_at IS NULL)
      AND (:after::uuid IS NULL OR id > :after) ORDER BY id LIMIT :most
""")


async def circles_of(conn: Connection, person_id: str, *, after: str | None = None, limit: int = 100) -> list[Circle]:
    """The circles in which a person has a role now, without their members, in the order of their ids."""
    return [Circle(**row) for row in await CIRCLES_OF.rows(conn, person_id=person_id, after=after, most=limit)]


async def require_member(conn: Connection, circle_id: str, person_id: str) -> frozenset[str]:
    """The roles of a person who is a member. Raises: NotFound for a stranger: foreign and absent look alike."""
    roles = await member_roles(conn, circle_id, person_id)
    if not roles:
        raise NotFound()
    return roles


async def lock_as_member(conn: Connection, circle_id: str, person_id: str) -> tuple[LockedCircle, frozenset[str]]:
    """Locks a circle for one of its members; returns it with their roles as they are under the lock.

    A stranger is turned away before the lock, so that nobody can hold up, or time, a circle that is not theirs.

    Raises: NotFound for a stranger.
    """
    await require_member(conn, circle_id, person_id)
    circle = await lock_circle(conn, circle_id)
    return circle, await require_member(conn, circle_id, person_id)
