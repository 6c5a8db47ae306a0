"""The whole as one ASGI application: front → guard → (hot route | who is asking → FastAPI)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from kinpay.server.asgi import App, Receive, Scope, Send, state
from kinpay.server.auth import Authentication, Checks
from kinpay.server.front import Front, RequestTally
from kinpay.server.guard import Guard, Limits
from kinpay.server.openapi import describe

TITLE = "kinpay"
VERSION = "1"


@dataclass(frozen=True, slots=True)
class HotRoute:
    """A route that is worth its own way: `app` finds the body in `scope["state"]["body"]` and authenticates by itself.

    `operation` and `schemas` are its part of the OpenAPI document. What it raises becomes a problem like anywhere else.
    """

    app: App
    operation: Mapping[str, Any] = field(default_factory=dict)
    schemas: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What an application is made of. `hot` is keyed by (method, path); `unparsed` are the callbacks' paths; `large` says how
    many bytes more than usual a path's body may have."""

    routers: Sequence[APIRouter]
    checks: Checks
    hot: Mapping[tuple[str, str], HotRoute] = field(default_factory=dict)
    unparsed: Callable[[str], bool] = lambda _: False
    large: Callable[[str], int | None] = lambda _: None
    https: bool = False
    tally: RequestTally | None = None
    limits: Limits | None = None


class Edge(FastAPI):
    """FastAPI without its error layers: every exception goes to `front.py`, the one place that answers errors."""

    def build_middleware_stack(self) -> ASGIApp:
        """The router, and what it needs to close files."""
        return AsyncExitStackMiddleware(self.router)


class Dispatch:
    """The hot route by exact method and path; everything else to `rest`."""

    def __init__(self, hot: Mapping[tuple[str, str], HotRoute], rest: App) -> None:
        self._hot = {place: route.app for place, route in hot.items()}
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands on."""
        app = self._hot.get((scope["method"], scope["path"]))
        if app is None:
            await self._rest(scope, receive, send)
            return
        state(scope)["route"] = scope["path"]
        await app(scope, receive, send)


def build(parts: Parts) -> App:
    """The application of these parts."""
    edge = Edge(title=TITLE, version=VERSION, openapi_url=None, redirect_slashes=False)
    for router in parts.routers:
        edge.include_router(router)
    document: list[bytes] = []

    async def openapi(_: Any) -> Any:
        if not document:
            document.append(describe(edge, {place: (route.operation, route.schemas) for place, route in parts.hot.items()}))
        return Response(document[0], media_type="application/json")

    edge.add_route("/openapi.json", openapi, include_in_schema=False)
    known = Authentication(edge, parts.checks, skip=parts.unparsed)
    guarded = Guard(Dispatch(parts.hot, known), unparsed=parts.unparsed, large=parts.large, limits=parts.limits)
    return Front(guarded, https=parts.https, tally=parts.tally)
