"""How webhooks are asked for: by the operator's owners, and by API keys with `webhooks:manage` for their merchant."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Annotated, Any, Final, Protocol

from fastapi import APIRouter, Query, Request, Response

from kinpay.database.pool import Database
from kinpay.database.sql import Connection
from kinpay.operators.act import Act, ActKind
from kinpay.operators.operator import merchant_name
from kinpay.operators.two_people import privileged
from kinpay.primitives.actor import Actor, Scope, staff_or_key_of
from kinpay.primitives.errors import Invalid
from kinpay.primitives.fields import Id, refuse_key
from kinpay.primitives.server_keys import ServerKeys
from kinpay.webhooks import bodies, log, manage
from kinpay.webhooks.address import read_url
from kinpay.webhooks.delivery import message_id
from kinpay.webhooks.endpoint import Endpoint
from kinpay.webhooks.outbound import NoPublicAddress, Outbound
from kinpay.webhooks.signature import secret_text

_LOOK_UP_S: Final = 5.0
Limit = Annotated[int, Query(ge=1, le=100)]


class _Listed(Protocol):
    @property
    def id(self) -> str: ...


def router(db: Database, *, keys: ServerKeys, outbound: Outbound) -> APIRouter:
    """Every route of this feature. No answer is kept under a key: some hold a secret."""
    routes = APIRouter(prefix="/v1", tags=["webhooks"])
    _endpoint_routes(routes, db, keys=keys, outbound=outbound)
    _secret_routes(routes, db, keys=keys)
    _delivery_routes(routes, db)
    return routes


def _asker(request: Request) -> Actor:
    return staff_or_key_of(request.state, Scope.WEBHOOKS_MANAGE, "owner")


def _next(found: list[_Listed] | list[Endpoint], limit: int) -> str | None:
    return found[-1].id if len(found) == limit else None


async def _judge(outbound: Outbound, url: str) -> None:
    """Raises: Invalid for an address where messages must not go, or that leads nowhere; which of the two is not told."""
    try:
        async with asyncio.timeout(_LOOK_UP_S):
            await outbound.addresses(read_url(url, outbound.rules))
    except (NoPublicAddress, TimeoutError):
        raise Invalid("no_public_address", field="url") from None


def _endpoint_routes(routes: APIRouter, db: Database, *, keys: ServerKeys, outbound: Outbound) -> None:
    @routes.post("/webhook-endpoints", status_code=201)
    async def post_endpoint(request: Request, body: bodies.EndpointIn) -> bodies.EndpointMade:
        """Makes an endpoint; its secret is in this answer and nowhere else, so no `Idempotency-Key` is taken."""
        actor = _asker(request)
        refuse_key(request.headers.get("idempotency-key"))
        await _judge(outbound, body.url)
        wanted = manage.NewEndpoint(merchant_id=body.merchant_id, url=body.url, types=body.types, description=body.description)

        async def judged(conn: Connection) -> Act:
            merchant = await merchant_name(conn, actor.operator_id, body.merchant_id)
            about = {**body.model_dump(mode="json"), "types": sorted(set(body.types)), "merchant": merchant}
            return Act(ActKind.WEBHOOK_SEND, about)

        async with privileged(db, actor, judged) as conn:
            made, secret = await manage.make_endpoint(conn, keys, actor=actor, wanted=wanted)
        return bodies.EndpointMade(endpoint=bodies.EndpointOut.of(made), secret=secret_text(secret))

    @routes.get("/webhook-endpoints")
    async def get_endpoints(request: Request, after: Id | None = None, limit: Limit = 50) -> bodies.EndpointsOut:
        """The endpoints, newest first; also which are disabled and why, and which take nothing at present."""
        actor = _asker(request)
        async with db.connection() as conn:
            found = await manage.endpoints_of(conn, actor, after=after, limit=limit)
        return bodies.EndpointsOut(endpoints=[bodies.EndpointOut.of(one) for one in found], next=_next(found, limit))

    @routes.patch("/webhook-endpoints/{endpoint_id}")
    async def patch_endpoint(endpoint_id: Id, request: Request, body: bodies.EndpointChange) -> bodies.EndpointOut:
        """Changes an endpoint, or switches it off or on.

        Whatever lets more out (another address, more types, switching it on) takes two people where the operator asks for them.
        """
        actor = _asker(request)
        if body.url is not None:
            await _judge(outbound, body.url)
        description = "" if body.description is None and "description" in body.model_fields_set else body.description
        change = manage.Change(url=body.url, types=body.types, description=description, enabled=body.enabled)

        async def judged(conn: Connection) -> Act | None:
            before = await manage.find_endpoint(conn, endpoint_id, actor=actor)
            after = change.of(before)
            if not manage.lets_more_out(before, after):
                return None
            return Act(ActKind.WEBHOOK_SEND, await _about(conn, actor, after) | {"before": _shown(before)})

        async with privileged(db, actor, judged) as conn:
            return bodies.EndpointOut.of(await manage.change_endpoint(conn, endpoint_id, actor=actor, change=change))

    @routes.delete("/webhook-endpoints/{endpoint_id}", status_code=204)
    async def delete_endpoint(endpoint_id: Id, request: Request) -> Response:
        """Removes an endpoint with its secrets and its log; nothing more is sent there."""
        actor = _asker(request)
        async with db.transaction() as conn:
            await manage.delete_endpoint(conn, endpoint_id, actor=actor)
        return Response(status_code=204)


async def _about(conn: Connection, actor: Actor, endpoint: Endpoint) -> dict[str, Any]:
    """What a second person judges an endpoint by."""
    merchant = await merchant_name(conn, actor.operator_id, endpoint.merchant_id)
    return {"endpoint_id": endpoint.id, "merchant_id": endpoint.merchant_id, "merchant": merchant, **_shown(endpoint)}


def _shown(endpoint: Endpoint) -> dict[str, Any]:
    return {"url": endpoint.url, "types": sorted(endpoint.types), "enabled": endpoint.enabled}


def _secret_routes(routes: APIRouter, db: Database, *, keys: ServerKeys) -> None:
    @routes.post("/webhook-endpoints/{endpoint_id}/rotate", status_code=201)
    async def post_rotate(endpoint_id: Id, request: Request, body: bodies.Rotate) -> bodies.Rotated:
        """Makes a new secret; for a while messages are signed with the one before, too.

        Takes two people where the operator asks for them. No `Idempotency-Key` is taken.
        """
        actor = _asker(request)
        refuse_key(request.headers.get("idempotency-key"))
        overlap = timedelta(seconds=body.overlap_s)

        async def judged(conn: Connection) -> Act:
            endpoint = await manage.find_endpoint(conn, endpoint_id, actor=actor)
            return Act(ActKind.WEBHOOK_ROTATE, await _about(conn, actor, endpoint) | {"overlap_s": body.overlap_s})

        async with privileged(db, actor, judged) as conn:
            secret, until = await manage.rotate_secret(conn, keys, endpoint_id, actor=actor, overlap=overlap)
        return bodies.Rotated(secret=secret_text(secret), both_until=until)

    @routes.post("/webhook-endpoints/{endpoint_id}/test", status_code=202)
    async def post_test(endpoint_id: Id, request: Request) -> bodies.TestSent:
        """Sends an event of type `test` to this endpoint; what became of it is in the log."""
        actor = _asker(request)
        async with db.transaction() as conn:
            event_id = await manage.send_test(conn, endpoint_id, actor=actor)
        return bodies.TestSent(message_id=message_id(event_id))


def _delivery_routes(routes: APIRouter, db: Database) -> None:
    @routes.get("/webhook-endpoints/{endpoint_id}/deliveries")
    async def get_deliveries(
        endpoint_id: Id, request: Request, state: bodies.State | None = None, after: Id | None = None, limit: Limit = 50
    ) -> bodies.DeliveriesOut:
        """What was and is to be delivered there, newest first, each with its last attempt; kept for 30 days."""
        actor = _asker(request)
        async with db.connection() as conn:
            found = await log.deliveries_of(conn, endpoint_id, actor=actor, state=state, after=after, limit=limit)
        return bodies.DeliveriesOut(
            deliveries=[bodies.DeliveryOut.of(one) for one in found], next=found[-1].id if len(found) == limit else None
        )

    @routes.get("/webhook-deliveries/{delivery_id}")
    async def get_delivery(delivery_id: Id, request: Request) -> bodies.DeliveryTold:
        """One delivery: the body as it is sent, and every attempt."""
        actor = _asker(request)
        async with db.connection() as conn:
            logged, body, attempts = await log.delivery_of(conn, delivery_id, actor=actor)
        shown = [bodies.AttemptOut.of(one) for one in attempts]
        return bodies.DeliveryTold(delivery=bodies.DeliveryOut.of(logged), body=body, attempts=shown)

    @routes.post("/webhook-deliveries/{delivery_id}/redeliver", status_code=202)
    async def post_redeliver(delivery_id: Id, request: Request) -> bodies.Again:
        """Delivers one event again, under the id that it always had."""
        actor = _asker(request)
        async with db.transaction() as conn:
            await log.deliver_again(conn, delivery_id, actor=actor)
        return bodies.Again(deliveries=1)

    @routes.post("/webhook-endpoints/{endpoint_id}/redeliver", status_code=202)
    async def post_redeliver_failed(endpoint_id: Id, request: Request, body: bodies.Since) -> bodies.Again:
        """Delivers everything again that happened since then and was given up."""
        actor = _asker(request)
        async with db.transaction() as conn:
            count = await log.deliver_failed_again(conn, endpoint_id, actor=actor, since=body.since)
        return bodies.Again(deliveries=count)
