"""How sittings and faces are asked for over HTTP: by the terminal before whose camera somebody stands, and by people."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from kinpay.biometrics import enrol
from kinpay.biometrics.keyring import Keyring
from kinpay.database.pool import Database, database_now
from kinpay.faces.quality import GUIDANCE, Advice
from kinpay.primitives.actor import actor_of, person_of, staff_of, terminal_of
from kinpay.primitives.errors import MethodNotOffered, NotFound
from kinpay.primitives.fields import Id, refuse_key
from kinpay.primitives.money import Money
from kinpay.sittings import bodies, erase, store
from kinpay.sittings.begin import begin_paying
from kinpay.sittings.claim import Claim
from kinpay.sittings.consent import consents_of
from kinpay.sittings.consent_text import consent_text
from kinpay.sittings.desk import Desk
from kinpay.sittings.errors import SittingLate
from kinpay.sittings.examine import examine, look_once
from kinpay.sittings.frames import FEWEST, Taken, read_frames, read_picture
from kinpay.sittings.guidance import guidance
from kinpay.sittings.pin import has_pin
from kinpay.sittings.recognise import Concluded, let_go, recognise
from kinpay.sittings.reset import lock_of_terminal, reset_terminal
from kinpay.sittings.sitting import Purpose, Sitting, SittingRules, SittingState
from kinpay.sittings.step_up import try_pin
from kinpay.sittings.take import take
from kinpay.terminals.authenticate import by_own_key
from kinpay.terminals.codes import Codes

LARGE = re.compile(r"/v1/terminal/(captures/[0-9a-f]{32}/)?sittings/[0-9a-f]{32}/(frames|look)")
"""Where pictures come."""
PAYING = frozenset({Purpose.RECOGNISE, Purpose.VERIFY})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rooms:
    db: Database
    codes: Codes
    keyring: Keyring
    desk: Desk | None

    def open_desk(self) -> Desk:
        """Raises: MethodNotOffered where this house has no model."""
        if self.desk is None:
            raise MethodNotOffered(method="face")
        return self.desk


def router(db: Database, *, codes: Codes, keyring: Keyring, desk: Desk | None) -> APIRouter:
    """Every route of this package; who may ask is checked in each. `desk` None: no face is offered here."""
    rooms = _Rooms(db=db, codes=codes, keyring=keyring, desk=desk)
    api = APIRouter(prefix="/v1", tags=["faces"])
    for part in (_paying_routes, _looking_routes, _people_routes, _staff_routes):
        part(api, rooms)
    return api


def large_bodies(path: str) -> int | None:
    """For the guard: how large the body of `path` may be, where it holds pictures."""
    if not LARGE.fullmatch(path):
        return None
    rules = SittingRules()
    return (rules.frames_at_most if path.endswith("frames") else 1) * (rules.picture_bytes * 4 // 3 + 100) + 4096


def shown_sitting(sitting: Sitting, rules: SittingRules) -> bodies.SittingOut:
    """The challenge, for the terminal that is to show it."""
    return bodies.SittingOut(
        sitting_id=sitting.id,
        nonce=sitting.nonce,
        acts=[act.value for act in sitting.acts],
        guidance=[bodies.SentenceOut(**sentence) for sentence in guidance(sitting.acts)],
        expires_at=sitting.expires_at,
        from_first_frame_s=int(rules.from_first_frame.total_seconds()),
        frames_at_least=FEWEST,
        frames_at_most=rules.frames_at_most,
        picture_bytes_at_most=rules.picture_bytes,
    )


def hints(advice: tuple[Advice, ...]) -> list[bodies.Hint]:
    """What to do better, in both languages."""
    return [bodies.Hint(problem=one.value, zh=GUIDANCE[one].zh, en=GUIDANCE[one].en) for one in advice]


def taken_frames(body: bodies.FramesIn, rules: SittingRules) -> list[Taken]:
    """The frames of a request. Raises: Invalid."""
    return read_frames([(frame.at_ms, frame.picture) for frame in body.frames], rules)


def _paying_routes(api: APIRouter, rooms: _Rooms) -> None:
    @api.post("/terminal/sittings", status_code=201)
    async def post_sitting(http: Request, body: bodies.SittingIn) -> bodies.SittingOut:
        """A challenge for a payment by face; what this terminal began before is over."""
        refuse_key(http.headers.get("idempotency-key"))
        actor, desk = terminal_of(http.state), rooms.open_desk()
        claim = None if body.claim is None else Claim(code=body.claim.code, phone_digits=body.claim.phone_digits)
        async with rooms.db.transaction() as conn:
            sitting = await begin_paying(
                conn,
                rooms.codes,
                actor,
                keys=desk.keys,
                amount=Money(body.amount_minor, body.currency),
                claim=claim,
                rules=desk.rules,
                now=await database_now(conn),
            )
        return shown_sitting(sitting, desk.rules)

    @api.post("/terminal/sittings/{sitting_id}/frames")
    async def post_frames(http: Request, sitting_id: Id, body: bodies.FramesIn) -> bodies.PaidByFaceOut:
        """The frames, once, signed with the terminal's own key: who it is, or what else would do."""
        refuse_key(http.headers.get("idempotency-key"))
        actor, desk = by_own_key(http.state), rooms.open_desk()
        frames = taken_frames(body, desk.rules)
        desk.examiner.require_room()
        sitting = await take(rooms.db, actor, sitting_id=sitting_id, nonce=body.nonce, purposes=PAYING)
        try:
            examined = await desk.examiner.run(lambda engine: examine(engine, frames, sitting.acts, enrolling=False))
        except BaseException:
            await let_go(rooms.db, sitting, reason="not_examined")
            raise
        concluded = await recognise(rooms.db, desk, sitting, examined=examined)
        return _shown(concluded, examined.advice)

    @api.post("/terminal/sittings/{sitting_id}/pin")
    async def post_pin(http: Request, sitting_id: Id, body: bodies.PinIn) -> bodies.PaidByFaceOut:
        """The PIN after a step-up, once: a token if it is that of whoever stands there."""
        refuse_key(http.headers.get("idempotency-key"))
        actor, desk = terminal_of(http.state), rooms.open_desk()
        return _shown(await try_pin(rooms.db, desk, actor, sitting_id=sitting_id, pin=body.pin), ())


def _shown(concluded: Concluded, advice: tuple[Advice, ...]) -> bodies.PaidByFaceOut:
    outcome = "recognised" if concluded.token is not None else "refused" if concluded.reasons else "step_up"
    return bodies.PaidByFaceOut.model_validate(
        {
            "outcome": outcome,
            "face": concluded.token,
            "asks": list(concluded.asks),
            "reasons": list(concluded.reasons),
            "hints": hints(advice),
            "expires_at": concluded.expires_at,
        }
    )


def _looking_routes(api: APIRouter, rooms: _Rooms) -> None:
    @api.post("/terminal/sittings/{sitting_id}/look")
    async def post_look(http: Request, sitting_id: Id, body: bodies.LookIn) -> bodies.LookOut:
        """Judges one picture for guidance, while the challenge stands. Nothing of it is kept or compared with anybody."""
        actor, desk = terminal_of(http.state), rooms.open_desk()
        async with rooms.db.connection() as conn:
            sitting = await store.find(conn, sitting_id)
        if sitting is None or sitting.terminal_id != actor.id:
            raise NotFound()
        if sitting.state is not SittingState.ASKED:
            raise SittingLate()
        enrolling = sitting.purpose is Purpose.ENROL
        picture = read_picture(body.picture, desk.rules)
        advice = await desk.examiner.run(lambda engine: look_once(engine, picture.open(), enrolling=enrolling))
        return bodies.LookOut(good=not advice, hints=hints(advice))

    @api.get("/face-consent-text")
    async def get_consent_text(http: Request, language: Annotated[bodies.Language, Query()]) -> bodies.ConsentTextOut:
        """What is to be read before a face is kept."""
        actor_of(http.state)
        text = consent_text(language)
        return bodies.ConsentTextOut(version=text.version, language=language, text=text.text, sha256=text.digest.hex())


def _people_routes(api: APIRouter, rooms: _Rooms) -> None:
    @api.get("/people/{person_id}/face")
    async def get_face(http: Request, person_id: Id) -> bodies.FaceOut:
        """What is kept of a face: to its person, and to who pays for a minor or for somebody without a phone."""
        actor = person_of(http.state)
        async with rooms.db.connection() as conn:
            person = await erase.person_seen_by(conn, actor, person_id, now=await database_now(conn))
            templates = await erase.templates_of(conn, person.id)
            consents = await consents_of(conn, person.id)
            pin = await has_pin(conn, person.id)
        return bodies.FaceOut(
            person_id=person.id,
            enrolled=any(one.erased_at is None and not one.provisional for one in templates),
            has_pin=pin,
            templates=[_template(one) for one in templates],
            consents=[bodies.ConsentOut.of(one) for one in consents],
        )

    @api.delete("/people/{person_id}/face")
    async def delete_face(http: Request, person_id: Id) -> bodies.ErasedOut:
        """Withdraws a face, at once and everywhere; the answer is the receipt. Mandate, card and codes stay."""
        actor = person_of(http.state)
        async with rooms.db.transaction() as conn:
            now = await database_now(conn)
            person = await erase.person_seen_by(conn, actor, person_id, now=now)
            erased = await erase.erase_face(conn, person, by=actor.id, now=now)
        await enrol.finish(rooms.keyring, erased)
        return bodies.ErasedOut(
            person_id=person_id, was_enrolled=bool(erased), erased=[one.template_id for one in erased], erased_at=now
        )


def _template(kept: erase.KeptTemplate) -> bodies.TemplateOut:
    return bodies.TemplateOut(
        template_id=kept.id,
        model=kept.model,
        modality=kept.modality,
        site=kept.site_name,
        made_at=kept.made_at,
        provisional=kept.provisional,
        erased_at=kept.erased_at,
        erased_reason=kept.erased_reason,
    )


def _staff_routes(api: APIRouter, rooms: _Rooms) -> None:
    @api.get("/terminals/{terminal_id}/face-lock")
    async def get_face_lock(http: Request, terminal_id: Id) -> bodies.LockOut:
        """What wrong faces came to at a terminal."""
        asker = staff_of(http.state, "owner", "installer", "support")
        async with rooms.db.connection() as conn:
            lock = await lock_of_terminal(conn, asker, terminal_id, now=await database_now(conn))
        return bodies.LockOut(
            terminal_id=terminal_id,
            in_a_row=lock.in_a_row,
            tally=lock.tally,
            locked_until=lock.locked_until,
            disabled_at=lock.disabled_at,
        )

    @api.delete("/terminals/{terminal_id}/face-lock", status_code=204)
    async def delete_face_lock(http: Request, terminal_id: Id) -> Response:
        """Lets a terminal look at faces again, once somebody has seen what happened there."""
        asker = staff_of(http.state, "owner", "support")
        async with rooms.db.transaction() as conn:
            await reset_terminal(conn, asker, terminal_id, now=await database_now(conn))
        return Response(status_code=204)
