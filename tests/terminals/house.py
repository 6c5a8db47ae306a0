"""A small house for terminals: an operator, a merchant, a site, people, and the routes behind a thin edge."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.middleware.base import BaseHTTPMiddleware

from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Sql
from kinpay.primitives.actor import Actor, ActorKind
from kinpay.primitives.errors import Forbidden, KinpayError, NotFound, Unauthenticated
from kinpay.primitives.ids import new_id
from kinpay.primitives.server_keys import ServerKeys
from kinpay.terminals.authenticate import authenticate_terminal
from kinpay.terminals.codes import Codes
from kinpay.terminals.command import Finished, nothing_more
from kinpay.terminals.install import expect_terminal
from kinpay.terminals.routes import router
from kinpay.terminals.session import TerminalSessions
from kinpay.terminals.signature import RequestParts, is_signed
from kinpay.terminals.terminal import TerminalKind
from kinpay_client import Terminal

PUBLIC_URL = "https://pay.example"
BASE_URL = "http://kinpay.test"

OPERATOR = Sql("INSERT INTO operator (id, name, time_zone, created_at) VALUES (:id, 'Canteens', 'Asia/Shanghai', kinpay_now())")
MERCHANT = Sql("""
    INSERT INTO merchant (id, operator_id, name, mcc, created_at)
    VALUES (:id, :operator_id, 'North canteen', '5814', kinpay_now())
""")
SITE = Sql("INSERT INTO site (id, merchant_id, name, created_at) VALUES (:id, :merchant_id, 'Hall 1', kinpay_now())")
PERSON = Sql("""
    INSERT INTO person (id, operator_id, account, display_name, locale, state, created_at)
    VALUES (:id, :operator_id, :account, 'Somebody', 'zh', 'active', kinpay_now())
""")


@dataclass(slots=True, kw_only=True)
class House:
    """What a test needs to hand. `clock` is the server process's wall clock."""

    db: Database
    keys: ServerKeys
    codes: Codes
    operator_id: str
    merchant_id: str
    site_id: str
    app: FastAPI
    sessions: TerminalSessions
    owner: Actor

    def http(self) -> httpx.AsyncClient:
        """A client that reaches the routes without a socket."""
        return httpx.AsyncClient(transport=httpx.ASGITransport(app=self.app), base_url=BASE_URL)

    def as_person(self, actor: Actor) -> httpx.AsyncClient:
        """A client signed in as a person."""
        client = self.http()
        client.headers["x-person"] = f"{actor.id} {actor.operator_id} {','.join(actor.staff_roles)}"
        return client

    async def person(self, operator_id: str | None = None) -> Actor:
        """A new person of the operator."""
        person_id = new_id()
        operator = operator_id or self.operator_id
        async with self.db.connection() as conn:
            await PERSON.run(conn, id=person_id, operator_id=operator, account=person_id)
        return Actor(ActorKind.PERSON, person_id, operator)

    async def install_code(self, kind: TerminalKind = TerminalKind.TILL) -> str:
        """A terminal announced at the site."""
        async with self.db.transaction() as conn:
            code = await expect_terminal(
                conn,
                self.keys,
                operator_id=self.operator_id,
                site_id=self.site_id,
                name="Till 1",
                kind=kind,
                hold_s=60,
                now=await database_now(conn),
                actor_id=self.owner.id,
            )
        return code.text

    async def terminal(self) -> Terminal:
        """An installed terminal."""
        return await Terminal.install(BASE_URL, await self.install_code(), http=self.http())

    async def revoke(self, terminal_id: str) -> httpx.Response:
        """Revoked by the owner."""
        async with self.as_person(self.owner) as staff:
            return await staff.post(f"/v1/terminals/{terminal_id}/revoke")


async def another_operator(db: Database) -> tuple[str, str, str]:
    """A second operator with a merchant and a site: their ids."""
    operator_id, merchant_id, site_id = new_id(), new_id(), new_id()
    async with db.transaction() as conn:
        await OPERATOR.run(conn, id=operator_id)
        await MERCHANT.run(conn, id=merchant_id, operator_id=operator_id)
        await SITE.run(conn, id=site_id, merchant_id=merchant_id)
    return operator_id, merchant_id, site_id


async def build_house(
    db: Database, keys: ServerKeys, *, finished: Finished = nothing_more, clock: Callable[[], float] = time.time
) -> House:
    """An operator, a merchant and a site, and an app with the routes of terminals."""
    operator_id, merchant_id, site_id = await another_operator(db)
    codes, sessions = Codes(keys), TerminalSessions(db, keys)
    app = FastAPI()
    app.include_router(router(db, keys=keys, codes=codes, public_url=PUBLIC_URL, finished=finished, clock=clock))
    app.add_middleware(BaseHTTPMiddleware, dispatch=_edge(db, sessions, clock))
    owner = Actor(ActorKind.PERSON, new_id(), operator_id, frozenset({"owner"}))
    return House(
        db=db, keys=keys, codes=codes, operator_id=operator_id, merchant_id=merchant_id, site_id=site_id, app=app,
        sessions=sessions, owner=owner,
    )  # fmt: skip


def _edge(db: Database, sessions: TerminalSessions, clock: Callable[[], float]) -> Any:
    async def dispatch(request: Request, call_next: Any) -> Response:
        try:
            request.state.actor = await _asker(request, db, sessions, clock)
            answer: Response = await call_next(request)
            return answer
        except KinpayError as error:
            return JSONResponse({"code": error.code, **error.detail}, status_code=_status(error))

    return dispatch


async def _asker(request: Request, db: Database, sessions: TerminalSessions, clock: Callable[[], float]) -> Actor | None:
    person = request.headers.get("x-person")
    if person is not None:
        person_id, operator_id, roles = person.split(" ")
        return Actor(ActorKind.PERSON, person_id, operator_id, frozenset(filter(None, roles.split(","))))
    if not is_signed(request.headers):
        return None
    scope = request.scope
    parts = RequestParts.of(
        scope["method"], scope["raw_path"], query=scope["query_string"], headers=scope["headers"], body=await request.body()
    )
    return await authenticate_terminal(db, parts, sessions=sessions, clock=clock)


def _status(error: KinpayError) -> int:
    statuses: list[tuple[type[KinpayError], int]] = [(Unauthenticated, 401), (Forbidden, 403), (NotFound, 404)]
    return next((status for kind, status in statuses if isinstance(error, kind)), 409)
