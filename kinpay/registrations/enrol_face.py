"""Enrolling a face at the terminal ([0027]): consents first, then a sitting, then a template, unless somebody has to look.

It ends where a terminal's own template ends, too (`captured.py`); what differs is who made it and what was checked before.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from kinpay.biometrics import enrol
from kinpay.biometrics.enrol import Erased
from kinpay.biometrics.galleries import Duplicate
from kinpay.biometrics.template import Sample
from kinpay.database import audit, outbox
from kinpay.database.audit import Event
from kinpay.database.pool import database_now
from kinpay.database.sql import Connection, Sql
from kinpay.people.person import Person
from kinpay.people.store import person_row
from kinpay.primitives.actor import Actor
from kinpay.primitives.clock import local_date
from kinpay.primitives.errors import ConsentFirst, NotFound, WrongState
from kinpay.registrations import captured, store, tell
from kinpay.registrations.bind import advance
from kinpay.registrations.capture import move_capture
from kinpay.registrations.expire import is_overdue
from kinpay.registrations.finding import Finding, FindingEvent, find_finding, move_finding, note_finding
from kinpay.registrations.registration import (
    Capture,
    CaptureEvent,
    CaptureState,
    Registration,
    Rules,
    capture_is_due,
)
from kinpay.registrations.request import years_old
from kinpay.sittings import consent
from kinpay.sittings import store as sittings
from kinpay.sittings.begin import begin_enrolling
from kinpay.sittings.consent_text import ConsentText
from kinpay.sittings.desk import Desk
from kinpay.sittings.errors import SittingLate
from kinpay.sittings.pin import set_pin
from kinpay.sittings.sitting import Sitting, SittingEvent, SittingRules, SittingState

OPERATOR_ZONE = Sql("SELECT time_zone FROM operator WHERE id = :operator_id")


def payer_first(birth_date: date | None, today: date, rules: Rules) -> bool:
    """Whether a payer has to consent to the face beforehand: for the young, and for those whose age nobody knows."""
    return birth_date is None or years_old(birth_date, today) < rules.minor_below_years


async def consent_as_payer(
    conn: Connection, actor: Actor, *, registration_id: str, text: ConsentText, now: datetime
) -> consent.Consent:
    """The payer's separate word for the spender's face. Twice is as good as once.

    Raises: NotFound for everybody else, and for a registration without a capture; WrongState once it is closed.
    """
    seen = await store.find(conn, registration_id)
    if seen is None or seen.payer_id != actor.id or not seen.needs_capture:
        raise NotFound()
    registration = await store.lock(conn, registration_id)
    if not registration.is_open:
        raise WrongState("registration", state=str(registration.state), event="face_consent")
    consent_id = await consent.give(
        conn,
        text,
        person_id=registration.spender_id,
        given_by=actor.id,
        registration_id=registration.id,
        terminal_id=None,
        lane=registration.lane,
        now=now,
    )
    (given,) = [one for one in await consent.consents_of(conn, registration.spender_id) if one.id == consent_id]
    return given


async def begin_enrolment(
    conn: Connection,
    actor: Actor,
    *,
    capture_id: str,
    text: ConsentText,
    rules: Rules,
    sitting_rules: SittingRules,
    now: datetime,
) -> Sitting | ConsentFirst:
    """A challenge for an open capture at the asking terminal, on whose screen the spender agreed to `text`.

    ConsentFirst while the payer of a minor has not consented; they are told, once, in the caller's transaction.
    Raises: NotFound for another terminal's; WrongState.
    """
    registration, capture = await captured.lock_capture(conn, actor.id, capture_id=capture_id)
    _require_due(registration, capture, now=now)
    spender = await _spender(conn, registration)
    zone: str = await OPERATOR_ZONE.value(conn, operator_id=registration.operator_id)
    if payer_first(spender.birth_date, local_date(now, zone), rules):
        named = {"registration_id": registration.id, "person_id": spender.id}
        if registration.payer_id is None or not await consent.is_given(conn, **named, given_by=registration.payer_id):
            await _ask_payer(conn, registration, now=now)
            return ConsentFirst(reason="face", age_known=spender.birth_date is not None)
    consent_id = await consent.give(
        conn,
        text,
        person_id=spender.id,
        given_by=spender.id,
        registration_id=registration.id,
        terminal_id=actor.id,
        lane=registration.lane,
        now=now,
    )
    return await begin_enrolling(conn, actor, capture_id=capture.id, consent_id=consent_id, rules=sitting_rules, now=now)


WAS_ASKED = Sql("""
    SELECT EXISTS (SELECT FROM audit_event WHERE subject_id = :registration_id AND kind = 'face_consent.wanted')
""")


async def _ask_payer(conn: Connection, registration: Registration, *, now: datetime) -> None:
    """Tells the payer, once, that somebody stands at a terminal and waits for their word."""
    if await WAS_ASKED.value(conn, registration_id=registration.id):
        return
    await audit.record(conn, registration.lane, Event("face_consent.wanted", registration.id, {}), now=now)
    await tell.payer_of(conn, "face_consent_wanted", registration, now=now)


def _require_due(registration: Registration, capture: Capture, *, now: datetime) -> None:
    if not capture_is_due(registration) or registration.expires_at <= now or capture.state is not CaptureState.ASKED:
        raise WrongState("capture", state=str(capture.state), event="capture")


async def _spender(conn: Connection, registration: Registration) -> Person:
    spender = await person_row(conn, registration.spender_id)
    assert spender is not None, "a spender is a person"
    return spender


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """What became of it: `waits`, because somebody has to look; `erased`: for `enrol.finish`, after the commit."""

    registration: Registration
    waits: bool
    erased: list[Erased]


async def take_sample(
    conn: Connection,
    desk: Desk,
    sitting: Sitting,
    *,
    sample: Sample,
    duplicate: Duplicate | None,
    pin: str | None,
    rules: Rules,
    now: datetime,
) -> Enrolled:
    """Keeps the template that a sitting came to, provisionally until the rest of the checklist is there, and binds if it is.

    Raises: SittingLate; WrongState when the capture was cancelled meanwhile.
    """
    assert sitting.capture_id is not None, "a sitting to enrol"
    registration, capture = await captured.lock_capture(conn, sitting.terminal_id, capture_id=sitting.capture_id)
    found = await sittings.lock(conn, sitting.id)
    if found is None or found.state is not SittingState.TAKEN:
        raise SittingLate()
    _require_due(registration, capture, now=now)
    waits = duplicate is not None and registration.consented_at is not None
    until = registration.expires_at if waits else min(now + rules.provisional_life, registration.expires_at)
    template_id = await enrol.enrol_sample(
        conn,
        desk.keyring,
        desk.rotations,
        person_id=registration.spender_id,
        sample=sample,
        captured_by=sitting.terminal_id,
        provisional_until=until,
        lane=registration.lane,
        now=now,
    )
    if pin is not None:
        await set_pin(conn, desk.keys, registration.spender_id, pin=pin, now=now)
    by = sitting.terminal_id
    await move_capture(conn, capture, CaptureEvent.CAPTURE, lane=registration.lane, reason=None, actor_id=by, now=now)
    await sittings.move(conn, sitting, SittingEvent.ACCEPT, now=now)
    if duplicate is not None:
        alike = duplicate.person_ids.open()
        await note_finding(conn, registration, capture, template_id=template_id, alike=alike, now=now)
        return Enrolled(registration=registration, waits=True, erased=[])
    bound, erased = await _tick(conn, registration, template_id=template_id, actor_id=by, now=now)
    return Enrolled(registration=bound, waits=False, erased=erased)


async def _tick(
    conn: Connection, registration: Registration, *, template_id: str, actor_id: str | None, now: datetime
) -> tuple[Registration, list[Erased]]:
    """The face is enrolled: both sides are told, and whatever is due next happens."""
    ticked = await store.note_enrolment(conn, registration, template_id=template_id, now=now)
    spender = await _spender(conn, registration)
    people = {registration.payer_id, None if spender.assisted else spender.id} - {None}
    body = {"people": sorted(filter(None, people)), "spender_id": spender.id, "spender_name": spender.display_name}
    await outbox.enqueue(conn, "notice.face_enrolled", lane=registration.lane, subject_id=registration.id, body=body, now=now)
    return await advance(conn, ticked, actor_id=actor_id, now=now)


async def decide_finding(conn: Connection, asker: Actor, *, finding_id: str, same: bool) -> tuple[Finding, list[Erased]]:
    """Somebody of the staff has looked. Two people: the registration goes on. One person: the template is destroyed.

    Raises: NotFound for another operator's; WrongState once it is decided.
    """
    seen = await find_finding(conn, finding_id)
    if seen is None or seen.operator_id != asker.operator_id:
        raise NotFound()
    registration = await store.lock(conn, seen.registration_id)
    now = await database_now(conn)
    finding = await find_finding(conn, finding_id)
    assert finding is not None, "findings are never deleted"
    overdue = await is_overdue(conn, finding.template_id, now=now)
    event = FindingEvent.LAPSE if overdue else FindingEvent.RECOGNISE if same else FindingEvent.TELL_APART
    await move_finding(conn, finding, event, by=asker.id, now=now)
    if event is FindingEvent.TELL_APART and registration.is_open:
        _, erased = await _tick(conn, registration, template_id=finding.template_id, actor_id=asker.id, now=now)
    else:
        gone = await enrol.destroy(conn, finding.template_id, reason=str(event), lane=registration.lane, now=now)
        erased = [] if gone is None else [gone]
        if registration.is_open:
            extra = {"capture_id": finding.capture_id, "reason": "looked_at"}
            await captured.tell_failure(conn, registration, extra=extra, now=now)
    decided = await find_finding(conn, finding_id)
    assert decided is not None
    return decided, erased
