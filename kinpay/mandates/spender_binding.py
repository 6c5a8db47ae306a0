"""The spender as the provider records them under the payer's agreement (claim 5, [0024]): wanted, bound, removed."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from kinpay.database import audit, outbox
from kinpay.database.sql import Connection, Sql
from kinpay.mandates.agreement import Agreement, AgreementState, SpenderState

BIND_TOPIC: Final = "agreement.bind_spender"
UNBIND_TOPIC: Final = "agreement.unbind_spender"
BOUND_TOPIC: Final = "agreement.spender_bound"

SPENDER = Sql("SELECT state FROM agreement_spender WHERE agreement_id = :agreement_id AND spender_id = :spender_id")


async def spender_state(conn: Connection, agreement_id: str, spender_id: str) -> SpenderState | None:
    """How the spender stands under the agreement, or None if they were never wanted there."""
    found = await SPENDER.value(conn, agreement_id=agreement_id, spender_id=spender_id)
    return None if found is None else SpenderState(found)


WANT = Sql("""
    INSERT INTO agreement_spender (agreement_id, spender_id, state, changed_at)
    VALUES (:agreement_id, :spender_id, 'wanted', :now)
    ON CONFLICT (agreement_id, spender_id) DO UPDATE SET state = 'wanted', changed_at = excluded.changed_at
        WHERE agreement_spender.state = 'removed'
    RETURNING 1
""")


async def want_spender(conn: Connection, agreement: Agreement, spender_id: str, *, now: datetime) -> bool:
    """Writes that the provider is to record the spender, and has it told if the agreement is active already.

    The caller holds the circle's lock. Returns whether anything is still to be told.
    """
    new = await WANT.value(conn, agreement_id=agreement.id, spender_id=spender_id, now=now) is not None
    if new:
        await note_spender(conn, agreement, spender_id, "spender_wanted", now=now)
    if new and agreement.state is AgreementState.ACTIVE:
        await enqueue_binding(conn, BIND_TOPIC, agreement, spender_id, now=now)
    return new


MARK = Sql("""
    UPDATE agreement_spender SET state = :to_state, changed_at = :now
    WHERE agreement_id = :agreement_id AND spender_id = :spender_id AND state = ANY(:from_states)
    RETURNING 1
""")


async def mark_bound(conn: Connection, agreement: Agreement, spender_id: str, *, now: datetime) -> bool:
    """Writes that the provider has recorded the spender. Returns whether that is new; whoever waits for it is told once."""
    states = [str(SpenderState.WANTED)]
    if not await _mark(conn, agreement, spender_id, states, SpenderState.BOUND, now=now):
        return False
    await note_spender(conn, agreement, spender_id, "spender_bound", now=now)
    await enqueue_binding(conn, BOUND_TOPIC, agreement, spender_id, now=now)
    return True


async def mark_removed(conn: Connection, agreement: Agreement, spender_id: str, *, now: datetime) -> bool:
    """Writes that the spender is no longer under the agreement. Returns whether that is new."""
    states = [str(SpenderState.WANTED), str(SpenderState.BOUND)]
    if not await _mark(conn, agreement, spender_id, states, SpenderState.REMOVED, now=now):
        return False
    await note_spender(conn, agreement, spender_id, "spender_removed", now=now)
    return True


async def _mark(
    conn: Connection, agreement: Agreement, spender_id: str, from_states: list[str], state: SpenderState, *, now: datetime
) -> bool:
    found = await MARK.value(
        conn, agreement_id=agreement.id, spender_id=spender_id, from_states=from_states, to_state=str(state), now=now
    )
    return found is not None


async def drop_spender(conn: Connection, agreement: Agreement, spender_id: str, *, now: datetime) -> None:
    """Takes the spender from under the agreement because their mandate ended; the provider is told after the commit.

    The agreement itself stays: it is the payer's, and may carry other spenders.
    """
    removed = await mark_removed(conn, agreement, spender_id, now=now)
    if removed and agreement.state is AgreementState.ACTIVE:
        await enqueue_binding(conn, UNBIND_TOPIC, agreement, spender_id, now=now)


async def want_again(conn: Connection, agreement: Agreement, spender_id: str, *, now: datetime) -> None:
    """Has the provider asked to bind a spender whose removal there crossed a new consent here."""
    states = [str(SpenderState.WANTED), str(SpenderState.BOUND)]
    if await _mark(conn, agreement, spender_id, states, SpenderState.WANTED, now=now):
        await note_spender(conn, agreement, spender_id, "spender_wanted", now=now)
        await enqueue_binding(conn, BIND_TOPIC, agreement, spender_id, now=now)


WANTED = Sql("""
    SELECT spender_id FROM agreement_spender WHERE agreement_id = :agreement_id AND state = 'wanted'
    ORDER BY changed_at, spender_id
""")


async def wanted_spenders(conn: Connection, agreement_id: str) -> list[str]:
    """The spenders that the provider does not have yet; the first one goes out with the request for the agreement itself."""
    return [row["spender_id"] for row in await WANTED.rows(conn, agreement_id=agreement_id)]


SPENDERS = Sql("""
    SELECT spender_id FROM agreement_spender WHERE agreement_id = :agreement_id AND state <> 'removed' ORDER BY spender_id
""")


async def spenders_under(conn: Connection, agreement_id: str) -> list[str]:
    """The spenders who are or shall be recorded under the agreement."""
    return [row["spender_id"] for row in await SPENDERS.rows(conn, agreement_id=agreement_id)]


async def enqueue_binding(conn: Connection, topic: str, agreement: Agreement, spender_id: str, *, now: datetime) -> None:
    """Enqueues a message about one spender under one agreement."""
    body = {"agreement_id": agreement.id, "spender_id": spender_id}
    await outbox.enqueue(conn, topic, lane=agreement.circle_id, subject_id=agreement.id, body=body, now=now)


async def note_spender(conn: Connection, agreement: Agreement, spender_id: str, event: str, *, now: datetime) -> None:
    """Writes the event to the circle's audit lane."""
    noted = audit.Event(f"agreement.{event}", agreement.id, {"spender": spender_id})
    await audit.record(conn, agreement.circle_id, noted, now=now)
