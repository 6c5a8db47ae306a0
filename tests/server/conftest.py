"""A small application with our own layers and routes that tell what reached them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn
from fastapi import APIRouter, Request

from kinpay.primitives.actor import Actor, ActorKind, person_of
from kinpay.primitives.fields import Amount, Closed, Name
from kinpay.server.app import HotRoute, Parts, build
from kinpay.server.asgi import App, Receive, Scope, Send, answer
from kinpay.server.auth import Checks
from kinpay.server.front import RequestTally
from kinpay.server.guard import Limits
from kinpay.terminals.signature import RequestParts

TOKEN = "a-token-that-is-long-enough-0123456789"
PERSON = Actor(ActorKind.PERSON, "0" * 31 + "1", "0" * 31 + "9")


class Order(Closed):
    """What the test's route takes."""

    name: Name
    amount_minor: Amount


async def person_check(token: str) -> Actor | None:
    return PERSON if token == TOKEN else None


async def terminal_check(parts: RequestParts) -> Actor | None:
    return None


async def hot(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["state"]["body"] == b'{"raise":1}':
        raise ZeroDivisionError
    await answer(send, 201, [(b"content-type", b"application/json")], scope["state"]["body"])


def routes() -> APIRouter:
    api = APIRouter()

    @api.post("/v1/orders", status_code=201)
    async def order(request: Request, given: Order) -> dict[str, Any]:
        """Orders."""
        request.state.replayed = given.amount_minor == 7
        return {"amount_minor": given.amount_minor}

    @api.get("/v1/whoami")
    async def whoami(request: Request) -> dict[str, str]:
        """Who."""
        return {"id": person_of(request.state).id}

    @api.get("/v1/raise")
    async def fail(request: Request) -> None:
        """Fails as the test asks."""
        raise request.app.state.error

    @api.post("/v1/providers/{account}/callback")
    async def callback(account: str, request: Request) -> dict[str, int]:
        """Takes any bytes."""
        return {"bytes": len(await request.body())}

    return api


def small_app(
    *more: APIRouter,
    limits: Limits | None = None,
    checks: Checks | None = None,
    plain: bool = True,
    tally: RequestTally | None = None,
) -> App:
    """Our layers around the routes above, or, unless `plain`, around `more` alone."""
    parts = Parts(
        routers=[*([routes()] if plain else []), *more],
        checks=checks or Checks(person_check, terminal_check),
        hot={("POST", "/v1/hot"): HotRoute(hot, {"summary": "Hot", "responses": {"201": {"description": "Made."}}})},
        unparsed=lambda path: path.endswith("/callback"),
        https=True,
        limits=limits,
        tally=tally,
    )
    return build(parts)


@asynccontextmanager
async def client_of(app: Callable[..., Any]) -> AsyncIterator[httpx.AsyncClient]:
    """A client that speaks to `app` without a network."""
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://kinpay.test") as client:
        yield client


@asynccontextmanager
async def served(app: Callable[..., Any]) -> AsyncIterator[tuple[str, int]]:
    """`app` behind a real socket, as `kinpay serve` runs it; gives host and port."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http="httptools", lifespan="off", ws="none", access_log=False, log_config=None)
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    running = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    host, port = listening.getsockname()[:2]
    try:
        yield host, port
    finally:
        server.should_exit = True
        await running
