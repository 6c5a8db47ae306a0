"""Bad input at every operation, by somebody who may ask: a problem, never a 500; no value comes back; nothing changes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Request

from kinpay.primitives.errors import Invalid
from kinpay.primitives.fields import Closed, Id
from kinpay.server import assemble
from kinpay.server.house import House
from tests.api.asking import URL
from tests.api.matrix import ROWS, Row
from tests.api.town import Town
from tests.api.vectors import Document, Vector, of_body, of_headers, of_path
from tests.api.watching import Standing, changed, code_of, malformed

READ = frozenset({"validation-failed", "malformed-request", "invalid-request", "unsupported-media-type", "body-too-large",
                  "idempotency-key-missing", "check-code-altered", "not-found", "method-not-allowed"})  # fmt: skip
"""What bad input is answered with. It is never about who asks: whoever asks here may, so that what is bad was looked at."""


def vectors(document: Document, town: Town, row: Row, *, seen: set[str]) -> Iterator[Vector]:
    """Everything that can be got wrong at one operation."""
    family = town.families["A"]
    if row.body is not None:
        yield from of_body(document, row.operation, row.body(family), seen=seen)
    names = [(name, family[row.things.get(name, name.removesuffix("_id"))]) for name in re.findall(r"{(\w+)}", row.template)]
    yield from of_path(document, row.operation, row.path(family), names)
    yield from of_headers(keyed=row.keyed)


def asker_of(town: Town, row: Row) -> str:
    """Somebody who may ask this of family A."""
    return next((name for name in town.principals if town.relations[name]["A"] in row.may), "anonymous")


async def send(town: Town, row: Row, vector: Vector) -> httpx.Response:
    """The wrong request, rightly signed."""
    family = town.families["A"]
    headers = row.key
    body = row.content(family) if vector.body is None else vector.body
    content_type = {"content-type": "application/json"} if body else {}
    return await town.principals[asker_of(town, row)].ask(
        row.method,
        vector.path or row.path(family),
        body,
        headers={**content_type, **headers, **vector.headers},
        own_key=row.own_key,
    )


def wrongs(row: Row, vector: Vector, response: httpx.Response) -> list[str]:
    """What is wrong with the answer to one vector."""
    found = [form] if (form := malformed(response)) else []
    if response.status_code < 400:
        found.append(f"is accepted: {response.status_code} {response.text[:120]}")
    elif code_of(response) not in READ and not _unsignable(vector, response):
        found.append(f"is refused for something else: {response.status_code} {response.text[:120]}")
    if vector.sent in response.text:
        found.append(f"comes back: {response.text[:200]}")
    return [f"{row.operation}: {vector.what} {wrong}" for wrong in found]


def _unsignable(vector: Vector, response: httpx.Response) -> bool:
    """A header that no signature can cover is refused as a signature that does not hold."""
    return code_of(response) == "signature-invalid" and "idempotency-key" in vector.headers


async def attack(town: Town, document: Document, rows: Sequence[Row]) -> tuple[list[str], Counter[str]]:
    """Every vector at every row: what was found wrong, and how often each code was heard."""
    standing = Standing(town.db)
    found: list[str] = []
    heard: Counter[str] = Counter()
    seen: set[str] = set()
    before = await standing.now()
    for row in rows:
        for vector in vectors(document, town, row, seen=seen):
            response = await send(town, row, vector)
            heard[code_of(response)] += 1
            found += wrongs(row, vector, response)
        after = await standing.now()
        if changes := changed(before, after):
            found.append(f"{row.operation}: bad input changed {', '.join(changes)}")
        before = after
    return found, heard


async def document_of(client: httpx.AsyncClient) -> dict[str, Any]:
    """The OpenAPI document."""
    found: dict[str, Any] = (await client.get(f"{URL}/openapi.json")).json()
    return found


async def test_bad_input_is_a_problem_and_changes_nothing(town: Town) -> None:
    """Some thousands of vectors, made for every operation that takes a body or parameters."""
    document = await document_of(town.http)
    asked = [row for row in ROWS if row.template != "/v1/providers/{provider_account_id}/callback"]
    found, heard = await attack(town, document, asked)
    assert not found, "\n".join(found)
    assert heard.total() > 2_000, heard
    assert {"validation-failed", "malformed-request", "unsupported-media-type", "body-too-large", "invalid-request"} <= set(
        heard
    )


# ------------------------------------------------------------------------------------------------------ planted defects


class Careless(Closed):
    """What the planted route takes."""

    note: str
    amount_minor: int


def planted_routes(house: House) -> APIRouter:
    """A route as it should not be: it fails over odd text, repeats what it heard, and writes before it looks."""
    routes = APIRouter()

    @routes.post("/v1/planted/{circle_id}", status_code=201)
    async def post_planted(circle_id: Id, body: Careless, request: Request) -> dict[str, Any]:
        """Takes any text and any whole number."""
        if body.note.startswith("\u2066"):
            raise ZeroDivisionError
        if len(body.note) > 1_000:
            raise Invalid("note", hint=body.note[:40])
        if body.amount_minor < 0:
            async with house.db.transaction() as conn:
                await conn.execute("UPDATE site SET name = name || '!'")
            raise Invalid("amount")
        return {}

    return routes


PLANTED = Row(
    operation="POST /v1/planted/{circle_id}",
    may=frozenset({"payer"}),
    body=lambda _: {"note": "hello", "amount_minor": 7},
)


async def test_the_attack_sees_what_is_wrong(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each planted defect is found and named."""
    honest = assemble.routers
    monkeypatch.setattr(assemble, "routers", lambda house: [*honest(house), planted_routes(house)])
    async with town.with_app(assemble.application(town.house)) as planted:
        found, _ = await attack(planted, await document_of(planted.http), [PLANTED])
    place = PLANTED.operation
    assert f"{place}: note is a bidi isolate answers 500" in found
    assert any(one.startswith(f"{place}: note is over-long comes back") for one in found)
    assert any(one.startswith(f"{place}: note is a bidi override is accepted: 201") for one in found)
    assert any(one.startswith(f"{place}: amount_minor is zero") for one in found) is False, "nothing says that zero is wrong"
    assert any(one.startswith(f"{place}: amount_minor is 2^53 is accepted") for one in found)
    assert f"{place}: bad input changed site (+0 rows)" in found
