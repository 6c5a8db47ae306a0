"""How charges are asked for, apart from the hot route: capture, void, refund, look."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Header, Query, Request, Response

from kinpay.charges.answer import status_of, told
from kinpay.charges.history import charges_of_circle, charges_of_merchant, may_see, note_read
from kinpay.charges.reconcile import commit_retry
from kinpay.charges.refund import refund_charge, send_refund
from kinpay.charges.request import Charge
from kinpay.charges.store import read_charges
from kinpay.charges.submit import commit_debit, drive
from kinpay.charges.void import ask_void, stop_debit
from kinpay.database.idempotency import Answer, RequestKey, mark_of, once
from kinpay.database.pool import Database
from kinpay.database.sql import Connection
from kinpay.primitives.actor import Actor, ActorKind, Scope, asker_of, key_of, person_of, terminal_of
from kinpay.primitives.errors import Forbidden, NotFound
from kinpay.primitives.fields import Amount, Closed, Id, read_key
from kinpay.primitives.server_keys import ServerKeys
from kinpay.providers.contract import Adapters


class CaptureBody(Closed):
    """What was handed over; none: everything that was authorised."""

    amount_minor: Amount | None = None


class VoidBody(Closed):
    """Nothing to say."""


class RefundBody(Closed):
    """How much goes back."""

    amount_minor: Amount


class ReasonTold(Closed):
    """See `answer.ReasonAnswer`."""

    code: str
    at_most: int | None = None
    at_least: int | None = None
    used: int | None = None
    remaining: int | None = None
    resets_at: datetime | None = None


class RefusalTold(Closed):
    """See `answer.RefusalAnswer`."""

    reasons: list[ReasonTold]
    possible_now_minor: int
    again_at: datetime | None


class ItemTold(Closed):
    """See `answer.ItemAnswer`."""

    code: str
    amount_minor: int
    quantity: int


class FaceTold(Closed):
    """See `answer.FaceAnswer`."""

    bound: float
    permitted: float
    threshold: float
    gallery_size: int
    model_id: str
    factor: str


class ChargeTold(Closed):
    """See `answer.ChargeAnswer`; a test holds the two against each other."""

    id: Id
    state: str
    amount_minor: int
    currency: str
    captured_minor: int
    refunded_minor: int
    merchant_id: Id
    terminal_id: Id
    method: str
    decided_at: datetime
    hold_expires_at: datetime | None = None
    finished_at: datetime | None = None
    reference: str | None = None
    late: bool = False
    refusal: RefusalTold | None = None
    items: list[ItemTold] | None = None
    fare_minor: int | None = None
    due_on: str | None = None
    circle_id: Id | None = None
    spender_id: Id | None = None
    payer_id: Id | None = None
    mandate_id: Id | None = None
    mcc: str | None = None
    face: FaceTold | None = None


class ChargesTold(Closed):
    """A page of charges, newest first; `after` of the next page, if there is one."""

    charges: list[ChargeTold]
    after: Id | None


Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=257)]
_TOLD: dict[int | str, dict[str, Any]] = {
    201: {"model": ChargeTold, "description": "As it is now."},
    202: {"model": ChargeTold, "description": "The provider's answer is not known yet: ask again."},
}


def router(db: Database, *, keys: ServerKeys, adapters: Adapters) -> APIRouter:
    """The routes of charges."""
    routes = APIRouter(prefix="/v1", tags=["charges"])

    async def keyed(request: Request, actor: Actor, operation: str, key: str | None) -> RequestKey:
        body = await request.body()
        fingerprint = keys.mac("fingerprint", request.url.path.encode(), body)
        return RequestKey(principal_id=actor.id, operation=operation, key=read_key(key), fingerprint=fingerprint)

    async def present(charge_id: str, actor: Actor, *, replayed: bool = False) -> Response:
        async with db.connection() as conn:
            charge = await _seen_by(conn, charge_id, actor)
        answer = told(charge, to_circle=actor.kind is ActorKind.PERSON)
        headers = {"Idempotency-Replayed": "true"} if replayed else None
        return Response(msgspec.json.encode(answer), status_of(charge), headers, "application/json")

    @routes.post("/charges/{charge_id}/capture", responses=_TOLD, status_code=201)
    async def post_capture(charge_id: Id, body: CaptureBody, request: Request, key: Key = None) -> Response:
        """A machine reports what it handed over: the payer is debited for that."""
        actor = terminal_of(request.state)

        async def effect(conn: Connection) -> Answer:
            await _made_by(conn, charge_id, actor)
            debit_id = await commit_debit(conn, charge_id, amount_minor=body.amount_minor, delivered=True, actor_id=actor.id)
            return Answer(201, {"debit_id": debit_id})

        answer = await once(db, await keyed(request, actor, "capture", key), effect)
        if not answer.replayed:
            await drive(db, adapters, answer.body["debit_id"])
        return await present(charge_id, actor, replayed=answer.replayed)

    @routes.post("/charges/{charge_id}/void", responses=_TOLD, status_code=201)
    async def post_void(charge_id: Id, body: VoidBody, request: Request, key: Key = None) -> Response:
        """A machine or till gives the charge up: nothing is kept."""
        actor = terminal_of(request.state)

        async def effect(conn: Connection) -> Answer:
            await _made_by(conn, charge_id, actor)
            return Answer(201, {"debit_id": await ask_void(conn, charge_id, actor_id=actor.id)})

        answer = await once(db, await keyed(request, actor, "void", key), effect)
        if not answer.replayed and answer.body["debit_id"] is not None:
            await stop_debit(db, adapters, answer.body["debit_id"])
        return await present(charge_id, actor, replayed=answer.replayed)

    @routes.post("/charges/{charge_id}/refunds", responses=_TOLD, status_code=201)
    async def post_refund(charge_id: Id, body: RefundBody, request: Request, key: Key = None) -> Response:
        """The terminal that made the charge, staff, or the merchant's back office gives money back to where it came from."""
        actor = asker_of(request.state, Scope.CHARGES_REFUND)

        async def effect(conn: Connection) -> Answer:
            await _refundable_by(conn, charge_id, actor)
            refunds = await refund_charge(
                conn, charge_id, amount_minor=body.amount_minor, actor_id=actor.id, mark=mark_of(keys.key("mark"), under)
            )
            return Answer(201, {"refund_ids": refunds})

        under = await keyed(request, actor, "refund", key)
        answer = await once(db, under, effect)
        if not answer.replayed:
            for refund_id in answer.body["refund_ids"]:
                await send_refund(db, adapters, refund_id)
        return await present(charge_id, actor, replayed=answer.replayed)

    @routes.post("/charges/{charge_id}/retry", responses=_TOLD, status_code=201)
    async def post_retry(charge_id: Id, body: VoidBody, request: Request, key: Key = None) -> Response:
        """The payer has what is owed tried again now."""
        actor = person_of(request.state)

        async def effect(conn: Connection) -> Answer:
            charge = await _seen_by(conn, charge_id, actor)
            if charge.payer_id != actor.id:
                raise Forbidden()
            return Answer(201, {"debit_id": await commit_retry(conn, charge_id, actor_id=actor.id)})

        answer = await once(db, await keyed(request, actor, "retry", key), effect)
        if not answer.replayed:
            await drive(db, adapters, answer.body["debit_id"])
        return await present(charge_id, actor, replayed=answer.replayed)

    @routes.get("/charges/{charge_id}", response_model=ChargeTold, response_model_exclude_none=True)
    async def get_charge(charge_id: Id, request: Request) -> Response:
        """One charge: to its terminal and its merchant as a till sees it; to the people of its circle; to staff, on record."""
        actor = asker_of(request.state, Scope.CHARGES_READ)
        async with db.connection() as conn:
            charge = await _seen_by(conn, charge_id, actor)
            foreign = actor.kind is ActorKind.PERSON and not await may_see(conn, charge, actor.id)
        if foreign:
            # Nobody of the staff looks at a family's purchases without a trace, and not without it being kept first.
            async with db.transaction() as conn:
                await note_read(conn, charge, actor.id)
        answer = told(charge, to_circle=actor.kind is ActorKind.PERSON)
        return Response(msgspec.json.encode(answer), media_type="application/json")

    @routes.get("/circles/{circle_id}/charges", response_model=ChargesTold, response_model_exclude_none=True)
    async def get_charges(
        circle_id: Id, request: Request, after: Id | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 50
    ) -> Response:
        """A circle's charges, newest first; a spender sees their own."""
        actor = person_of(request.state)
        async with db.connection() as conn:
            charges = await charges_of_circle(conn, circle_id, actor.id, after=after, limit=limit)
        page = {
            "charges": [told(charge, to_circle=True) for charge in charges],
            "after": charges[-1].id if len(charges) == limit else None,
        }
        return Response(msgspec.json.encode(page), media_type="application/json")

    @routes.get("/charges", response_model=ChargesTold, response_model_exclude_none=True)
    async def get_merchant_charges(
        request: Request,
        merchant_id: Id | None = None,
        after: Id | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 50,
    ) -> Response:
        """The charges of an API key's merchant (of all its operator's, or of the one that is named), as a till sees them."""
        actor = key_of(request.state, Scope.CHARGES_READ)
        if actor.merchant_id is not None and merchant_id not in (None, actor.merchant_id):
            raise NotFound()
        async with db.connection() as conn:
            of = merchant_id or actor.merchant_id
            charges = await charges_of_merchant(conn, actor.operator_id, merchant_id=of, after=after, limit=limit)
        page = {
            "charges": [told(charge, to_circle=False) for charge in charges],
            "after": charges[-1].id if len(charges) == limit else None,
        }
        return Response(msgspec.json.encode(page), media_type="application/json")

    return routes


async def _find(conn: Connection, charge_id: str) -> Charge:
    charge = (await read_charges(conn, [charge_id])).get(charge_id)
    if charge is None:
        raise NotFound()
    return charge


async def _made_by(conn: Connection, charge_id: str, terminal: Actor) -> Charge:
    charge = await _find(conn, charge_id)
    if charge.terminal_id != terminal.id:
        raise NotFound()
    return charge


async def _made_at(conn: Connection, charge_id: str, key: Actor) -> Charge:
    charge = await _find(conn, charge_id)
    if not key.acts_for(operator_id=charge.operator_id, merchant_id=charge.merchant_id):
        raise NotFound()
    return charge


async def _refundable_by(conn: Connection, charge_id: str, actor: Actor) -> None:
    if actor.kind is ActorKind.TERMINAL:
        await _made_by(conn, charge_id, actor)
        return
    if actor.kind is ActorKind.API_KEY:
        await _made_at(conn, charge_id, actor)
        return
    charge = await _find(conn, charge_id)
    if not actor.staff_roles & {"owner", "support"} or charge.operator_id != actor.operator_id:
        raise NotFound()


async def _seen_by(conn: Connection, charge_id: str, actor: Actor) -> Charge:
    if actor.kind is ActorKind.TERMINAL:
        return await _made_by(conn, charge_id, actor)
    if actor.kind is ActorKind.API_KEY:
        return await _made_at(conn, charge_id, actor)
    charge = await _find(conn, charge_id)
    if actor.staff_roles & {"owner", "support"} and charge.operator_id == actor.operator_id:
        return charge
    if not await may_see(conn, charge, actor.id):
        raise NotFound()
    return charge
