"""Stopping a whole circle at once, and letting it go on."""

from __future__ import annotations

from typing import Any, Final

from kinpay.database import audit, outbox
from kinpay.database.pool import database_now
from kinpay.database.sql import Connection, Sql
from kinpay.people import proof, store
from kinpay.people.circle import CIRCLE_LIFE, FREEZING_ROLES, CircleEvent, CircleState, Role
from kinpay.people.lock import LockedCircle, rules_changed
from kinpay.primitives.actor import Actor
from kinpay.primitives.errors import Conflict, Forbidden

UNFREEZE: Final = "circle.unfreeze"
"""The operation that a proof for unfreezing names; its content is the empty object."""
NO_CONTENT: Final[dict[str, Any]] = {}

MOVE_CIRCLE = Sql("UPDATE circle SET state = :into WHERE id = :circle_id AND state = :from_state RETURNING 1")


async def freeze(conn: Connection, actor: Actor, *, circle_id: str) -> CircleState:
    """Stops all spending of the circle from now on; anybody who pays or spends in it may. Twice is as good as once.

    Raises: NotFound for a stranger; Forbidden for a member with other roles only.
    """
    circle, roles = await store.lock_as_member(conn, circle_id, actor.id)
    if not roles & FREEZING_ROLES:
        raise Forbidden()
    if circle.state != CircleState.FROZEN:
        await _move(conn, circle, CircleEvent.FREEZE, actor=actor, proof_id=None)
    return CircleState.FROZEN


async def unfreeze(conn: Connection, actor: Actor, *, circle_id: str, proof_id: str) -> CircleState:
    """Lets a frozen circle spend again. Only a payer may, with a verified proof, which is used up here.

    Raises: NotFound for a stranger; Forbidden for whoever does not pay; WrongState if it is not frozen; ProofInvalid.
    """
    circle, roles = await store.lock_as_member(conn, circle_id, actor.id)
    if Role.PAYER not in roles:
        raise Forbidden()
    CIRCLE_LIFE.after(CircleState(circle.state), CircleEvent.UNFREEZE)
    await proof.burn_proof(conn, proof_id, now=await database_now(conn))
    await _move(conn, circle, CircleEvent.UNFREEZE, actor=actor, proof_id=proof_id)
    return CircleState.ACTIVE


async def _move(conn: Connection, circle: LockedCircle, event: CircleEvent, *, actor: Actor, proof_id: str | None) -> None:
    """Moves the state, makes every process read it anew, and tells all members who did it."""
    now = await database_now(conn)
    before = CircleState(circle.state)
    after = CIRCLE_LIFE.after(before, event)
    if await MOVE_CIRCLE.value(conn, circle_id=circle.id, from_state=str(before), into=str(after)) is None:
        raise Conflict(thing="circle")
    await rules_changed(conn, circle.id)
    by = await store.person_row(conn, actor.id)
    body = {
        "people": await store.people_of(conn, circle.id),
        "circle_id": circle.id,
        "circle_name": circle.name,
        "person_id": actor.id,
        "person_name": "" if by is None else by.display_name,
    }
    kind = "frozen" if event is CircleEvent.FREEZE else "unfrozen"
    await outbox.enqueue(conn, f"notice.circle_{kind}", lane=circle.id, subject_id=circle.id, body=body, now=now)
    facts = {} if proof_id is None else {"proof": proof_id}
    await audit.record(conn, circle.id, audit.Event(f"circle.{kind}", circle.id, facts, actor.id), now=now)
