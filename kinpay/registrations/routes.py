"""How registrations are asked for over HTTP: by the spender's phone, by the payer, by the terminal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from fastapi import APIRouter, Request, Response

from kinpay.biometrics import enrol
from kinpay.biometrics.enrol import Erased
from kinpay.biometrics.keyring import Keyring
from kinpay.database.idempotency import Answer, once
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection
from kinpay.mandates.provider_account import Providers
from kinpay.people.asked import After, Most, answer, request_key, said
from kinpay.people.proof import verify_proof
from kinpay.primitives.actor import Actor, actor_of, person_of
from kinpay.primitives.errors import MethodNotOffered, NotFound
from kinpay.primitives.fields import Id, read_key
from kinpay.primitives.server_keys import ServerKeys
from kinpay.registrations import bodies, captured, card, payer, store, view
from kinpay.registrations.approve import OPERATION, approval_content, approve, refuse, require_match
from kinpay.registrations.authorize import authorize
from kinpay.registrations.capture import GUIDANCE, resume_capture
from kinpay.registrations.expire import withdraw
from kinpay.registrations.registration import Rules
from kinpay.registrations.request import request, request_assisted
from kinpay.terminals.authenticate import by_own_key
from kinpay.terminals.codes import Codes

Effect = Callable[[Connection, list[Erased]], Awaitable[Answer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rooms:
    db: Database
    keys: ServerKeys
    codes: Codes
    keyring: Keyring
    providers: Providers
    public_url: str
    rules: Rules


def router(
    db: Database,
    *,
    keys: ServerKeys,
    codes: Codes,
    keyring: Keyring,
    providers: Providers,
    public_url: str,
    rules: Rules | None = None,
) -> APIRouter:
    """Every route of this package; who may ask is checked in each.

    `public_url`: where people's browsers reach us, for the way back from the provider; `rules`: the operator's, or the default.
    """
    rooms = _Rooms(
        db=db,
        keys=keys,
        codes=codes,
        keyring=keyring,
        providers=providers,
        public_url=public_url,
        rules=rules or Rules(),
    )
    api = APIRouter(prefix="/v1", tags=["registrations"])
    for part in (_spender_routes, _looking_routes, _payer_routes, _block_routes, _terminal_routes, _capture_routes):
        part(api, rooms)
    return api


def _spender_routes(api: APIRouter, rooms: _Rooms) -> None:
    @api.post("/registrations", status_code=201, response_model=bodies.SpenderView)
    async def post_registration(http: Request, body: bodies.RequestIn) -> Response:
        """Asks a payer to pay for the asking person. The answer is the same whether or not that account can be reached."""
        actor = person_of(http.state)

        async def effect(conn: Connection, _: list[Erased]) -> Answer:
            now = await database_now(conn)
            made = await request(conn, rooms.codes, actor, asked=body.asked(), rules=rooms.rules, now=now)
            return answer(201, await view.spender_view(conn, made))

        return await _once(http, rooms, actor, operation="registration.request", effect=effect)

    @api.post("/registrations/{registration_id}/withdraw")
    async def post_withdraw(http: Request, registration_id: Id) -> bodies.SpenderView | bodies.TerminalView:
        """Takes the request back: by the spender, or by the terminal that stands for them. Twice is as good as once."""
        actor = actor_of(http.state)
        async with rooms.db.transaction() as conn:
            now = await database_now(conn)
            closed, erased = await withdraw(conn, actor, registration_id=registration_id, now=now)
            is_spender = actor.id == closed.spender_id
            shown = await (
                view.spender_view(conn, closed) if is_spender else view.terminal_view(conn, closed, terminal_id=actor.id)
            )
        await enrol.finish(rooms.keyring, erased)
        return shown


def _looking_routes(api: APIRouter, rooms: _Rooms) -> None:
    @api.get("/registrations")
    async def get_registrations(
        http: Request, role: Literal["spender", "payer"], limit: Most = 50, after: After = None
    ) -> bodies.RegistrationList:
        """One's own registrations in one role, the newest first."""
        actor = person_of(http.state)
        as_payer = role == "payer"
        async with rooms.db.connection() as conn:
            ids = await store.ids_as(conn, actor.id, payer=as_payer, after=after, limit=limit)
            shown = [await _one_of_list(conn, registration_id, as_payer=as_payer) for registration_id in ids]
        return bodies.RegistrationList(registrations=shown, next=ids[-1] if len(ids) == limit else None)

    @api.get("/registrations/{registration_id}")
    async def get_registration(
        http: Request, registration_id: Id
    ) -> bodies.SpenderView | bodies.PayerView | bodies.TerminalView:
        """A registration, as it concerns whoever asks."""
        actor = actor_of(http.state)
        async with rooms.db.connection() as conn:
            return await view.look(conn, actor, registration_id=registration_id)


async def _one_of_list(conn: Connection, registration_id: str, *, as_payer: bool) -> bodies.SpenderView | bodies.PayerView:
    registration = await store.find(conn, registration_id)
    assert registration is not None, "registrations are never deleted"
    return await (view.payer_view(conn, registration) if as_payer else view.spender_view(conn, registration))


def _payer_routes(api: APIRouter, rooms: _Rooms) -> None:
    @api.post("/registrations/{registration_id}/approve", response_model=bodies.PayerView)
    async def post_approve(http: Request, registration_id: Id, body: bodies.ApproveIn) -> Response:
        """The payer's yes, with limits, provider and a fresh proof; the answer names where to sign, if there is to sign."""
        actor = person_of(http.state)
        read_key(http.headers.get("idempotency-key"))  # Before proof and number, whose attempts are counted.
        await _require_payer(rooms.db, actor, registration_id)
        approval = body.approval()
        proof_id = await verify_proof(
            rooms.db,
            actor,
            keys=rooms.keys,
            operation=OPERATION,
            subject_id=registration_id,
            content=approval_content(approval),
            proof=body.proof,
        )
        number = body.match_number
        await require_match(rooms.db, actor, registration_id=registration_id, match_number=number, proof_id=proof_id)

        async def effect(conn: Connection, erased: list[Erased]) -> Answer:
            now = await database_now(conn)
            made, gone = await approve(
                conn, actor, registration_id=registration_id, approval=approval, proof_id=proof_id, now=now
            )
            erased.extend(gone)
            return Answer(200, {"registration_id": made.id})

        given = await _run_once(http, rooms, actor, operation=OPERATION, effect=effect)
        # The kept answer only names the registration: where to sign is known after the commit; a retry hears what is so now.
        return said(Answer(given.status, await _signed_on(rooms, registration_id), given.replayed))

    @api.post("/registrations/{registration_id}/refuse", response_model=bodies.PayerView)
    async def post_refuse(http: Request, registration_id: Id, body: bodies.RefuseIn) -> Response:
        """The payer's no; what was captured meanwhile is destroyed at once."""
        actor = person_of(http.state)

        async def effect(conn: Connection, erased: list[Erased]) -> Answer:
            now = await database_now(conn)
            closed, gone = await refuse(conn, actor, registration_id=registration_id, block=body.block, now=now)
            erased.extend(gone)
            return answer(200, await view.payer_view(conn, closed))

        return await _once(http, rooms, actor, operation="registration.refuse", effect=effect)


async def _require_payer(db: Database, actor: Actor, registration_id: str) -> None:
    """Turns everybody else away before a proof is looked at. Raises: NotFound."""
    async with db.connection() as conn:
        registration = await store.find(conn, registration_id)
    if registration is None or registration.payer_id != actor.id:
        raise NotFound()


async def _signed_on(rooms: _Rooms, registration_id: str) -> dict[str, object]:
    """Has the provider asked, and shows the registration as it is then."""
    async with rooms.db.connection() as conn:
        registration = await store.find(conn, registration_id)
    assert registration is not None, "just approved"
    await authorize(rooms.db, rooms.providers, keyring=rooms.keyring, registration=registration, public_url=rooms.public_url)
    async with rooms.db.connection() as conn:
        return (await view.payer_view(conn, await store.reread(conn, registration))).model_dump(mode="json")


def _block_routes(api: APIRouter, rooms: _Rooms) -> None:
    @api.get("/registration-blocks")
    async def get_blocks(http: Request) -> bodies.BlockList:
        """Whom the asking person has blocked."""
        actor = person_of(http.state)
        async with rooms.db.connection() as conn:
            blocked = await payer.blocked_spenders(conn, actor.id)
        return bodies.BlockList(
            blocks=[bodies.BlockOut(spender_id=who.id, display_name=who.display_name, since=since) for who, since in blocked]
        )

    @api.delete("/registration-blocks/{spender_id}", status_code=204)
    async def delete_block(http: Request, spender_id: Id) -> Response:
        """Lets a spender reach the asking person again. Raises: NotFound where there is no block."""
        actor = person_of(http.state)
        async with rooms.db.transaction() as conn:
            if all(who.id != spender_id for who, _ in await payer.blocked_spenders(conn, actor.id)):
                raise NotFound()
            await payer.unblock(conn, actor.id, spender_id, now=await database_now(conn))
        return Response(status_code=204)


def _terminal_routes(api: APIRouter, rooms: _Rooms) -> None:
    @api.post("/terminal/registrations", status_code=201, response_model=bodies.TerminalView)
    async def post_assisted(http: Request, body: bodies.AssistedRequestIn) -> Response:
        """Asks a payer for a person without a phone, for whom the terminal stands; signed with the terminal's own key."""
        actor = by_own_key(http.state)

        async def effect(conn: Connection, _: list[Erased]) -> Answer:
            now = await database_now(conn)
            made = await request_assisted(conn, rooms.codes, actor, asked=body.asked(), rules=rooms.rules, now=now)
            return answer(201, await view.terminal_view(conn, made, terminal_id=actor.id))

        return await _once(http, rooms, actor, operation="registration.request_assisted", effect=effect)

    @api.post("/terminal/registrations/{registration_id}/card", status_code=201, response_model=bodies.CardOut)
    async def post_card(http: Request, registration_id: Id, body: bodies.CardIn) -> Response:
        """Issues the card of the assisted spender, with the PIN they chose; signed with the terminal's own key."""
        actor = by_own_key(http.state)

        async def effect(conn: Connection, _: list[Erased]) -> Answer:
            now = await database_now(conn)
            made = await card.print_card(
                conn,
                rooms.codes,
                actor,
                keys=rooms.keys,
                registration_id=registration_id,
                pin=body.pin,
                currency=rooms.rules.card_currency,
                now=now,
            )
            shown = bodies.CardOut(credential_id=made.credential_id, code=made.code, qr_svg=card.draw(made.code))
            return answer(201, shown)

        return await _once(http, rooms, actor, operation="registration.card", effect=effect)


def _capture_routes(api: APIRouter, rooms: _Rooms) -> None:
    @api.post("/terminal/captures/{capture_id}", response_model=bodies.CaptureTaken)
    async def post_capture(http: Request, capture_id: Id, body: bodies.CaptureIn) -> Response:
        """Takes what a terminal captured, or that it could not; signed with the terminal's own key."""
        actor = by_own_key(http.state)
        template = body.read() if body.failed is None else None
        if template is not None and not rooms.rules.terminal_templates:
            raise MethodNotOffered(method="terminal_template")

        async def effect(conn: Connection, erased: list[Erased]) -> Answer:
            now = await database_now(conn)
            if template is None:
                reason = str(body.failed)
                found = await captured.note_failure(conn, actor.id, capture_id=capture_id, reason=reason, now=now)
            else:
                found, gone = await captured.take_template(
                    conn, rooms.keyring, actor=actor, capture_id=capture_id, template=template, rules=rooms.rules, now=now
                )
                erased.extend(gone)
            shown = await view.terminal_view(conn, found, terminal_id=actor.id)
            state: Literal["captured", "failed"] = "failed" if template is None else "captured"
            return answer(200, bodies.CaptureTaken(capture_id=capture_id, state=state, registration=shown))

        return await _once(http, rooms, actor, operation="capture.finish", effect=effect)

    @api.post("/terminal/captures/{capture_id}/resume")
    async def post_resume(http: Request, capture_id: Id) -> bodies.CaptureGuidance:
        """Takes an unfinished capture over to the asking terminal, of the same operator."""
        actor = by_own_key(http.state)
        async with rooms.db.transaction() as conn:
            now = await database_now(conn)
            capture = await resume_capture(conn, actor, capture_id=capture_id, now=now)
        return bodies.CaptureGuidance(
            capture_id=capture.id,
            registration_id=capture.registration_id,
            guidance=GUIDANCE,
            expires_at=capture.expires_at,
        )


async def _once(http: Request, rooms: _Rooms, actor: Actor, *, operation: str, effect: Effect) -> Response:
    return said(await _run_once(http, rooms, actor, operation=operation, effect=effect))


async def _run_once(http: Request, rooms: _Rooms, actor: Actor, *, operation: str, effect: Effect) -> Answer:
    """Carries out an effect under the request's key and, after the commit, destroys the keys of what it erased.

    Raises: KeyMissing; KeyReused; Invalid.
    """
    erased: list[Erased] = []

    async def whole(conn: Connection) -> Answer:
        return await effect(conn, erased)

    key = await request_key(http, actor, operation=operation, keys=rooms.keys)
    given = await once(rooms.db, key, whole)
    await enrol.finish(rooms.keyring, erased)
    return given
