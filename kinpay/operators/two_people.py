"""Dual control: asking a second owner, their answer, and doing it once they agreed.

A route that does something privileged opens its transaction with `privileged`: where the operator asks for two people it lets
only through what somebody else has agreed to; the first request asks, and is answered with `second-person-needed`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final

from kinpay.database import audit, outbox
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection, Record, Sql
from kinpay.operators.act import ACT_LIFE, ACT_LIFE_TIME, Act, ActEvent, ActKind, ActState, PrivilegedAct
from kinpay.operators.staff import lock_dual_control
from kinpay.primitives.actor import Actor, ActorKind
from kinpay.primitives.errors import Forbidden, NotFound, SecondPersonNeeded, TooMany
from kinpay.primitives.ids import new_id

MAX_UNANSWERED: Final = 10
"""Questions of one person that nobody has answered within their day: each is a notice to every other owner."""

Judging = Callable[[Connection], Awaitable[Act | None]]
"""What is about to be done, looked up in the transaction that does it: nobody is asked about what there is not, and whoever is
asked sees names and amounts. None: this takes one person. Raises what the deed itself would raise."""


@asynccontextmanager
async def privileged(db: Database, actor: Actor, act: Act | Judging) -> AsyncIterator[Connection]:
    """A transaction in which `act` may be done. Without dual control that is any; with it, one that a second owner agreed to.

    An API key passes: what it may do was agreed to when it was made. The operator's row is locked to the end, so that whoever
    switches dual control on waits for what one person has begun, and the next one sees the switch.

    Raises: SecondPersonNeeded, after the question was put to the other owners; TooMany for one question too many.
    """
    async with db.transaction() as conn:
        waiting = None if actor.kind is ActorKind.API_KEY else await _use_or_ask(conn, actor, act)
        if waiting is None:
            yield conn
            return
    raise SecondPersonNeeded(privileged_act_id=waiting)


async def _use_or_ask(conn: Connection, actor: Actor, wanted: Act | Judging) -> str | None:
    """Uses up the yes to this act, if dual control asks for one. Returns the id of the question if there is no yes yet."""
    if not await lock_dual_control(conn, actor.operator_id):
        return None
    act = wanted if isinstance(wanted, Act) else await wanted(conn)
    if act is None:
        return None
    now = await database_now(conn)
    found = await _open_one(conn, actor, act, now=now)
    if found is None:
        return await _ask(conn, actor, act, now=now)
    if found["state"] != ActState.APPROVED:
        return str(found["id"])
    await _move(conn, found["id"], actor=actor, event=ActEvent.PERFORM, now=now)
    return None


# A yes counts as long as whoever gave it is an owner.
OPEN_ONE = Sql("""
    SELECT a.id, a.state,
           a.expires_at <= :now
           OR (a.state = 'approved'
               AND NOT EXISTS (SELECT FROM staff s WHERE s.operator_id = a.operator_id AND s.person_id = a.decided_by
                                                     AND s.role = 'owner' AND s.ended_at IS NULL)) AS over
    FROM privileged_act a
    WHERE a.operator_id = :operator_id AND a.asked_by = :actor_id AND a.fingerprint = :fingerprint
      AND a.state IN ('asked', 'approved')
    FOR UPDATE OF a
""")


async def _open_one(conn: Connection, actor: Actor, act: Act, *, now: datetime) -> Record | None:
    row = await OPEN_ONE.row(conn, operator_id=actor.operator_id, actor_id=actor.id, fingerprint=act.fingerprint, now=now)
    if row is not None and row["over"]:
        await _move(conn, row["id"], actor=actor, event=ActEvent.EXPIRE, now=now)
        return None
    return row


# Those taken back count, too: they were notices all the same.
UNANSWERED = Sql("""
    SELECT count(*) AS number, min(expires_at) AS first FROM privileged_act
    WHERE operator_id = :operator_id AND asked_by = :actor_id AND state IN ('asked', 'withdrawn') AND expires_at > :now
""")


async def _require_few(conn: Connection, actor: Actor, *, now: datetime) -> None:
    row = await UNANSWERED.row(conn, operator_id=actor.operator_id, actor_id=actor.id, now=now)
    if row is not None and row["number"] >= MAX_UNANSWERED:
        raise TooMany(retry_after_s=max(1, int((row["first"] - now).total_seconds())))


ASK = Sql("""
    INSERT INTO privileged_act (id, operator_id, kind, about, fingerprint, state, asked_by, asked_at, expires_at)
    VALUES (:id, :operator_id, :kind, :about, :fingerprint, 'asked', :actor_id, :now, :expires_at)
    ON CONFLICT (operator_id, asked_by, fingerprint) WHERE state IN ('asked', 'approved') DO NOTHING RETURNING 1
""")
OTHER_OWNERS = Sql("""
    SELECT DISTINCT s.person_id FROM staff s
    WHERE s.operator_id = :operator_id AND s.role = 'owner' AND s.ended_at IS NULL AND s.person_id <> :actor_id
    ORDER BY s.person_id
""")


async def _ask(conn: Connection, actor: Actor, act: Act, *, now: datetime) -> str:
    """Puts the question and tells the other owners. Returns its id; of two at once, the second gets the first's."""
    await _require_few(conn, actor, now=now)
    act_id = new_id()
    asked = await ASK.value(
        conn,
        id=act_id,
        operator_id=actor.operator_id,
        kind=str(act.kind),
        about=dict(act.about),
        fingerprint=act.fingerprint,
        actor_id=actor.id,
        now=now,
        expires_at=now + ACT_LIFE_TIME,
    )
    if asked is None:
        found = await _open_one(conn, actor, act, now=now)
        assert found is not None, "the row that we conflicted with"
        return str(found["id"])
    event = audit.Event("privileged.asked", act_id, {"kind": str(act.kind), "fingerprint": act.fingerprint.hex()}, actor.id)
    await audit.record(conn, actor.operator_id, event, now=now)
    rows = await OTHER_OWNERS.rows(conn, operator_id=actor.operator_id, actor_id=actor.id)
    people = [row["person_id"] for row in rows]
    await _tell(conn, actor, "second_person_wanted", act_id, people=people, kind=act.kind, now=now)
    return act_id


async def _tell(
    conn: Connection, actor: Actor, notice: str, act_id: str, *, people: list[str], kind: ActKind, now: datetime
) -> None:
    body: dict[str, Any] = {"people": people, "person_id": actor.id, "act": str(kind)}
    await outbox.enqueue(conn, f"notice.{notice}", lane=actor.operator_id, subject_id=act_id, body=body, now=now)


LOCK = Sql("""
    SELECT id, operator_id, kind, state, asked_by, expires_at <= :now AS over FROM privileged_act
    WHERE id = :act_id AND operator_id = :operator_id FOR UPDATE
""")


async def approve(conn: Connection, act_id: str, *, owner: Actor) -> PrivilegedAct:
    """Agrees to what another of the staff asked for. Raises: NotFound; Forbidden for whoever asked; WrongState."""
    return await _decide(conn, act_id, owner=owner, event=ActEvent.APPROVE, notice="second_person_agreed")


async def refuse(conn: Connection, act_id: str, *, owner: Actor) -> PrivilegedAct:
    """Does not agree, or no longer. Raises: NotFound; Forbidden for whoever asked; WrongState."""
    return await _decide(conn, act_id, owner=owner, event=ActEvent.REFUSE, notice="second_person_refused")


async def _decide(conn: Connection, act_id: str, *, owner: Actor, event: ActEvent, notice: str) -> PrivilegedAct:
    now = await database_now(conn)
    row = await _lock(conn, act_id, owner, now=now)
    if row["asked_by"] == owner.id:
        raise Forbidden()
    ACT_LIFE.after(_state(row), event)
    await _move(conn, act_id, actor=owner, event=event, now=now)
    await _tell(conn, owner, notice, act_id, people=[row["asked_by"]], kind=ActKind(row["kind"]), now=now)
    return await act_of(conn, act_id, operator_id=owner.operator_id)


async def withdraw(conn: Connection, act_id: str, *, actor: Actor) -> None:
    """Takes one's own question back. Raises: NotFound, also for somebody else's; WrongState."""
    now = await database_now(conn)
    row = await _lock(conn, act_id, actor, now=now)
    if row["asked_by"] != actor.id:
        raise NotFound()
    ACT_LIFE.after(_state(row), ActEvent.WITHDRAW)
    await _move(conn, act_id, actor=actor, event=ActEvent.WITHDRAW, now=now)


async def _lock(conn: Connection, act_id: str, actor: Actor, *, now: datetime) -> Record:
    row = await LOCK.row(conn, act_id=act_id, operator_id=actor.operator_id, now=now)
    if row is None:
        raise NotFound()
    return row


def _state(row: Record) -> ActState:
    state = ActState(row["state"])
    return ActState.EXPIRED if row["over"] and ACT_LIFE.allows(state, ActEvent.EXPIRE) else state


MOVE = Sql("""
    UPDATE privileged_act
    SET state = :state, decided_by = CASE WHEN :decides THEN :actor_id ELSE decided_by END,
        decided_at = CASE WHEN :decides THEN :now ELSE decided_at END, done_at = CASE WHEN :done THEN :now ELSE done_at END
    WHERE id = :act_id RETURNING kind, fingerprint, asked_by, decided_by
""")
STATE = Sql("SELECT state FROM privileged_act WHERE id = :act_id")


async def _move(conn: Connection, act_id: str, *, actor: Actor, event: ActEvent, now: datetime) -> None:
    """The one place where a question moves; its row is locked by the caller."""
    following = ACT_LIFE.after(ActState(await STATE.value(conn, act_id=act_id)), event)
    decides, done = event in (ActEvent.APPROVE, ActEvent.REFUSE), following is ActState.DONE
    row = await MOVE.row(conn, act_id=act_id, state=str(following), decides=decides, done=done, actor_id=actor.id, now=now)
    assert row is not None
    body = {
        "kind": row["kind"],
        "fingerprint": row["fingerprint"].hex(),
        "asked_by": row["asked_by"],
        "decided_by": row["decided_by"],
    }
    await audit.record(conn, actor.operator_id, audit.Event(f"privileged.{following}", act_id, body, actor.id), now=now)


PAGE = Sql("""
    SELECT a.id, a.kind, a.about, a.asked_by, p.display_name AS asked_by_name, a.asked_at, a.expires_at, a.decided_by,
           a.decided_at, a.done_at,
           CASE WHEN a.state IN ('asked', 'approved') AND a.expires_at <= kinpay_now() THEN 'expired' ELSE a.state END AS state
    FROM privileged_act a JOIN person p ON p.id = a.asked_by
    WHERE a.operator_id = :operator_id AND (:act_id::uuid IS NULL OR a.id = :act_id)
      AND (:asked_by::uuid IS NULL OR a.asked_by = :asked_by) AND (:after::uuid IS NULL OR a.id < :after)
    ORDER BY a.id DESC LIMIT :most
""")


async def acts_of(
    conn: Connection, operator_id: str, *, asked_by: str | None = None, after: str | None = None, limit: int = 100
) -> list[PrivilegedAct]:
    """The operator's questions, or those of one of its staff, newest first."""
    rows = await PAGE.rows(conn, operator_id=operator_id, act_id=None, asked_by=asked_by, after=after, most=limit)
    return [_read(row) for row in rows]


async def act_of(conn: Connection, act_id: str, *, operator_id: str) -> PrivilegedAct:
    """One question. Raises: NotFound."""
    row = await PAGE.row(conn, operator_id=operator_id, act_id=act_id, asked_by=None, after=None, most=1)
    if row is None:
        raise NotFound()
    return _read(row)


def _read(row: Record) -> PrivilegedAct:
    return PrivilegedAct(**{**row, "kind": ActKind(row["kind"]), "state": ActState(row["state"])})
