"""A capture comes to its end: a template, or the terminal's word that it could not.

Source: [0028]-[0029]; threats A11, A12.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kinpay.biometrics import enrol
from kinpay.biometrics.enrol import Erased
from kinpay.biometrics.keyring import Keyring
from kinpay.biometrics.template import Template
from kinpay.database.sql import Connection
from kinpay.primitives.actor import Actor
from kinpay.primitives.errors import NotFound, WrongState
from kinpay.registrations import store, tell
from kinpay.registrations.bind import advance
from kinpay.registrations.capture import find_capture, move_capture
from kinpay.registrations.registration import (
    Capture,
    CaptureEvent,
    CaptureState,
    Registration,
    Rules,
    capture_is_due,
)
from kinpay.terminals.command import CommandKind, FinishedCommand


async def take_template(
    conn: Connection, keyring: Keyring, *, actor: Actor, capture_id: str, template: Template, rules: Rules, now: datetime
) -> tuple[Registration, list[Erased]]:
    """Keeps what the terminal captured, provisionally until the rest of the checklist is there, and binds if it is.

    Raises: NotFound for another terminal's; WrongState when it was cancelled, or is over.
    """
    registration, capture = await lock_capture(conn, actor.id, capture_id=capture_id)
    if not capture_is_due(registration) or registration.expires_at <= now or capture.state is not CaptureState.ASKED:
        raise WrongState("capture", state=str(capture.state), event="capture")
    until = min(now + rules.provisional_life, registration.expires_at)
    template_id = await enrol.enrol(
        conn,
        keyring,
        person_id=registration.spender_id,
        template=template,
        captured_by=actor.id,
        provisional_until=until,
        lane=registration.lane,
        now=now,
    )
    await move_capture(conn, capture, CaptureEvent.CAPTURE, lane=registration.lane, reason=None, actor_id=actor.id, now=now)
    enrolled = await store.note_enrolment(conn, registration, template_id=template_id, now=now)
    return await advance(conn, enrolled, actor_id=actor.id, now=now)


async def note_failure(conn: Connection, actor_id: str, *, capture_id: str, reason: str, now: datetime) -> Registration:
    """The terminal could not capture; the spender is told, and it may be resumed at any terminal of the operator.

    Raises: NotFound; WrongState.
    """
    registration, capture = await lock_capture(conn, actor_id, capture_id=capture_id)
    await move_capture(conn, capture, CaptureEvent.FAIL, lane=registration.lane, reason=reason, actor_id=actor_id, now=now)
    extra = {"capture_id": capture.id, "reason": reason}
    await tell.spender_of(conn, "capture_failed", registration, now=now, extra=extra)
    return registration


async def tell_failure(conn: Connection, registration: Registration, *, extra: dict[str, Any], now: datetime) -> None:
    """Tells the spender that nothing is kept of what was captured."""
    await tell.spender_of(conn, "capture_failed", registration, now=now, extra=extra)


async def lock_capture(conn: Connection, terminal_id: str, *, capture_id: str) -> tuple[Registration, Capture]:
    """A capture at that terminal, with its registration's lock. Raises: NotFound for another terminal's."""
    seen = await find_capture(conn, capture_id)
    if seen is None or seen.terminal_id != terminal_id:
        raise NotFound()
    registration = await store.lock(conn, seen.registration_id)
    capture = await find_capture(conn, capture_id)
    assert capture is not None, "captures are never deleted"
    return registration, capture


async def command_finished(conn: Connection, finished: FinishedCommand, now: datetime) -> None:
    """For `TerminalRooms.finished`: a capture command that the terminal gave up is a failed capture."""
    if finished.command.kind is not CommandKind.CAPTURE or finished.ok:
        return
    capture = await find_capture(conn, str(finished.command.body.get("capture_id", "")))
    if capture is None or capture.state is not CaptureState.ASKED:
        return
    reason = (finished.reason or "terminal")[:80]
    await note_failure(conn, finished.command.terminal_id, capture_id=capture.id, reason=reason, now=now)
