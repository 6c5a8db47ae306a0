"""Having a template captured: the terminal is told to, with guidance for it and for the person before it.

Source: [0027]-[0028] (claim 7); semantics.md "Registration" (a capture left unfinished is resumed at any terminal).
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from kinpay.database import audit
from kinpay.database.audit import Event
from kinpay.database.sql import Connection, Record, Sql
from kinpay.primitives.actor import Actor
from kinpay.primitives.errors import Conflict, NotFound, WrongState
from kinpay.primitives.ids import new_id
from kinpay.registrations import store, tell
from kinpay.registrations.finding import open_finding
from kinpay.registrations.registration import (
    CAPTURE_LIFE,
    Capture,
    CaptureEvent,
    CaptureState,
    Registration,
    capture_is_due,
)
from kinpay.terminals.command import CommandKind, command, withdraw_command
from kinpay.terminals.store import find_terminal

GUIDANCE: Final = {
    "terminal": {
        "zh": "请对准摄像头，按屏幕提示完成采集。",
        "en": "Look into the camera and follow the steps on this screen.",
    },
    "spender": {
        "zh": "请站到终端前，摘下口罩和帽子，正对摄像头。采集内容会加密保存，您可以随时撤回。",
        "en": "Stand before the terminal, take off mask and hat, and face the camera. "
        "What is captured is kept encrypted, and you may withdraw at any time.",
    },
}
"""What the terminal and the spender's phone show while a template is captured, by language."""


def _capture(row: Record) -> Capture:
    return Capture(**{**row, "state": CaptureState(row["state"])})


FIND = Sql("""
    SELECT id, registration_id, person_id, terminal_id, state, reason, asked_at, expires_at, finished_at
    FROM capture WHERE id = :capture_id
""")


async def find_capture(conn: Connection, capture_id: str) -> Capture | None:
    """The capture, in whatever state."""
    row = await FIND.row(conn, capture_id=capture_id)
    return None if row is None else _capture(row)


LATEST = Sql("""
    SELECT id, registration_id, person_id, terminal_id, state, reason, asked_at, expires_at, finished_at
    FROM capture WHERE registration_id = :registration_id ORDER BY id DESC LIMIT 1
""")


async def latest_capture(conn: Connection, registration_id: str) -> Capture | None:
    """The newest attempt for a registration."""
    row = await LATEST.row(conn, registration_id=registration_id)
    return None if row is None else _capture(row)


INSERT = Sql("""
    INSERT INTO capture (id, registration_id, person_id, terminal_id, state, asked_at, expires_at)
    VALUES (:id, :registration_id, :person_id, :terminal_id, 'asked', :now, :expires_at)
""")


async def begin_capture(
    conn: Connection, registration: Registration, *, terminal_id: str, actor_id: str | None, now: datetime
) -> Capture:
    """Writes an attempt at one terminal; the caller holds the registration's lock and knows that none is open."""
    capture = Capture(
        id=new_id(),
        registration_id=registration.id,
        person_id=registration.spender_id,
        terminal_id=terminal_id,
        state=CaptureState.ASKED,
        reason=None,
        asked_at=now,
        expires_at=registration.expires_at,
        finished_at=None,
    )
    await INSERT.run(
        conn,
        id=capture.id,
        registration_id=capture.registration_id,
        person_id=capture.person_id,
        terminal_id=terminal_id,
        now=now,
        expires_at=capture.expires_at,
    )
    body = {"registration_id": registration.id, "terminal_id": terminal_id}
    await audit.record(conn, registration.lane, Event("capture.asked", capture.id, body, actor_id), now=now)
    return capture


async def ask_capture(conn: Connection, registration: Registration, *, actor_id: str | None, now: datetime) -> Capture:
    """Tells the terminal where the spender registered to capture, and the spender how ([0027]-[0028])."""
    terminal_id = registration.terminal_id
    assert terminal_id is not None, "orders with a capture have a terminal"
    capture = await begin_capture(conn, registration, terminal_id=terminal_id, actor_id=actor_id, now=now)
    body = command_body(capture)
    await command(conn, terminal_id, kind=CommandKind.CAPTURE, body=body, now=now, ttl=capture.expires_at - now)
    extra = {"capture_id": capture.id, "guidance": GUIDANCE["spender"]}
    await tell.spender_of(conn, "capture_guidance", registration, now=now, extra=extra)
    return capture


def command_body(capture: Capture) -> dict[str, object]:
    """What a terminal is told of a capture."""
    return {"capture_id": capture.id, "registration_id": capture.registration_id, "guidance": GUIDANCE}


MOVE = Sql("""
    UPDATE capture SET state = :to_state, reason = :reason, finished_at = :now
    WHERE id = :capture_id AND state = :from_state RETURNING id
""")


async def move_capture(
    conn: Connection,
    capture: Capture,
    event: CaptureEvent,
    *,
    lane: str,
    reason: str | None,
    actor_id: str | None,
    now: datetime,
) -> None:
    """Ends an attempt. Raises: WrongState; Conflict if it is not in the state that the caller saw."""
    following = CAPTURE_LIFE.after(capture.state, event)
    named = {"capture_id": capture.id, "from_state": capture.state, "to_state": following}
    if await MOVE.value(conn, **named, reason=reason, now=now) is None:
        raise Conflict(thing="capture")
    body = {"registration_id": capture.registration_id, "reason": reason}
    await audit.record(conn, lane, Event(f"capture.{event}", capture.id, body, actor_id), now=now)


OPEN_COMMANDS = Sql("""
    SELECT id FROM terminal_command
    WHERE terminal_id = :terminal_id AND kind = 'capture' AND done_at IS NULL AND body ->> 'capture_id' = :capture_id
""")


async def cancel_open_capture(
    conn: Connection, registration: Registration, *, reason: str, actor_id: str | None, now: datetime
) -> None:
    """Takes an unfinished capture back from its terminal, which is told to forget what it has; nothing if there is none."""
    capture = await latest_capture(conn, registration.id)
    if capture is None or capture.state is not CaptureState.ASKED:
        return
    await move_capture(conn, capture, CaptureEvent.CANCEL, lane=registration.lane, reason=reason, actor_id=actor_id, now=now)
    for row in await OPEN_COMMANDS.rows(conn, terminal_id=capture.terminal_id, capture_id=capture.id):
        await withdraw_command(conn, row["id"], now=now)
    body = {"capture_id": capture.id, "reason": reason}
    await command(conn, capture.terminal_id, kind=CommandKind.CANCEL_CAPTURE, body=body, now=now, ttl=tell.SHOWN_FOR)


async def resume_capture(conn: Connection, actor: Actor, *, capture_id: str, now: datetime) -> Capture:
    """Moves an unfinished capture to the asking terminal, of the same operator; asking twice is the same.

    Raises: NotFound; WrongState when nothing is to be captured (any more).
    """
    seen = await find_capture(conn, capture_id)
    terminal = await find_terminal(conn, actor.id)
    if seen is None or terminal is None:
        raise NotFound()
    registration = await store.lock(conn, seen.registration_id)
    if registration.operator_id != terminal.operator_id:
        raise NotFound()
    if not capture_is_due(registration) or registration.expires_at <= now:
        raise WrongState("capture", state=str(seen.state), event="resume")
    if await open_finding(conn, registration.id) is not None:
        raise WrongState("capture", state=str(CaptureState.CAPTURED), event="resume")
    latest = await latest_capture(conn, registration.id)
    if latest is not None and latest.state is CaptureState.ASKED and latest.terminal_id == actor.id:
        return latest
    await cancel_open_capture(conn, registration, reason="resumed_elsewhere", actor_id=actor.id, now=now)
    return await begin_capture(conn, registration, terminal_id=actor.id, actor_id=actor.id, now=now)
