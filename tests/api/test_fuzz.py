"""A thousand requests that Schemathesis made from our own document, by everybody; `fuzz.py` asks twenty thousand by command."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import schemathesis

from kinpay.server import assemble
from kinpay.server.asgi import App, Message, Receive, Scope, Send
from tests.api.asking import URL
from tests.api.cases import HOT, HOT_SHARE, invented, shares
from tests.api.fuzz import Outcome, campaign, unasked
from tests.api.judging import JUDGES
from tests.api.matrix import ROWS, Row
from tests.api.town import Town

CASES = 1_000
SEED = 20_260_302
FEW = 24


# ------------------------------------------------------------------------------------------------------ planted defects


@dataclass(frozen=True, slots=True)
class Answer:
    """What an application says."""

    status: int
    content_type: str
    body: bytes

    def with_told(self, change: Callable[[Any], object]) -> Answer:
        """The same with its JSON changed in place."""
        told = json.loads(self.body)
        change(told)
        return replace(self, body=json.dumps(told).encode())


class Planted:
    """An honest application whose answers are spoilt on the way out, or that is not asked at all."""

    def __init__(self, app: App, spoil: Spoil) -> None:
        self._app = app
        self._spoil = spoil

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands on what a run needs before it asks."""
        if scope["path"] in ("/openapi.json", "/v1/terminal/function-code", "/v1/terminal/payment-codes"):
            await self._app(scope, receive, send)
            return
        told = self._spoil if isinstance(self._spoil, Answer) else self._spoil(await self._honest(scope, receive))
        kind = [(b"content-type", told.content_type.encode())] if told.content_type else []
        await send({"type": "http.response.start", "status": told.status, "headers": kind})
        await send({"type": "http.response.body", "body": told.body})

    async def _honest(self, scope: Scope, receive: Receive) -> Answer:
        sent: list[Message] = []

        async def keep(message: Message) -> None:
            sent.append(message)

        await self._app(scope, receive, keep)
        kind = dict(sent[0]["headers"]).get(b"content-type", b"").decode()
        return Answer(sent[0]["status"], kind, b"".join(message.get("body", b"") for message in sent[1:]))


Spoil = Answer | Callable[[Answer], Answer]
"""What is said in place of every answer, or what becomes of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """A defect at one operation, the checker that has to see it, and what it says."""

    operation: str
    spoil: Spoil
    checker: str
    says: str
    cases: int = FEW


def _if_good(change: Callable[[Answer], Answer]) -> Callable[[Answer], Answer]:
    return lambda answer: change(answer) if answer.status < 300 else answer


def _if_bad(change: Callable[[Answer], Answer]) -> Callable[[Answer], Answer]:
    return lambda answer: change(answer) if answer.status >= 400 else answer


def _problem(code: str, status: int) -> Answer:
    told = {"type": f"/problems/{code}", "title": "Odd.", "status": status, "code": code}
    return Answer(status, "application/problem+json", json.dumps(told).encode())


ME = "GET /v1/me"
CIRCLES = "POST /v1/circles"
PLANTS = [
    Plant(operation=ME, spoil=_problem("internal", 500), checker="no_fault_of_ours", says="answers 500"),
    Plant(
        operation=ME,
        spoil=_if_good(lambda answer: replace(answer, status=203)),
        checker="documented_status",
        says="answers 203, which is documented nowhere",
    ),
    Plant(
        operation=ME,
        spoil=_if_good(lambda _: Answer(302, "", b"")),
        checker="documented_status",
        says="answers 302, which is documented nowhere",
    ),
    Plant(
        operation=CIRCLES,
        spoil=_if_bad(lambda _: _problem("sorry", 409)),
        checker="known_problem",
        says="the problem sorry with 409 is not in docs/errors.md",
    ),
    Plant(
        operation=CIRCLES,
        spoil=_if_bad(lambda _: _problem("not-found", 410)),
        checker="known_problem",
        says="the problem not-found with 410 is not in docs/errors.md",
    ),
    Plant(
        operation=CIRCLES,
        spoil=_if_bad(lambda answer: replace(answer, content_type="application/json")),
        checker="known_problem",
        says="is no problem document but application/json",
    ),
    Plant(
        operation=CIRCLES,
        spoil=_if_bad(lambda answer: answer.with_told(lambda told: told.update(errors=[{"in": "body"}]))),
        checker="as_described",
        says='"field" is a required property',
    ),
    Plant(
        operation=ME,
        spoil=_if_good(lambda answer: replace(answer, content_type="text/html")),
        checker="as_described",
        says="text/html",
    ),
    Plant(
        operation=ME,
        spoil=_if_good(lambda answer: answer.with_told(lambda told: told.pop("locale"))),
        checker="as_described",
        says='"locale" is a required property',
    ),
    Plant(
        operation=ME,
        spoil=_if_good(lambda answer: answer.with_told(lambda told: told.update(locale=7))),
        checker="as_described",
        says="is not of type",
    ),
    Plant(
        operation="POST /v1/sign-out",
        spoil=Answer(204, "", b"{}"),
        checker="as_described",
        says="has a body where there is none",
    ),
    Plant(
        operation="GET /v1/circles",
        spoil=Answer(200, "application/json", b'{"circles": []}'),
        checker="nobody_is_let_in",
        says="lets in anonymous with 200, where ['person'] may",
        cases=120,
    ),
    Plant(
        operation="GET /v1/circles",
        spoil=Answer(200, "application/json", b'{"circles": []}'),
        checker="nobody_is_let_in",
        says="till with 200, where ['person'] may",
    ),
    Plant(
        operation=HOT,
        spoil=Answer(201, "application/json", b"{}"),
        checker="key_demanded",
        says="succeeds with 201 without Idempotency-Key",
        cases=120,
    ),
    Plant(
        operation=HOT,
        spoil=Answer(201, "application/json", b"{}"),
        checker="unfit_refused",
        says="takes a body that does not fit",
    ),
    Plant(
        operation=CIRCLES,
        spoil=Answer(201, "application/json", b"{}"),
        checker="unfit_refused",
        says="does without a body",
        cases=120,
    ),
    Plant(
        operation="GET /v1/circles/{circle_id}/charges",
        spoil=Answer(200, "application/json", b"{}"),
        checker="unfit_refused",
        says="takes limit=",
    ),
    Plant(
        operation="GET /v1/circles/{circle_id}",
        spoil=Answer(200, "application/json", b"{}"),
        checker="unfit_refused",
        says="takes circle_id=",
    ),
]


def rows_of(operation: str) -> list[Row]:
    """An operation's rows of the matrix."""
    return [row for row in ROWS if row.operation == operation]


async def spoilt(town: Town, operation: str, spoil: Spoil, *, cases: int = FEW, **more: Any) -> Outcome:
    """What is found at one operation of an application whose answers are spoilt."""
    async with town.with_app(Planted(assemble.application(town.house), spoil)) as planted:
        return await campaign(planted, cases=cases, seed=SEED, rows=rows_of(operation), **more)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: f"{plant.checker}: {plant.says}")
async def test_each_checker_sees_its_defect(town: Town, plant: Plant) -> None:
    """Red over the planted answer, in the checker's own words."""
    outcome = await spoilt(town, plant.operation, plant.spoil, cases=plant.cases)
    said = [found.wrong for found in outcome.found if found.wrong.startswith(f"{plant.checker}: ")]
    assert any(plant.says in one for one in said), "\n".join(str(found) for found in outcome.found[:20])


def test_no_checker_goes_without_a_plant() -> None:
    """A new checker needs a defect that it sees."""
    assert {judge.__name__ for judge in JUDGES} == {plant.checker for plant in PLANTS}


async def test_an_application_that_breaks_off_is_seen(town: Town) -> None:
    """What is raised past all layers counts as a failure, too."""

    def give_up(_: Answer) -> Answer:
        raise ZeroDivisionError

    outcome = await spoilt(town, ME, give_up)
    assert len(outcome.found) == FEW
    assert outcome.found[0].wrong == "raises ZeroDivisionError()"


async def test_a_failure_says_how_to_see_it_again(town: Town) -> None:
    """The command that is printed asks the same case again, and only that one."""
    plant = PLANTS[3]
    first = next(found for found in (await spoilt(town, plant.operation, plant.spoil)).found if found.asked.body)
    place, number = first.asked.place, first.asked.number
    assert f"--cases {FEW} --seed {SEED} --case {place}.{number}" in str(first)
    again = await spoilt(town, plant.operation, plant.spoil, only=(place, number))
    assert [found.asked for found in again.found] == [replace(first.asked, case=again.found[0].asked.case)]
    assert again.cases == 1


async def test_the_seed_makes_the_cases(town: Town) -> None:
    """The same again, and others with another seed; half of them are nearly valid."""
    document = (await town.http.get(f"{URL}/openapi.json")).text

    def made(seed: int) -> list[str]:
        invented.cache_clear()
        return [repr(case) for case in invented(document, HOT, 20, seed)]

    assert made(1) == made(1)
    assert made(1) != made(2)
    kinds = [case.meta.generation.mode for case in invented(document, HOT, 20, 1)]
    assert {kinds.count(mode) for mode in schemathesis.GenerationMode} == {10}


def test_every_row_gets_its_share() -> None:
    """The shares come to the whole; the hot route has more than the others."""
    share = shares(ROWS, CASES)
    assert sum(share.values()) == CASES
    usual = CASES // (len(ROWS) + (HOT_SHARE - 1) * len(rows_of(HOT)))
    assert all(count >= (HOT_SHARE if ROWS[place].operation == HOT else 1) * usual for place, count in share.items())


# --------------------------------------------------------------------------------------------------------- the campaign


async def test_nothing_that_is_sent_is_answered_otherwise_than_documented(town: Town) -> None:
    """No 5xx, no undocumented answer, no break of a schema, nobody let in; this one uses the town up, so it is the last."""
    outcome = await campaign(town, cases=CASES, seed=SEED)
    assert not outcome.found, "\n".join(str(found) for found in outcome.found)
    assert outcome.cases == CASES
    assert unasked((await town.http.get(f"{URL}/openapi.json")).json(), outcome) == set()
    assert outcome.succeeded.total() > CASES // 4
    # Both bodies of the hot route were taken as well as refused.
    assert all(outcome.succeeded[place] for place, row in enumerate(ROWS) if row.operation == HOT)
    assert {201, 422} <= set(outcome.heard[HOT])


async def test_an_operation_that_nobody_asked_is_named(town: Town) -> None:
    """A row less, and the document has something more."""
    document = (await town.http.get(f"{URL}/openapi.json")).json()
    asked: Sequence[str] = [row.operation for row in ROWS if row.operation != ME]
    assert unasked(document, Outcome(heard=dict.fromkeys(asked))) == {ME}  # type: ignore[arg-type]
