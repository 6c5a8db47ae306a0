"""A circle's time zone, which its windows follow."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from kinpay.database.idempotency import Answer
from kinpay.database.pool import Database
from kinpay.database.sql import Connection
from kinpay.mandates import bodies, zone
from kinpay.mandates.consent import Consent, once_consented
from kinpay.people.asked import answer, request_key, said
from kinpay.primitives.actor import person_of
from kinpay.primitives.fields import Id
from kinpay.primitives.server_keys import ServerKeys


def router(db: Database, *, keys: ServerKeys) -> APIRouter:
    """The route of a circle's time zone."""
    api = APIRouter(prefix="/v1/circles", tags=["circles"])

    @api.put("/{circle_id}/time-zone", response_model=bodies.ZoneOut)
    async def put_time_zone(request: Request, circle_id: Id, body: bodies.ZoneIn) -> Response:
        """Another time zone, with a payer's fresh proof; no window opens afresh by it."""
        actor = person_of(request.state)
        key = await request_key(request, actor, operation=zone.CHANGE, keys=keys)

        async def effect(conn: Connection, proof_id: str | None) -> Answer:
            await zone.change_time_zone(
                conn, circle_id=circle_id, payer_id=actor.id, time_zone=body.time_zone, proof_id=proof_id
            )
            return answer(200, bodies.ZoneOut(time_zone=body.time_zone))

        consent = Consent(operation=zone.CHANGE, subject_id=circle_id, content={"time_zone": body.time_zone})
        return said(await once_consented(db, keys, key, actor=actor, consent=consent, proof=body.proof, effect=effect))

    return api
