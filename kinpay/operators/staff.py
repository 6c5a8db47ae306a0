"""An operator's staff: who may do what for it, and that there are always owners enough."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from kinpay.database import audit
from kinpay.database.pool import database_now
from kinpay.database.sql import Connection, Sql
from kinpay.people import store
from kinpay.people.person import PersonState
from kinpay.primitives.errors import NotFound, OwnersNeeded


class StaffRole(StrEnum):
    """What somebody may do for an operator."""

    OWNER = "owner"
    """Everything, also merchants, sites and other staff."""
    INSTALLER = "installer"
    """Installs and revokes terminals."""
    SUPPORT = "support"
    """Looks things up, and looks after differences with providers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Staff:
    """Somebody of the staff and what they may do; `since` the first of their roles."""

    person_id: str
    account: str
    display_name: str
    roles: list[str]
    since: datetime


ADD_STAFF = Sql("""
    INSERT INTO staff (operator_id, person_id, role, created_at)
    SELECT operator_id, id, :role, :now FROM person
    WHERE id = :person_id AND operator_id = :operator_id AND state = 'active' AND NOT assisted
    ON CONFLICT (operator_id, person_id, role) DO UPDATE SET ended_at = NULL
    RETURNING 1
""")


async def add_staff(
    conn: Connection, operator_id: str, *, person_id: str, role: StaffRole, actor_id: str | None = None
) -> None:
    """Gives an active person of the operator, who signs in by themself, a role in its staff. Raises: NotFound."""
    now = await database_now(conn)
    if await ADD_STAFF.value(conn, operator_id=operator_id, person_id=person_id, role=str(role), now=now) is None:
        raise NotFound()
    await audit.record(conn, operator_id, audit.Event("staff.added", person_id, {"role": str(role)}, actor_id), now=now)


END_STAFF = Sql("""
    UPDATE staff SET ended_at = :now
    WHERE operator_id = :operator_id AND person_id = :person_id AND role = :role AND ended_at IS NULL RETURNING 1
""")


async def end_staff(
    conn: Connection, operator_id: str, *, person_id: str, role: StaffRole, actor_id: str | None = None
) -> None:
    """Takes a role in the staff away; their very next request is without it.

    Raises: NotFound; OwnersNeeded if there would be no owner left, or only one where acts take two people.
    """
    needed = await owners_needed(conn, operator_id)
    now = await database_now(conn)
    if await END_STAFF.value(conn, operator_id=operator_id, person_id=person_id, role=str(role), now=now) is None:
        raise NotFound()
    await require_owners(conn, operator_id, at_least=needed)
    await audit.record(conn, operator_id, audit.Event("staff.ended", person_id, {"role": str(role)}, actor_id), now=now)


# Whoever changes the owners, or how many there must be, waits for the others, and so does whoever does something privileged.
# (No stronger lock: whatever only refers to the operator's row goes on.)
LOCK = Sql("SELECT dual_control FROM operator WHERE id = :operator_id FOR NO KEY UPDATE")
OWNERS = Sql("""
    SELECT count(*) FROM staff s JOIN person p ON p.id = s.person_id
    WHERE s.operator_id = :operator_id AND s.role = 'owner' AND s.ended_at IS NULL AND p.state = 'active'
""")


async def owners_needed(conn: Connection, operator_id: str) -> int:
    """How many owners the operator must keep; locks the operator, so that this stays true until the commit.

    Raises: NotFound for an operator that there is not.
    """
    dual = await LOCK.value(conn, operator_id=operator_id)
    if dual is None:
        raise NotFound()
    return 2 if dual else 1


async def require_owners(conn: Connection, operator_id: str, *, at_least: int) -> None:
    """Raises: OwnersNeeded if fewer are left. The caller holds the operator's lock."""
    if await OWNERS.value(conn, operator_id=operator_id) < at_least:
        raise OwnersNeeded(at_least=at_least)


async def staff_person(conn: Connection, operator_id: str, account: str) -> str:
    """The id of the operator's active person of that account, to whom a role may be given. Raises: NotFound."""
    found = await store.find_by_account(conn, operator_id, account)
    if found is None or found.state is not PersonState.ACTIVE or found.assisted:
        raise NotFound()
    return found.id


HOLDER = Sql("""
    SELECT p.account FROM staff s JOIN person p ON p.id = s.person_id
    WHERE s.operator_id = :operator_id AND s.person_id = :person_id AND s.role = :role AND s.ended_at IS NULL
""")


async def account_of_staff(conn: Connection, operator_id: str, *, person_id: str, role: StaffRole) -> str:
    """The account of somebody who has that role. Raises: NotFound for anybody else."""
    account: str | None = await HOLDER.value(conn, operator_id=operator_id, person_id=person_id, role=str(role))
    if account is None:
        raise NotFound()
    return account


STAFF = Sql("""
    SELECT s.person_id, p.account, p.display_name, array_agg(s.role ORDER BY s.role) AS roles, min(s.created_at) AS since
    FROM staff s JOIN person p ON p.id = s.person_id
    WHERE s.operator_id = :operator_id AND s.ended_at IS NULL AND (:after::uuid IS NULL OR s.person_id > :after)
    GROUP BY s.person_id, p.account, p.display_name ORDER BY s.person_id LIMIT :most
""")


async def staff_of_operator(conn: Connection, operator_id: str, *, after: str | None = None, limit: int = 100) -> list[Staff]:
    """The operator's staff, in the order of their ids; `after`: a person's id."""
    return [Staff(**row) for row in await STAFF.rows(conn, operator_id=operator_id, after=after, most=limit)]


SET_DUAL_CONTROL = Sql("""
    UPDATE operator SET dual_control = :on WHERE id = :operator_id AND dual_control <> :on RETURNING 1
""")


async def set_dual_control(conn: Connection, operator_id: str, *, on: bool, actor_id: str | None) -> None:
    """Says whether privileged acts take two people; to say it again changes nothing. `actor_id` None: at the server itself.

    Raises: NotFound; OwnersNeeded when it is switched on with fewer than two owners.
    """
    await owners_needed(conn, operator_id)
    if on:
        await require_owners(conn, operator_id, at_least=2)
    if await SET_DUAL_CONTROL.value(conn, operator_id=operator_id, on=on) is None:
        return
    event = audit.Event("operator.dual_control", operator_id, {"on": on}, actor_id)
    await audit.record(conn, operator_id, event, now=await database_now(conn))


async def lock_dual_control(conn: Connection, operator_id: str) -> bool:
    """Whether privileged acts at an operator take two people; locks the operator, so that this stays true until the commit."""
    return bool(await LOCK.value(conn, operator_id=operator_id))
