"""Coming into a circle by invitation, and leaving it.

An invitation is an event of the circle's audit lane, which is the event log too: it ends by time, by the yes, by a removal,
or when whoever gave it pays no longer. The payer does not see whether the invited account exists: a member shows up by their
own yes only.
Source: threat A03 (accounts cannot be enumerated).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from kinpay.database import audit, outbox
from kinpay.database.pool import database_now
from kinpay.database.sql import Connection, Sql
from kinpay.people import proof, store
from kinpay.people.circle import Circle, Invitation, Role
from kinpay.people.lock import LockedCircle, lock_circle, rules_changed
from kinpay.people.person import Person, PersonState
from kinpay.primitives.actor import Actor
from kinpay.primitives.errors import Forbidden, NotFound, WrongState

INVITE: Final = "circle.invite"
"""The operation that a proof for an invitation names; its content is `invite_content`."""
INVITATION_LIFE: Final = timedelta(days=7)


def invite_content(account: str, role: str) -> dict[str, Any]:
    """What a proof for an invitation is bound to, beside the circle: the (normalised) account and the role."""
    return {"account": account, "role": role}


async def invite(conn: Connection, actor: Actor, *, circle_id: str, account: str, role: Role, proof_id: str) -> None:
    """Offers a role to the person of that account; the verified proof is used up here.

    An account that nobody has, or that cannot take the role, gets silence by the same steps and the same number of statements.

    Raises: NotFound for a stranger to the circle; Forbidden for whoever does not pay in it; ProofInvalid.
    """
    circle, roles = await store.lock_as_member(conn, circle_id, actor.id)
    if Role.PAYER not in roles:
        raise Forbidden()
    now = await database_now(conn)
    await proof.burn_proof(conn, proof_id, now=now)
    invited = await store.find_by_account(conn, actor.operator_id, account)
    taken = await store.member_roles(conn, circle_id, circle_id if invited is None else invited.id)
    able = invited is not None and invited.state is PersonState.ACTIVE and not invited.assisted and role not in taken
    to = invited if able else None
    body = {"role": str(role), **_facts(circle, await store.person_row(conn, actor.id))}
    await outbox.enqueue(
        conn,
        "notice.circle_invited",
        lane=circle_id,
        subject_id=circle_id,
        body={"people": [] if to is None else [to.id], **body},
        now=now,
    )
    facts = {"role": str(role), "proof": proof_id}
    event = (
        audit.Event("member.invited_nobody", circle_id, facts, actor.id)
        if to is None
        else audit.Event("member.invited", to.id, facts, actor.id)
    )
    await audit.record(conn, circle_id, event, now=now)


def _facts(circle: LockedCircle, person: Person | None) -> dict[str, Any]:
    """What every notice about a membership says: which circle, and who did or became something."""
    assert person is not None, "an actor and a member are persons"
    return {
        "circle_id": circle.id,
        "circle_name": circle.name,
        "person_id": person.id,
        "person_name": person.display_name,
    }


OPEN_INVITATIONS = Sql("""
    SELECT e.lane AS circle_id, c.name AS circle_name, e.body::jsonb ->> 'role' AS role, e.at,
           e.actor_id AS invited_by, p.display_name AS invited_by_name
    FROM audit_event e JOIN circle c ON c.id = e.lane JOIN person p ON p.id = e.actor_id
    WHERE e.subject_id = :person_id AND e.kind = 'member.invited' AND e.at > :since
      AND EXISTS (SELECT 1 FROM circle_member m WHERE m.circle_id = e.lane AND m.person_id = e.actor_id
                  AND m.role = 'payer' AND m.ended_at IS NULL)
      AND NOT EXISTS (SELECT 1 FROM audit_event later
                      WHERE later.subject_id = e.subject_id AND later.lane = e.lane AND later.seq > e.seq
                        AND (later.kind = 'member.removed'
                             OR (later.kind IN ('member.invited', 'member.added')
                                 AND later.body::jsonb ->> 'role' = e.body::jsonb ->> 'role')))
    ORDER BY e.at DESC LIMIT 100
""")


async def invitations_of(conn: Connection, person_id: str, *, now: datetime) -> list[Invitation]:
    """The invitations that wait for this person's yes, newest first, at most a hundred."""
    return [
        Invitation(
            circle_id=row["circle_id"],
            circle_name=row["circle_name"],
            role=row["role"],
            invited_by=row["invited_by"],
            invited_by_name=row["invited_by_name"],
            expires_at=row["at"] + INVITATION_LIFE,
        )
        for row in await OPEN_INVITATIONS.rows(conn, person_id=person_id, since=now - INVITATION_LIFE)
    ]


async def join(conn: Connection, actor: Actor, *, circle_id: str, role: Role) -> Circle:
    """Says yes to an invitation: the asker becomes a member and every member is told. Joining again changes nothing.

    Raises: NotFound without an open invitation to this role.
    """
    if role not in await store.member_roles(conn, circle_id, actor.id):
        await _require_invitation(conn, actor, circle_id=circle_id, role=role)
        circle = await lock_circle(conn, circle_id)
        # Again under the lock: whoever invited may have left while we waited.
        await _require_invitation(conn, actor, circle_id=circle_id, role=role)
        now = await database_now(conn)
        await store.add_member(conn, circle_id, actor.id, role, now)
        facts = {"role": str(role), **_facts(circle, await store.person_row(conn, actor.id))}
        body = {"people": await store.people_of(conn, circle_id), **facts}
        await outbox.enqueue(conn, "notice.circle_joined", lane=circle_id, subject_id=circle_id, body=body, now=now)
    joined = await store.circle_row(conn, circle_id)
    assert joined is not None
    return joined


async def _require_invitation(conn: Connection, actor: Actor, *, circle_id: str, role: Role) -> None:
    invitations = await invitations_of(conn, actor.id, now=await database_now(conn))
    if not any(found.circle_id == circle_id and found.role == role for found in invitations):
        raise NotFound()


OPEN_MANDATE = Sql("""
    SELECT 1 FROM mandate
    WHERE circle_id = :circle_id AND state <> 'ended' AND (payer_id = :person_id OR spender_id = :person_id) LIMIT 1
""")
END_MEMBER = Sql("""
    UPDATE circle_member SET ended_at = :now
    WHERE circle_id = :circle_id AND person_id = :person_id AND ended_at IS NULL RETURNING role
""")


async def end_membership(conn: Connection, actor: Actor, *, circle_id: str, person_id: str) -> None:
    """Takes every role of a person in a circle away: a payer may do it to anybody, and everybody to themself.

    Raises: NotFound for a stranger, as asker or as the one to go; Forbidden for other members; WrongState while a mandate in
    this circle is open that rests on the person or is for them: that is ended first, so that nothing is left half undone.
    """
    circle, roles = await store.lock_as_member(conn, circle_id, actor.id)
    if actor.id != person_id and Role.PAYER not in roles:
        raise Forbidden()
    await store.require_member(conn, circle_id, person_id)
    if await OPEN_MANDATE.value(conn, circle_id=circle_id, person_id=person_id) is not None:
        raise WrongState("mandate", state="open", event="end_membership")
    now = await database_now(conn)
    told = await store.people_of(conn, circle_id)
    ended = [row["role"] for row in await END_MEMBER.rows(conn, circle_id=circle_id, person_id=person_id, now=now)]
    await rules_changed(conn, circle_id)
    topic = "notice.circle_left" if actor.id == person_id else "notice.circle_removed"
    body = {"people": told, **_facts(circle, await store.person_row(conn, person_id))}
    await outbox.enqueue(conn, topic, lane=circle_id, subject_id=circle_id, body=body, now=now)
    events = [audit.Event("member.removed", person_id, {"role": role}, actor.id) for role in sorted(ended)]
    await audit.record(conn, circle_id, *events, now=now)
