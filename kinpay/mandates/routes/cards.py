"""Printed cards, and the codes that a spender's phone shows."""

from __future__ import annotations

import segno
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from kinpay.database.idempotency import Answer, once
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection
from kinpay.mandates import bodies, credential
from kinpay.people.asked import After, Most, next_after, request_key, said
from kinpay.people.store import lock_as_member, people_of, require_member
from kinpay.primitives.actor import Actor, person_of
from kinpay.primitives.errors import Forbidden, NotFound
from kinpay.primitives.fields import Id
from kinpay.primitives.server_keys import ServerKeys
from kinpay.terminals.codes import Codes
from kinpay.terminals.emv_codes import consumer_presented


def router(db: Database, *, keys: ServerKeys, codes: Codes) -> APIRouter:
    """The routes of cards and pay codes."""
    api = APIRouter(prefix="/v1", tags=["cards"])
    _issuing(api, db, keys, codes)
    _looking(api, db)
    _paying(api, db, codes)
    return api


def card_svg(code: str) -> str:
    """The QR code of a card as an SVG element, with a quiet zone, in module units scaled by four."""
    return segno.make_qr(code, error="m").svg_inline(scale=4)


def _issuing(api: APIRouter, db: Database, keys: ServerKeys, codes: Codes) -> None:
    @api.post("/circles/{circle_id}/cards", status_code=201, response_model=bodies.CardIssuedOut)
    async def post_card(request: Request, circle_id: Id, body: bodies.CardIn) -> JSONResponse:
        """Issues a card to a spender of the circle; older ones of theirs are revoked. Its cap binds beside the mandates."""
        actor = person_of(request.state)
        key = await request_key(request, actor, operation="card.issue", keys=keys)

        async def effect(conn: Connection) -> Answer:
            await _require_issuer(conn, actor, circle_id=circle_id, person_id=body.person_id)
            made = await credential.issue_card(
                conn,
                codes,
                keys=keys,
                circle_id=circle_id,
                person_id=body.person_id,
                terms=body.terms or credential.card_terms(body.currency),
                pin=body.pin,
                now=await database_now(conn),
                actor_id=actor.id,
            )
            # The code itself is not kept with the answer: it is as good as the card, and is made again from its id.
            return Answer(201, {"card_id": made.credential_id})

        given = await once(db, key, effect)
        async with db.connection() as conn:
            code = await credential.card_code(conn, codes, str(given.body["card_id"]))
        shown = bodies.CardIssuedOut(card_id=str(given.body["card_id"]), code=code, svg=card_svg(code))
        return said(Answer(given.status, shown.model_dump(mode="json"), replayed=given.replayed))

    @api.delete("/cards/{card_id}")
    async def delete_card(request: Request, card_id: Id) -> bodies.CardOut:
        """Makes a card worthless at once; its bearer or a payer of the circle may."""
        actor = person_of(request.state)
        async with db.transaction() as conn:
            revoked = await credential.revoke_card(conn, credential_id=card_id, person_id=actor.id)
        return bodies.CardOut.of(revoked)


async def _require_issuer(conn: Connection, actor: Actor, *, circle_id: str, person_id: str) -> None:
    """A payer, for a spender of the same circle. Raises: NotFound; Forbidden."""
    _, roles = await lock_as_member(conn, circle_id, actor.id)
    if "payer" not in roles:
        raise Forbidden()
    if person_id not in await people_of(conn, circle_id, "spender"):
        raise NotFound()


def _looking(api: APIRouter, db: Database) -> None:
    @api.get("/circles/{circle_id}/cards")
    async def get_cards(request: Request, circle_id: Id, after: After = None, limit: Most = 50) -> bodies.CardsOut:
        """The circle's cards for its payers; their own for everybody else in it."""
        actor = person_of(request.state)
        async with db.connection() as conn:
            roles = await require_member(conn, circle_id, actor.id)
            only = None if "payer" in roles else actor.id
            found = await credential.cards_of(conn, circle_id, person_id=only, after=after, limit=limit)
        return bodies.CardsOut(cards=[bodies.CardOut.of(one) for one in found], next=next_after(found, limit))


def _paying(api: APIRouter, db: Database, codes: Codes) -> None:
    @api.post("/pay-codes", status_code=201)
    async def post_pay_code(request: Request, body: bodies.PayCodeIn) -> bodies.PayCodeOut:
        """A one-time code for the spender's phone to show; it selects the circle."""
        actor = person_of(request.state)
        async with db.transaction() as conn:
            made = await credential.make_pay_code(conn, codes, circle_id=body.circle_id, person_id=actor.id)
        assert made.expires_at is not None
        return bodies.PayCodeOut(pay_code=made.code, expires_at=made.expires_at, emv_code=consumer_presented(made.code))
