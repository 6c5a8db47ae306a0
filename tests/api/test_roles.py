"""Who may ask what of whom: every operation × every asker × every family's things, generated from `matrix.py`.

Threats A01, A13, A14 (reliability.md): nobody reads or changes what is not theirs, and a stranger cannot tell a foreign thing
from one that was never there. The cells that are turned away come first and must change nothing; then everybody who may is let
in, which shows that the others were turned away for who they are.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Request

from kinpay.cli.demo.cast import Player
from kinpay.primitives.actor import actor_of
from kinpay.primitives.errors import Forbidden, NotFound
from kinpay.primitives.fields import Id
from kinpay.primitives.ids import new_id
from kinpay.server import assemble
from kinpay.server.house import House
from kinpay.worker.run import Worker
from tests.api.asking import URL
from tests.api.matrix import OUTSIDERS, ROWS, TURNED_AWAY, Row
from tests.api.town import TERMS, Family, Town
from tests.api.watching import Standing, changed, code_of, malformed

_ID = re.compile(r"[0-9a-f]{32}")
_INVENTED = re.compile(r'"(incident|server_time_s)":"?[^",}]*"?')


def operations_of(document: dict[str, Any]) -> set[str]:
    """`METHOD /path` of everything in the document."""
    return {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}


def without_row(document: dict[str, Any], rows: Sequence[Row]) -> set[str]:
    """The operations that nobody has said who may ask, and rows for none."""
    return operations_of(document) ^ {row.operation for row in rows}


async def cell(town: Town, row: Row, asker: str, family: Family) -> httpx.Response:
    """One asker asks for one family's thing."""
    headers = row.key
    return await town.principals[asker].ask(
        row.method, row.path(family), row.content(family), headers=headers, own_key=row.own_key
    )


def families(town: Town, row: Row) -> Iterable[Family]:
    """Whose things the row is asked about."""
    return town.families.values() if row.about_something else [town.families["A"]]


def hidden_from(town: Town, asker: str) -> set[str]:
    """What an asker must never read: everything of the families to whom they are an outsider."""
    outside = [family for name, family in town.families.items() if town.relations[asker][name] in OUTSIDERS]
    return set().union(*(family.secrets for family in outside))


def leaks(hidden: set[str], response: httpx.Response) -> list[str]:
    """The secrets of others in an answer, apart from those that the asker said themself."""
    said = response.request.url.path + response.request.content.decode()
    return [f"leaks {secret}" for secret in hidden if secret in response.text and secret not in said]


def is_let_in(row: Row, response: httpx.Response) -> bool:
    """Whether it went past who is asking, for what."""
    return response.status_code < 400 or code_of(response) not in TURNED_AWAY | row.also


def likeness(response: httpx.Response) -> tuple[int, str]:
    """What an asker can tell from an answer, whatever ids were in the question."""
    return response.status_code, _INVENTED.sub("", _ID.sub("id", response.text))


async def turn_away(town: Town, rows: Sequence[Row]) -> tuple[list[str], int]:
    """Everybody who may not, at every row; what was found wrong, and how many cells there were."""
    standing, cells = Standing(town.db), 0
    found: list[str] = []
    before = await standing.now()
    for row in rows:
        await fresh_codes(town, row)
        for asker in town.principals:
            wrongs, asked = await _turn_one_away(town, row, asker)
            found += [f"{row.operation} by {asker}: {wrong}" for wrong in wrongs]
            cells += asked
        after = await standing.now()
        if changes := changed(before, after):
            found.append(f"{row.operation}: turned away, and yet changed {', '.join(changes)}")
        before = after
    return found, cells


async def _turn_one_away(town: Town, row: Row, asker: str) -> tuple[list[str], int]:
    """One asker at one row, for every family's thing that is not for them, and for one that nobody has."""
    wrongs: list[str] = []
    cells = 0
    absent: tuple[int, str] | None = None
    hidden = hidden_from(town, asker)
    for family in families(town, row):
        relation = town.relations[asker][family.name]
        if relation in row.may:
            continue
        response = await cell(town, row, asker, family)
        cells += 1
        wrongs += [f"{family.name} {wrong}" for wrong in [*leaks(hidden, response), malformed(response)] if wrong]
        if is_let_in(row, response) and not row.hollow:
            wrongs.append(f"{family.name} lets in: {response.status_code} {response.text[:160]}")
        if relation in OUTSIDERS and not row.coded:
            absent = absent or likeness(await cell(town, row, asker, town.families["A"].nowhere()))
            if likeness(response) != absent:
                wrongs.append(f"{family.name} is told {likeness(response)}, where there is nothing {absent}")
    return wrongs, cells


async def let_in(town: Town, rows: Sequence[Row]) -> tuple[list[str], int]:
    """Everybody who may, at every row, what ends things last; what was found wrong, and how many cells there were."""
    found: list[str] = []
    cells = 0
    for row in sorted(rows, key=lambda row: row.last):
        done: set[str] = set()
        # Who has the least right comes first to what only one can do.
        for asker in reversed(town.principals) if row.ends else town.principals:
            hidden = hidden_from(town, asker)
            for family in families(town, row):
                if town.relations[asker][family.name] not in row.may:
                    continue
                await fresh_codes(town, row)
                response = await cell(town, row, asker, family)
                cells += 1
                wrongs = [*leaks(hidden, response), malformed(response)]
                if not is_let_in(row, response) and not (row.ends and family.name in done):
                    wrongs.append(f"turns away {response.status_code} {response.text[:160]}")
                found += [f"{row.operation} by {asker} for {family.name}: {wrong}" for wrong in wrongs if wrong]
                if response.status_code < 300:
                    done.add(family.name)
        if row.works is not bool(done) and row.may:
            found.append(f"{row.operation}: {'nobody' if row.works else 'somebody'} succeeded")
    return found, cells


async def fresh_codes(town: Town, row: Row) -> None:
    """New codes of every family's till, as the ones before are used up or run out within the minute; it writes nothing down."""
    for family in town.families.values() if row.coded else ():
        till = town.principals[f"{family.name}.till"]
        family.at["function_code"] = (await till.ask("POST", "/v1/terminal/function-code")).json()["code"]
        sale = await till.ask("POST", "/v1/terminal/payment-codes", b'{"amount_minor":555,"currency":"CNY"}')
        family.at["payment_code"] = sale.json()["payment_code"]


# ------------------------------------------------------------------------------------- one's own address, another's thing


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """A request about the asker's own thing that names somebody else's in its body, path or query."""

    asker: str
    method: str
    path: Callable[[Family, Family], str]
    body: Callable[[Family], dict[str, Any]] | None = None


MIXED = [
    Mixed(
        asker="A.payer",
        method="POST",
        path=lambda own, _: f"/v1/circles/{own['circle']}/cards",
        body=lambda other: {"person_id": other["spender"], "currency": "CNY"},
    ),
    Mixed(
        asker="A.payer",
        method="POST",
        path=lambda own, _: f"/v1/circles/{own['circle']}/pools",
        body=lambda other: {"name": "Theirs", "terms": TERMS, "spender_ids": [other["spender"]]},
    ),
    Mixed(
        asker="A.payer",
        method="PUT",
        path=lambda own, _: f"/v1/mandates/{own['mandate']}/funding",
        body=lambda other: {"agreement_ids": [other["agreement"]]},
    ),
    Mixed(asker="A.payer", method="DELETE", path=lambda own, other: f"/v1/circles/{own['circle']}/members/{other['spender']}"),
    Mixed(
        asker="A.payer", method="GET", path=lambda own, other: f"/v1/circles/{own['circle']}/charges?after={other['charge']}"
    ),
    Mixed(asker="A.payer", method="GET", path=lambda own, other: f"/v1/circles/{own['circle']}/cards?after={other['card']}"),
    Mixed(asker="A.spender", method="POST", path=lambda *_: "/v1/pay-codes", body=lambda other: {"circle_id": other["circle"]}),
]
OF_ANOTHER_OPERATOR = [
    Mixed(asker="A.owner", method="GET", path=lambda _, other: f"/v1/sites?merchant_id={other['merchant']}"),
    Mixed(
        asker="A.owner",
        method="POST",
        path=lambda *_: "/v1/sites",
        body=lambda other: {"merchant_id": other["merchant"], "name": "Mine"},
    ),
    Mixed(
        asker="A.owner",
        method="POST",
        path=lambda *_: "/v1/terminals",
        body=lambda other: {"site_id": other["site"], "name": "Mine", "kind": "till"},
    ),
]


OF_ANOTHER_MERCHANT = [
    Mixed(asker="A.key", method="GET", path=lambda _, other: f"/v1/charges?merchant_id={other['merchant']}"),
    Mixed(asker="A.bakery", method="GET", path=lambda _, other: f"/v1/charges?merchant_id={other['merchant']}"),
    Mixed(asker="A.office", method="GET", path=lambda _, other: f"/v1/charges?merchant_id={other['merchant']}"),
]


async def mix(town: Town, one: Mixed, others: Sequence[Family]) -> list[str]:
    """What differs between naming somebody else's thing and naming nothing; none of it may work or change anything."""
    standing = Standing(town.db)
    before = await standing.now()
    own, asker = town.families["A"], town.principals[one.asker]
    answers: dict[str, tuple[int, str]] = {}
    found: list[str] = []
    for other in [own.nowhere(), *others]:
        body = json.dumps(one.body(other)).encode() if one.body else b""
        path = one.path(own, other)
        unkeyed = any(row.unkeyed and row.operation == f"{one.method} {path}" for row in ROWS)
        response = await asker.ask(one.method, path, body, headers={} if unkeyed else {"idempotency-key": new_id()})
        answers[other.name] = likeness(response)
        found += leaks(hidden_from(town, one.asker), response)
        if one.method != "GET" and response.status_code < 400:
            found.append(f"{other.name}: {response.status_code}")
    if len(set(answers.values())) > 1:
        found.append(f"is told apart: {answers}")
    return [f"{one.method} {one.path(own, own)}: {wrong}" for wrong in found + changed(before, await standing.now())]


async def test_others_things_cannot_be_named_at_ones_own(town: Town) -> None:
    """A foreign person, agreement, circle, site or cursor in one's own request is as good as none."""
    neighbours = [town.families[name] for name in ("B", "C")]
    found = [wrong for one in MIXED for wrong in await mix(town, one, neighbours)]
    of_others = [*OF_ANOTHER_OPERATOR, *OF_ANOTHER_MERCHANT]
    found += [wrong for one in of_others for wrong in await mix(town, one, [town.families["C"]])]
    assert not found, "\n".join(found)
    planted = Mixed(asker="A.payer", method="GET", path=lambda _, other: f"/v1/circles?after={other['circle']}")
    assert len(await mix(town, planted, [Family("all", {"circle": "f" * 32}), Family("none", {"circle": "0" * 32})])) == 1


async def _proven(town: Town, payer: Player, registration_id: str, content: dict[str, Any]) -> dict[str, str]:
    """A proof of the payer; its code leaves by the outbox, which is delivered here as no worker runs."""
    worker = Worker(town.db, assemble.tasks(town.house))
    proving = asyncio.create_task(payer.prove("registration.approve", registration_id, content))
    while not proving.done():
        await worker.run_until_idle()
        await asyncio.sleep(0.02)
    return await proving


async def test_a_proven_yes_reaches_only_ones_own_circle_and_operator(town: Town) -> None:
    """Threat A01: with a good proof and the right number, a payer still cannot put a spender into another's circle."""
    own, payer = town.families["A"], town.families["A"].people["payer"]
    registration = await own.people["spender"].registration(own["registration"])
    nowhere = own.nowhere()
    asked = [(other["circle"], own["provider_account"]) for other in (town.families["B"], town.families["C"], nowhere)]
    asked += [(own["circle"], other["provider_account"]) for other in (town.families["C"], nowhere)]
    heard = set()
    for circle, account in asked:
        proof = await _proven(
            town, payer, own["registration"], {"terms": TERMS, "provider_account_id": account, "circle": circle}
        )
        body = {"terms": TERMS, "provider_account_id": account, "circle_id": circle, "proof": proof}
        given = json.dumps(body | {"match_number": registration["match_number"]}).encode()
        standing = Standing(town.db)
        before = await standing.now()
        path = f"/v1/registrations/{own['registration']}/approve"
        response = await town.principals["A.payer"].ask("POST", path, given, headers={"idempotency-key": new_id()})
        heard.add(likeness(response))
        # The proof was looked at, which counts; it is not used up, and nothing else happened.
        assert changed(before, await standing.now()) == ["one_time_code (+0 rows)"]
    assert [status for status, _ in heard] == [404], heard


# ------------------------------------------------------------------------------------------------------ planted defects


def planted_routes(house: House) -> APIRouter:
    """What a hurried change might add: a look without a check, a tell-tale difference, a change before the check."""
    routes = APIRouter()

    @routes.get("/v1/planted/look/{mandate_id}")
    async def look(mandate_id: Id, request: Request) -> dict[str, Any]:
        """Asks who is there, and forgets to ask whose it is."""
        actor_of(request.state)
        async with house.db.connection() as conn:
            row = await conn.fetchrow("SELECT circle_id, payer_id FROM mandate WHERE id = $1", mandate_id)
        if row is None:
            raise NotFound()
        return dict(row)

    @routes.get("/v1/planted/tell/{mandate_id}")
    async def tell(mandate_id: Id, request: Request) -> None:
        """Refuses everybody, and says by the way what there is."""
        actor_of(request.state)
        async with house.db.connection() as conn:
            known = await conn.fetchval("SELECT 1 FROM mandate WHERE id = $1", mandate_id)
        raise Forbidden() if known else NotFound()

    @routes.post("/v1/planted/touch/{mandate_id}")
    async def touch(mandate_id: Id) -> None:
        """Refuses everybody after the deed."""
        async with house.db.transaction() as conn:
            await conn.execute("UPDATE site SET name = name || '!'")
        raise NotFound()

    return routes


PLANTED = [
    Row(operation="GET /v1/planted/look/{mandate_id}", may=frozenset({"payer"})),
    Row(operation="GET /v1/planted/tell/{mandate_id}", may=frozenset()),
    Row(operation="POST /v1/planted/touch/{mandate_id}", may=frozenset()),
]


async def test_the_matrix_sees_what_is_wrong(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each planted defect turns the matrix red, and so does a route without a row and a right that nobody has."""
    honest = assemble.routers
    monkeypatch.setattr(assemble, "routers", lambda house: [*honest(house), planted_routes(house)])
    async with town.with_app(assemble.application(town.house)) as planted:
        document = (await planted.http.get(f"{URL}/openapi.json")).json()
        assert without_row(document, ROWS) == {row.operation for row in PLANTED}
        found, _ = await turn_away(planted, PLANTED)
        look, tell, touch = ([one for one in found if row.operation in one] for row in PLANTED)
        assert any("A.viewer: A lets in" in one for one in look), look
        assert any("by B.payer: A leaks" in one for one in look), look
        assert any("by C.till: A leaks" in one for one in look), look
        assert any("by B.payer: A is told (403" in one for one in tell), tell
        assert not any("by anonymous" in one for one in tell), tell
        assert touch == [f"{PLANTED[2].operation}: turned away, and yet changed site (+0 rows)"]
        wrong_row = replace(PLANTED[1], may=frozenset({"payer"}))
        refused, _ = await let_in(planted, [wrong_row])
        assert any("by A.payer for A: turns away 403" in one for one in refused), refused
        assert f"{wrong_row.operation}: nobody succeeded" in refused


# ------------------------------------------------------------------------------------------------------------ the matrix


async def test_every_operation_has_a_row(town: Town) -> None:
    """A new operation without a row fails here."""
    document = (await town.http.get(f"{URL}/openapi.json")).json()
    assert without_row(document, ROWS) == set()


async def test_whoever_may_not_is_turned_away(town: Town) -> None:
    """No foreign read, no foreign write, and foreign looks like absent."""
    found, cells = await turn_away(town, ROWS)
    assert not found, "\n".join(found)
    assert cells > 3_000


async def test_whoever_may_is_let_in(town: Town) -> None:
    """The same requests, by those for whom they are; this one ends most of the town, so it is the last."""
    found, cells = await let_in(town, ROWS)
    assert not found, "\n".join(found)
    assert cells > 300
