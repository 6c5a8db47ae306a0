"""Letting go: refused, withdrawn, expired. Whatever was provisional is destroyed, both sides are told.

Source: [0030]; semantics.md "Registration"; threat A12.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from kinpay.biometrics import enrol
from kinpay.biometrics.enrol import Erased
from kinpay.biometrics.keyring import Keyring
from kinpay.database import audit
from kinpay.database.audit import Event
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection, Sql
from kinpay.mandates.end_mandate import withdraw_mandate
from kinpay.people.store import person_row
from kinpay.primitives.actor import Actor
from kinpay.primitives.errors import NotFound, WrongState
from kinpay.registrations import store, tell
from kinpay.registrations.capture import cancel_open_capture
from kinpay.registrations.card import revoke_provisional_cards
from kinpay.registrations.finding import lapse_finding, open_finding
from kinpay.registrations.registration import Registration, RegistrationEvent, RegistrationState

SWEEP: Final = 100
"""How many due things one sweep takes on."""

_TOLD = {
    RegistrationEvent.REFUSE: "registration_refused",
    RegistrationEvent.EXPIRE: "registration_expired",
    RegistrationEvent.WITHDRAW: "registration_withdrawn",
}
_WHY = {
    RegistrationEvent.REFUSE: "refused",
    RegistrationEvent.EXPIRE: "expired",
    RegistrationEvent.WITHDRAW: "withdrawn",
}


async def close(
    conn: Connection, registration: Registration, event: RegistrationEvent, *, actor_id: str | None, now: datetime
) -> tuple[Registration, list[Erased]]:
    """Ends an open registration without a binding; the caller holds the locks of circle and registration.

    An agreement that was signed for it stays: the payer may use it again (24a), or end it.

    Raises: WrongState if it is closed already.
    """
    await store.move(conn, registration, event, now=now)
    await audit.record(conn, registration.lane, Event(f"registration.{_WHY[event]}", registration.id, {}, actor_id), now=now)
    await cancel_open_capture(conn, registration, reason=_WHY[event], actor_id=actor_id, now=now)
    erased = await lapse_finding(conn, registration, reason=_WHY[event], now=now)
    if registration.template_id is not None:
        gone = await enrol.destroy(conn, registration.template_id, reason=_WHY[event], lane=registration.lane, now=now)
        erased += [] if gone is None else [gone]
    if registration.mandate_id is not None:
        await withdraw_mandate(conn, registration.mandate_id, now=now)
    await revoke_provisional_cards(conn, registration)
    closed = await store.reread(conn, registration)
    await tell.of_outcome(conn, _TOLD[event], closed, now=now)
    return closed, erased


async def withdraw(conn: Connection, actor: Actor, *, registration_id: str, now: datetime) -> tuple[Registration, list[Erased]]:
    """The spender, or the terminal that stands for them, takes the request back; doing it twice is the same.

    Raises: NotFound for everybody else; WrongState once it is closed otherwise.
    """
    seen = await store.find(conn, registration_id)
    if seen is None or not (actor.id == seen.spender_id or await stands_for_spender(conn, actor, seen)):
        raise NotFound()
    registration = await store.lock(conn, registration_id)
    if registration.state is RegistrationState.WITHDRAWN:
        return registration, []
    if not registration.is_open:
        raise WrongState("registration", state=str(registration.state), event="withdraw")
    return await close(conn, registration, RegistrationEvent.WITHDRAW, actor_id=actor.id, now=now)


async def stands_for_spender(conn: Connection, actor: Actor, registration: Registration) -> bool:
    """Whether the asker is the terminal at which a person without a phone registered."""
    if actor.id != registration.terminal_id:
        return False
    spender = await person_row(conn, registration.spender_id)
    return spender is not None and spender.assisted


IS_OVERDUE = Sql("""
    SELECT EXISTS (SELECT FROM template WHERE id = :template_id
                   AND (destroyed_at IS NOT NULL OR provisional_until <= :now))
""")


async def is_overdue(conn: Connection, template_id: str, *, now: datetime) -> bool:
    """Whether a template has outlived its minutes, or is destroyed already."""
    return bool(await IS_OVERDUE.value(conn, template_id=template_id, now=now))


async def forget_template(conn: Connection, registration: Registration, *, now: datetime) -> tuple[Registration, list[Erased]]:
    """Destroys a template that outlived its minutes and tells its spender; a new capture is asked for once it is due."""
    template_id = registration.template_id
    assert template_id is not None
    erased = await enrol.destroy(conn, template_id, reason="provisional_life_over", lane=registration.lane, now=now)
    registration = await store.note_enrolment(conn, registration, template_id=None, now=None)
    await tell.spender_of(conn, "capture_lapsed", registration, now=now, extra={"reason": "provisional_life_over"})
    return registration, [] if erased is None else [erased]


async def expire_registrations(db: Database, keyring: Keyring) -> int:
    """The scheduled task: ends what nobody completed in time, each in a transaction of its own; returns how many."""
    async with db.transaction() as conn:
        due = await store.lapsed(conn, now=await database_now(conn), limit=SWEEP)
    for registration_id in due:
        async with db.transaction() as conn:
            erased = await _expire(conn, registration_id)
        await enrol.finish(keyring, erased)
    return len(due)


async def _expire(conn: Connection, registration_id: str) -> list[Erased]:
    registration = await store.lock(conn, registration_id)
    now = await database_now(conn)
    if not registration.is_open or registration.expires_at > now:
        return []
    _, erased = await close(conn, registration, RegistrationEvent.EXPIRE, actor_id=None, now=now)
    return erased


async def expire_provisional(db: Database, keyring: Keyring) -> int:
    """The scheduled task of order B: destroys templates past their minutes, also while the request is still open (A12)."""
    async with db.transaction() as conn:
        due = await store.overdue_templates(conn, now=await database_now(conn), limit=SWEEP)
    for row in due:
        async with db.transaction() as conn:
            erased = await _drop_overdue(conn, row["registration_id"], row["template_id"], row["operator_id"])
        await enrol.finish(keyring, erased)
    return len(due)


async def _drop_overdue(conn: Connection, registration_id: str | None, template_id: str, operator_id: str) -> list[Erased]:
    """Destroys it unless it was bound meanwhile."""
    registration = None if registration_id is None else await store.lock(conn, registration_id)
    now = await database_now(conn)
    if not await is_overdue(conn, template_id, now=now):
        return []
    if registration is not None and registration.is_open and registration.template_id == template_id:
        _, erased = await forget_template(conn, registration, now=now)
        return erased
    finding = None if registration is None else await open_finding(conn, registration.id)
    if registration is not None and finding is not None and finding.template_id == template_id:
        erased = await lapse_finding(conn, registration, reason="provisional_life_over", now=now)
        await tell.spender_of(conn, "capture_lapsed", registration, now=now, extra={"reason": "provisional_life_over"})
        return erased
    lane = operator_id if registration is None else registration.lane
    gone = await enrol.destroy(conn, template_id, reason="provisional_life_over", lane=lane, now=now)
    return [] if gone is None else [gone]
