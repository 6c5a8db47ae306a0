"""How sittings are kept. A row moves by compare-and-set, with its event in the operator's lane."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kinpay.database import audit
from kinpay.database.audit import Event
from kinpay.database.sql import Connection, Record, Sql
from kinpay.faces.liveness import Act
from kinpay.primitives.errors import Conflict
from kinpay.primitives.money import Money
from kinpay.sittings.sitting import FINAL, SITTING_LIFE, Purpose, Sitting, SittingEvent, SittingState

FIND = Sql("""
    SELECT id, operator_id, site_id, terminal_id, purpose, state, acts, nonce, capture_id, consent_id, amount_minor, currency,
           sealed, person_id, circle_id, credential_id, evidence, asked_at, expires_at
    FROM sitting WHERE id = :sitting_id
""")


async def find(conn: Connection, sitting_id: str) -> Sitting | None:
    """The sitting, in whatever state."""
    row = await FIND.row(conn, sitting_id=sitting_id)
    return None if row is None else _sitting(row)


def _sitting(row: Record) -> Sitting:
    values = dict(row)
    minor, currency = values.pop("amount_minor"), values.pop("currency")
    first, second = (Act(act) for act in values["acts"])
    values |= {
        "purpose": Purpose(row["purpose"]),
        "state": SittingState(row["state"]),
        "acts": (first, second),
        "amount": None if minor is None else Money(minor, currency),
    }
    return Sitting(**values)


INSERT = Sql("""
    INSERT INTO sitting (id, operator_id, site_id, terminal_id, purpose, state, acts, nonce, capture_id, consent_id,
                         amount_minor, currency, sealed, credential_id, asked_at, expires_at)
    VALUES (:id, :operator_id, :site_id, :terminal_id, :purpose, 'asked', :acts, :nonce, :capture_id, :consent_id,
            :amount_minor, :currency, :sealed, :credential_id, :asked_at, :expires_at)
""")


async def insert(conn: Connection, sitting: Sitting) -> None:
    """Writes a new sitting and its first event."""
    amount = sitting.amount
    await INSERT.run(
        conn,
        id=sitting.id,
        operator_id=sitting.operator_id,
        site_id=sitting.site_id,
        terminal_id=sitting.terminal_id,
        purpose=sitting.purpose,
        acts=[str(act) for act in sitting.acts],
        nonce=sitting.nonce,
        capture_id=sitting.capture_id,
        consent_id=sitting.consent_id,
        amount_minor=None if amount is None else amount.minor,
        currency=None if amount is None else amount.currency,
        sealed=sitting.sealed,
        credential_id=sitting.credential_id,
        asked_at=sitting.asked_at,
        expires_at=sitting.expires_at,
    )
    body = {"purpose": str(sitting.purpose), "terminal_id": sitting.terminal_id, "capture_id": sitting.capture_id}
    event = Event("sitting.asked", sitting.id, body, sitting.terminal_id)
    await audit.record(conn, sitting.operator_id, event, now=sitting.asked_at)


MOVE = Sql("""
    UPDATE sitting
    SET state = :to_state, reasons = :reasons, sealed = :sealed, evidence = :evidence, person_id = :person_id,
        circle_id = :circle_id, expires_at = coalesce(:expires_at, expires_at), finished_at = :finished_at
    WHERE id = :sitting_id AND state = :from_state RETURNING id
""")


async def move(
    conn: Connection,
    sitting: Sitting,
    event: SittingEvent,
    *,
    now: datetime,
    reasons: tuple[str, ...] = (),
    sealed: bytes | None = None,
    person_id: str | None = None,
    circle_id: str | None = None,
    evidence: dict[str, Any] | None = None,
    expires_at: datetime | None = None,
) -> None:
    """Moves a sitting on. What was sealed in it stays only if it is given again; the log says neither who nor who was near.

    Raises: WrongState; Conflict if it is not in the state that the caller saw.
    """
    following = SITTING_LIFE.after(sitting.state, event)
    moved = await MOVE.value(
        conn,
        sitting_id=sitting.id,
        from_state=sitting.state,
        to_state=following,
        reasons=list(reasons),
        sealed=sealed,
        person_id=person_id,
        circle_id=circle_id,
        evidence=evidence,
        expires_at=expires_at,
        finished_at=now if following in FINAL else None,
    )
    if moved is None:
        raise Conflict(thing="sitting")
    body = {"terminal_id": sitting.terminal_id, "reasons": list(reasons)}
    kept = Event(f"sitting.{event}", sitting.id, body, sitting.terminal_id)
    await audit.record(conn, sitting.operator_id, kept, now=now)


LOCK = Sql("SELECT id FROM sitting WHERE id = :sitting_id FOR UPDATE")


async def lock(conn: Connection, sitting_id: str) -> Sitting | None:
    """The sitting with its row locked, so that of two requests about it one comes second."""
    if await LOCK.value(conn, sitting_id=sitting_id) is None:
        return None
    return await find(conn, sitting_id)


DUE = Sql("SELECT id FROM sitting WHERE finished_at IS NULL AND expires_at < :now ORDER BY expires_at LIMIT :most")
PRUNE = Sql("DELETE FROM sitting WHERE finished_at < :before")


async def overdue(conn: Connection, *, now: datetime, most: int) -> list[str]:
    """Sittings whose seconds are over."""
    return [row["id"] for row in await DUE.rows(conn, now=now, most=most)]


async def prune(conn: Connection, *, before: datetime) -> int:
    """Forgets sittings that ended before that moment; what matters of them is in the log, the charge or the consent."""
    return await PRUNE.run(conn, before=before)
