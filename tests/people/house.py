"""A small house for the tests of people: an operator, an app with our routes, and a way to read the codes that leave."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from itertools import count
from pathlib import Path
from typing import Any

import httpx
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError

from kinpay.database.pool import Database
from kinpay.operators.operator import create_operator
from kinpay.people import sign_in
from kinpay.people.channel import FileChannel, send_code
from kinpay.people.person import NewPerson
from kinpay.people.routes import router
from kinpay.primitives.actor import Actor, ActorKind
from kinpay.primitives.errors import KinpayError
from kinpay.primitives.server_keys import ServerKeys
from kinpay.server.problems import problem_of

_keys = count(1)


def newcomer(account: str, **other: Any) -> NewPerson:
    """What somebody tells about themself."""
    told: dict[str, Any] = {"display_name": account.title(), "locale": "en", "birth_date": date(1980, 5, 1)}
    told |= {"channel": "phone", "address": "+8613800000001"}
    return NewPerson(account=account, **{**told, **other})


class CountedConnection:
    """A connection that counts what is asked of it."""

    def __init__(self, conn: Any, counter: list[str]) -> None:
        self._conn = conn
        self._counter = counter

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._conn, name)
        if name not in ("execute", "fetch", "fetchrow", "fetchval"):
            return found

        async def counted(*given: Any) -> Any:
            self._counter.append(given[0])
            return await found(*given)

        return counted


class CountedDatabase(Database):
    """A database that notes every statement, to show that two answers cost the same."""

    def __init__(self, inner: Database) -> None:
        self._inner = inner
        self.statements: list[str] = []

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        async with self._inner.transaction() as conn:
            yield CountedConnection(conn, self.statements)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        async with self._inner.connection() as conn:
            yield CountedConnection(conn, self.statements)

    def taken(self) -> int:
        """How many statements since the last time somebody asked."""
        number = len(self.statements)
        self.statements.clear()
        return number


@dataclass(frozen=True)
class Posted:
    """A row of the outbox as the worker hands it over."""

    subject_id: str
    body: dict[str, Any]


@dataclass
class House:
    """Everything a test needs, by name."""

    db: Database
    counted: CountedDatabase
    keys: ServerKeys
    operator_id: str
    owner_id: str
    file: Path
    client: httpx.AsyncClient
    delivered: set[int] = field(default_factory=set)

    async def codes(self) -> list[dict[str, Any]]:
        """Sends what waits in the outbox, as the worker would, and returns every code that has left so far."""
        async with self.db.connection() as conn:
            rows = await conn.fetch("SELECT id, subject_id, body FROM outbox WHERE topic = 'code.send' ORDER BY id")
        for row in rows:
            if row["id"] not in self.delivered:
                await send_code(Posted(row["subject_id"], row["body"]), FileChannel(self.file), self.keys)
                self.delivered.add(row["id"])
        lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.exists() else []
        return [json.loads(line) for line in lines]

    async def last_code(self, account: str) -> str:
        """The newest code that went to somebody."""
        return str([code["code"] for code in await self.codes() if code["account"] == account][-1])

    async def notices(self, kind: str) -> list[dict[str, Any]]:
        """The bodies of the notices of that kind, oldest first."""
        async with self.db.connection() as conn:
            rows = await conn.fetch("SELECT body FROM outbox WHERE topic = $1 ORDER BY id", f"notice.{kind}")
        return [row["body"] for row in rows]

    async def value(self, sql: str, *given: Any) -> Any:
        """One value, straight from the tables."""
        async with self.db.connection() as conn:
            return await conn.fetchval(sql, *given)

    async def person(self, account: str, **other: Any) -> Somebody:
        """Opens an account over HTTP, signs in with the code, and returns who that is."""
        told = newcomer(account, **other)
        body = {
            "operator_id": self.operator_id,
            "account": told.account,
            "display_name": told.display_name,
            "locale": told.locale,
            "birth_date": told.birth_date.isoformat() if told.birth_date else None,
            "contact": {"channel": told.channel, "address": told.address},
        }
        started = await self.client.post("/v1/people", json=body)
        assert started.status_code == 202, started.text
        return await self._enter(account, started.json()["sign_in_id"])

    async def sign_in(self, account: str) -> Somebody:
        """Signs in over HTTP."""
        started = await self.client.post("/v1/sign-in", json={"operator_id": self.operator_id, "account": account})
        assert started.status_code == 202, started.text
        return await self._enter(account, started.json()["sign_in_id"])

    async def _enter(self, account: str, sign_in_id: str) -> Somebody:
        digits = await self.last_code(account)
        answer = await self.client.post(f"/v1/sign-in/{sign_in_id}", json={"code": digits})
        assert answer.status_code == 201, answer.text
        return Somebody(self, account, answer.json()["person"]["id"], answer.json()["token"])


@dataclass(frozen=True)
class Somebody:
    """A signed-in person."""

    house: House
    account: str
    id: str
    token: str

    @property
    def actor(self) -> Actor:
        """As the server's middleware sees them."""
        return Actor(ActorKind.PERSON, self.id, self.house.operator_id)

    async def ask(self, method: str, path: str, json: Any = None, *, key: str | None = None) -> httpx.Response:
        """A request under their session; with a fresh `Idempotency-Key` unless one is given, or none is taken."""
        headers = {"authorization": f"Bearer {self.token}"}
        if key is not None or not path.endswith(("/api-keys", "/webhook-endpoints", "/rotate")):
            headers["idempotency-key"] = key or f"key-{next(_keys)}"
        return await self.house.client.request(method, path, json=json, headers=headers)

    async def proof(self, operation: str, subject_id: str, content: dict[str, Any]) -> dict[str, str]:
        """Asks for a proof and reads the code that comes."""
        asked = await self.ask("POST", "/v1/proofs", {"operation": operation, "subject_id": subject_id, "content": content})
        assert asked.status_code == 201, asked.text
        return {"proof_id": asked.json()["proof_id"], "code": await self.house.last_code(self.account)}

    async def circle(self, name: str = "Wang family") -> str:
        """Opens a circle; its id."""
        made = await self.ask("POST", "/v1/circles", {"name": name, "time_zone": "Asia/Shanghai"})
        assert made.status_code == 201, made.text
        return str(made.json()["id"])

    async def invite(self, circle_id: str, account: str, role: str) -> httpx.Response:
        """Invites somebody with a fresh proof."""
        given = await self.proof("circle.invite", circle_id, {"account": account, "role": role})
        body = {"account": account, "role": role, "proof": given}
        return await self.ask("POST", f"/v1/circles/{circle_id}/members", body)


def build_app(db: Database, keys: ServerKeys, more: Iterable[APIRouter] = ()) -> FastAPI:
    """The routes of people and some more, with sessions found and problems told as the server does it."""
    app = FastAPI()
    for routes in (router(db, keys=keys), *more):
        app.include_router(routes)

    @app.middleware("http")
    async def who(request: Request, call_next: Any) -> Any:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        request.state.actor = await sign_in.authenticate_person(db, token) if token else None
        return await call_next(request)

    def tell(_: Request, error: Exception) -> Response:
        problem = problem_of(error)
        return Response(problem.encode("en"), problem.status, media_type="application/problem+json")

    app.add_exception_handler(KinpayError, tell)
    app.add_exception_handler(RequestValidationError, tell)
    return app


async def open_house(db: Database, keys: ServerKeys, file: Path, *, more: Iterable[APIRouter] = ()) -> House:
    """An operator with its owner, behind an app."""
    async with db.transaction() as conn:
        made = await create_operator(conn, "Canteen", time_zone="Asia/Shanghai", owner=newcomer("boss"))
    counted = CountedDatabase(db)
    transport = httpx.ASGITransport(app=build_app(counted, keys, more))
    client = httpx.AsyncClient(transport=transport, base_url="http://kinpay.test")
    return House(db, counted, keys, made.operator_id, made.owner_id, file, client)
