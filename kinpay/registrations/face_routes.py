"""How enrolling a face is asked for over HTTP: by the terminal, by the payer of a minor, by the staff who have to look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request

from kinpay.biometrics import enrol
from kinpay.biometrics.galleries import Duplicate
from kinpay.biometrics.gallery_store import Scope
from kinpay.biometrics.keyring import Keyring
from kinpay.biometrics.template import Sample
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection
from kinpay.mandates.store import names_of
from kinpay.people.asked import After, Most
from kinpay.people.store import person_row
from kinpay.primitives.actor import person_of, staff_of
from kinpay.primitives.errors import ConsentFirst, MethodNotOffered, NotFound
from kinpay.primitives.fields import Id, refuse_key
from kinpay.registrations import face_bodies, store, view
from kinpay.registrations.capture import find_capture
from kinpay.registrations.enrol_face import begin_enrolment, consent_as_payer, decide_finding, take_sample
from kinpay.registrations.finding import Finding, findings_of
from kinpay.registrations.registration import Capture, Registration, Rules
from kinpay.sittings import bodies
from kinpay.sittings.consent_text import current
from kinpay.sittings.desk import Desk
from kinpay.sittings.examine import TEMPLATE_PICTURES, Examined, examine
from kinpay.sittings.pin import require_hard
from kinpay.sittings.recognise import let_go
from kinpay.sittings.routes import hints, shown_sitting, taken_frames
from kinpay.sittings.sitting import Purpose, Sitting
from kinpay.sittings.take import take
from kinpay.terminals.authenticate import by_own_key


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rooms:
    db: Database
    keyring: Keyring
    desk: Desk | None
    rules: Rules

    def open_desk(self) -> Desk:
        """Raises: MethodNotOffered where this house has no model."""
        if self.desk is None:
            raise MethodNotOffered(method="face")
        return self.desk


def router(db: Database, *, keyring: Keyring, desk: Desk | None, rules: Rules | None = None) -> APIRouter:
    """Every route about enrolling faces; who may ask is checked in each."""
    rooms = _Rooms(db=db, keyring=keyring, desk=desk, rules=rules or Rules())
    api = APIRouter(prefix="/v1", tags=["faces"])
    for part in (_terminal_routes, _payer_routes, _staff_routes):
        part(api, rooms)
    return api


def _terminal_routes(api: APIRouter, rooms: _Rooms) -> None:
    @api.post("/terminal/captures/{capture_id}/sittings", status_code=201)
    async def post_enrol_sitting(http: Request, capture_id: Id, body: bodies.ConsentIn) -> bodies.SittingOut:
        """A challenge for an open capture, once the spender agreed to the text on this terminal's screen."""
        refuse_key(http.headers.get("idempotency-key"))
        actor, desk = by_own_key(http.state), rooms.open_desk()
        text = current(body.language, body.version)
        async with rooms.db.transaction() as conn:
            now = await database_now(conn)
            begun = await begin_enrolment(
                conn, actor, capture_id=capture_id, text=text, rules=rooms.rules, sitting_rules=desk.rules, now=now
            )
        if isinstance(begun, ConsentFirst):
            # Raised after the commit: the payer has been told that their word is waited for.
            raise begun
        return shown_sitting(begun, desk.rules)

    @api.post("/terminal/captures/{capture_id}/sittings/{sitting_id}/frames")
    async def post_enrol_frames(
        http: Request, capture_id: Id, sitting_id: Id, body: bodies.EnrolFramesIn
    ) -> face_bodies.EnrolledOut:
        """The frames, once, signed with the terminal's own key; three good ones make the template, and are then forgotten."""
        refuse_key(http.headers.get("idempotency-key"))
        actor, desk = by_own_key(http.state), rooms.open_desk()
        frames = taken_frames(body, desk.rules)
        capture = await _capture_at(rooms.db, capture_id, actor.id)
        if body.pin is not None:
            await _require_hard(rooms.db, body.pin, capture.person_id)
        desk.examiner.require_room()
        purposes = frozenset({Purpose.ENROL})
        sitting = await take(rooms.db, actor, sitting_id=sitting_id, nonce=body.nonce, purposes=purposes)
        try:
            if sitting.capture_id != capture_id:
                raise NotFound()
            examined = await desk.examiner.run(lambda engine: examine(engine, frames, sitting.acts, enrolling=True))
            duplicate = None
            if examined.sample is not None:
                duplicate = await _duplicate(desk, sitting, examined.sample, own_person_id=capture.person_id)
            return await _enrol(rooms, desk, sitting, examined=examined, duplicate=duplicate, pin=body.pin)
        except BaseException:
            await let_go(rooms.db, sitting, reason="not_enrolled")
            raise


async def _capture_at(db: Database, capture_id: str, terminal_id: str) -> Capture:
    """Raises: NotFound for another terminal's capture."""
    async with db.connection() as conn:
        capture = await find_capture(conn, capture_id)
    if capture is None or capture.terminal_id != terminal_id:
        raise NotFound()
    return capture


async def _require_hard(db: Database, pin: str, person_id: str) -> None:
    """Before anything is used up. Raises: Invalid."""
    async with db.connection() as conn:
        person = await person_row(conn, person_id)
    require_hard(pin, birth_date=None if person is None else person.birth_date)


async def _duplicate(desk: Desk, sitting: Sitting, sample: Sample, *, own_person_id: str) -> Duplicate | None:
    """Whether somebody else's account at this operator has the face, at whatever site."""
    scope = Scope(
        operator_id=sitting.operator_id,
        site_id=None,
        model_id=sample.model_id,
        dimension=sample.dimension,
        pictures=TEMPLATE_PICTURES,
    )
    return await desk.galleries.duplicates(scope, sample, own_person_id=own_person_id)


async def _enrol(
    rooms: _Rooms, desk: Desk, sitting: Sitting, *, examined: Examined, duplicate: Duplicate | None, pin: str | None
) -> face_bodies.EnrolledOut:
    """Writes what the frames came to, and shows the registration as it is then."""
    if examined.sample is None:
        await let_go(rooms.db, sitting, reason=(*examined.reasons, "unknown")[0])
        async with rooms.db.connection() as conn:
            registration = await _registration_of(conn, sitting)
            return await _shown(conn, registration, sitting, examined=examined, outcome="refused")
    async with rooms.db.transaction() as conn:
        now = await database_now(conn)
        done = await take_sample(
            conn, desk, sitting, sample=examined.sample, duplicate=duplicate, pin=pin, rules=rooms.rules, now=now
        )
        outcome = "waits" if done.waits else "enrolled"
        shown = await _shown(conn, done.registration, sitting, examined=examined, outcome=outcome)
    await enrol.finish(rooms.keyring, done.erased)
    return shown


async def _registration_of(conn: Connection, sitting: Sitting) -> Registration:
    capture = await find_capture(conn, str(sitting.capture_id))
    assert capture is not None, "captures are never deleted"
    registration = await store.find(conn, capture.registration_id)
    assert registration is not None, "registrations are never deleted"
    return registration


async def _shown(
    conn: Connection, registration: Registration, sitting: Sitting, *, examined: Examined, outcome: str
) -> face_bodies.EnrolledOut:
    return face_bodies.EnrolledOut.model_validate(
        {
            "outcome": outcome,
            "reasons": list(examined.reasons),
            "hints": hints(examined.advice),
            "registration": await view.terminal_view(conn, registration, terminal_id=sitting.terminal_id),
        }
    )


def _payer_routes(api: APIRouter, rooms: _Rooms) -> None:
    @api.post("/registrations/{registration_id}/face-consent", status_code=201)
    async def post_face_consent(http: Request, registration_id: Id, body: bodies.ConsentIn) -> bodies.ConsentOut:
        """The payer's separate consent to the spender's face, which a minor's, and one of unknown age, needs first."""
        actor = person_of(http.state)
        text = current(body.language, body.version)
        async with rooms.db.transaction() as conn:
            now = await database_now(conn)
            given = await consent_as_payer(conn, actor, registration_id=registration_id, text=text, now=now)
        return bodies.ConsentOut.of(given)


def _staff_routes(api: APIRouter, rooms: _Rooms) -> None:
    @api.get("/face-findings")
    async def get_findings(
        http: Request, open_only: Annotated[bool, Query()] = True, limit: Most = 50, after: After = None
    ) -> face_bodies.FindingList:
        """Faces that another account has already, for somebody to look at."""
        asker = staff_of(http.state, "owner", "support")
        async with rooms.db.connection() as conn:
            found = await findings_of(conn, asker.operator_id, open_only=open_only, after=after, limit=limit)
            names = await _names(conn, found)
        shown = [face_bodies.shown_finding(one, names) for one in found]
        return face_bodies.FindingList(findings=shown, next=found[-1].id if len(found) == limit else None)

    @api.post("/face-findings/{finding_id}/decide")
    async def post_decide(http: Request, finding_id: Id, body: face_bodies.FindingDecision) -> face_bodies.FindingOut:
        """What somebody who looked says. Two people: the registration goes on. One: the template is destroyed."""
        asker = staff_of(http.state, "owner", "support")
        async with rooms.db.transaction() as conn:
            same = body.decision == "same_person"
            decided, erased = await decide_finding(conn, asker, finding_id=finding_id, same=same)
            names = await _names(conn, [decided])
        await enrol.finish(rooms.keyring, erased)
        return face_bodies.shown_finding(decided, names)


async def _names(conn: Connection, findings: list[Finding]) -> dict[str, str]:
    people = {person for one in findings for person in (one.person_id, *one.alike)}
    return dict(await names_of(conn, sorted(people)))
