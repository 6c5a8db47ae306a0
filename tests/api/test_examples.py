"""The examples of the OpenAPI document: every operation has its own, every one fits, all say what the application says today.

They are recorded anew here, from a town like that of the other files, and held against what is kept (`make examples`).
"""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from kinpay.server.examples import Shown, illustrate, read_examples
from tests.api.asking import URL, AsPerson
from tests.api.examples import FILE, HOT, full_places, places, recorded, told, written
from tests.api.matrix import ROWS
from tests.api.schema import fits, found, operations
from tests.api.standing import Listen
from tests.api.town import Town
from tests.flow.recorder import Recorder

Document = dict[str, Any]
LARGEST = 1_000_000
"""Characters that the document may have."""


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    """Everything that this file's town was asked and answered."""
    return Recorder()


@pytest.fixture(scope="module")
def listen(recorder: Recorder) -> Listen:
    """The town is listened to from its beginning."""
    return recorder.listen


@pytest_asyncio.fixture(scope="module")
async def document(town: Town) -> Document:
    """As it is served."""
    response = await town.http.get(f"{URL}/openapi.json")
    assert len(response.text) < LARGEST
    served: Document = response.json()
    return served


@pytest.fixture(scope="module")
def kept() -> Document:
    """The file."""
    read: Document = json.loads(FILE.read_text(encoding="utf-8"))
    return read


@pytest_asyncio.fixture(scope="module")
async def anew(town: Town, recorder: Recorder) -> Document:
    """What the file would be if it were recorded now; the town is used up by it."""
    return await recorded(town, recorder)


# ------------------------------------------------------------------------------------------- has everything an example?


def lacking(document: Mapping[str, Any]) -> list[str]:
    """Every place of the document where an example should be and is not."""
    return [f"{name}: {what}" for name, *_, operation in operations(document) for what in _lacking(operation)]


def _lacking(operation: Mapping[str, Any]) -> Iterator[str]:
    for one in operation.get("parameters", []):
        if "example" not in one:
            yield f"parameter {one['name']}"
    for content in operation.get("requestBody", {}).get("content", {}).values():
        if not content.get("examples"):
            yield "body"
    answers = operation["responses"]
    for status, answer in answers.items():
        if any(not content.get("examples") for content in answer.get("content", {}).values()) and status != "default":
            yield f"answer {status}"
    if operation["security"] and "401" not in answers:
        yield "the problem of nobody known"


async def test_every_operation_has_its_examples(document: Document) -> None:
    """Bodies, answers, parameters, and what is said to nobody known."""
    assert lacking(document) == []


def _forget_a_body(document: Document) -> None:
    del document["paths"]["/v1/circles"]["post"]["requestBody"]["content"]["application/json"]["examples"]


def _forget_an_answer(document: Document) -> None:
    document["paths"]["/v1/circles"]["post"]["responses"]["201"]["content"]["application/json"]["examples"] = {}


def _forget_a_parameter(document: Document) -> None:
    del document["paths"]["/v1/circles/{circle_id}"]["get"]["parameters"][0]["example"]


def _forget_a_problem(document: Document) -> None:
    del document["paths"]["/v1/me"]["get"]["responses"]["401"]


@pytest.mark.parametrize(
    ("plant", "complaint"),
    [
        (_forget_a_body, "POST /v1/circles: body"),
        (_forget_an_answer, "POST /v1/circles: answer 201"),
        (_forget_a_parameter, "GET /v1/circles/{circle_id}: parameter circle_id"),
        (_forget_a_problem, "GET /v1/me: the problem of nobody known"),
    ],
)
async def test_a_forgotten_example_is_named(document: Document, plant: Callable[[Document], None], complaint: str) -> None:
    """Each planted gap turns the check red."""
    planted = copy.deepcopy(document)
    plant(planted)
    assert lacking(planted) == [complaint]


async def test_the_hot_route_shows_both_bodies(document: Document) -> None:
    """A till's and a phone's; held, succeeded, refused and not known yet."""
    hot = document["paths"]["/v1/charges"]["post"]
    asked = hot["requestBody"]["content"]["application/json"]["examples"]
    assert {"till_held", "till_refused", "till_succeeded", "till_submitted"} < set(asked)
    assert any("payment_code" in one["value"]["presented"] for one in asked.values())
    by_status = {status: set(answer["content"]["application/json"]["examples"]) for status, answer in _answers(hot)}
    assert by_status["201"] >= {"till_held", "till_succeeded", "till_refused", "phone_succeeded", "phone_refused"}
    assert by_status["202"] >= {"till_submitted", "phone_submitted"}


def _answers(operation: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((status, answer) for status, answer in operation["responses"].items() if status.startswith("2"))


# -------------------------------------------------------------------------------------------------- does every one fit?


def misfits(document: Mapping[str, Any]) -> list[str]:
    """Every example that its own schema does not allow."""
    return [
        f"{name}: {what}"
        for name, *_, operation in operations(document)
        for what, schema, value in _shown(document, operation)
        if not fits(document, schema, value)
    ]


def _shown(document: Mapping[str, Any], operation: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], Any]]:
    """(what it is, its schema, the example)."""
    for one in operation.get("parameters", []):
        yield f"parameter {one['name']}", one["schema"], one["example"]
    contents = [("body", operation.get("requestBody", {}))]
    contents += [(f"answer {status}", answer) for status, answer in operation["responses"].items()]
    for what, described in contents:
        for content in described.get("content", {}).values():
            for name, example in content.get("examples", {}).items():
                value = found(document, example["$ref"]) if "$ref" in example else example
                yield f"{what} {name}", content["schema"], value["value"]


async def test_every_example_fits(document: Document) -> None:
    """Bodies, answers, parameters and problems, against the schema that stands beside them."""
    assert misfits(document) == []
    shown = [one for *_, operation in operations(document) for one in _shown(document, operation)]
    assert len(shown) > 4 * len(ROWS)


def _ask_for_text(document: Document) -> None:
    hot = document["paths"]["/v1/charges"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    hot["till_held"]["value"]["amount_minor"] = "1000"


def _answer_less(document: Document) -> None:
    answer = document["paths"]["/v1/circles"]["post"]["responses"]["201"]["content"]["application/json"]
    del answer["examples"]["usual"]["value"]["members"][0]["roles"]


def _write_an_id_wrong(document: Document) -> None:
    document["paths"]["/v1/circles/{circle_id}"]["get"]["parameters"][0]["example"] = "01a2…08"


def _lose_a_code(document: Document) -> None:
    del document["components"]["examples"]["check-code-other-terminal"]["value"]["code"]


@pytest.mark.parametrize(
    ("plant", "complaint"),
    [
        (_ask_for_text, "POST /v1/charges: body till_held"),
        (_answer_less, "POST /v1/circles: answer 201 usual"),
        (_write_an_id_wrong, "GET /v1/circles/{circle_id}: parameter circle_id"),
        (_lose_a_code, "POST /v1/terminal/scans: answer 409 check-code-other-terminal"),
    ],
)
async def test_an_example_that_does_not_fit_is_named(
    document: Document, plant: Callable[[Document], None], complaint: str
) -> None:
    """Each planted fault turns the check red."""
    planted = copy.deepcopy(document)
    plant(planted)
    assert complaint in misfits(planted)


# ------------------------------------------------------------------------- are they what the application says today?


def differing(kept: Mapping[str, Any], anew: Mapping[str, Any]) -> list[str]:
    """Where a name, at any level, is only in one of two recordings. Values may differ: it is another day, another charge."""
    return sorted(f"{'no longer' if one in _names(kept) else 'new'}: {one}" for one in _names(kept) ^ _names(anew))


def _names(examples: Mapping[str, Any]) -> set[str]:
    shown = {f"problem {code}": one for code, one in examples["problems"].items()}
    lone: set[str] = set()
    for operation, of_it in examples["operations"].items():
        lone |= {f"{operation}: parameter {name}" for name in of_it.get("parameters", {})}
        lone |= {f"{operation}: {status} {code}" for status, codes in of_it.get("problems", {}).items() for code in codes}
        shown |= {f"{operation}: body {name}": one for name, one in of_it.get("requests", {}).items()}
        for status, answers in of_it.get("answers", {}).items():
            shown |= {f"{operation}: {status} {name}": one for name, one in answers.items()}
    names = lone | {what + at for what, one in shown.items() for at in {"", *places(one)}}
    # How often one may ask is counted by the hour, and an hour may begin in between.
    return {name for name in names if "too-many-requests" not in name}


async def test_the_application_says_so_today(kept: Document, anew: Document) -> None:
    """Every name at every level; where this is red, `make examples` and look at what has changed."""
    assert differing(kept, anew) == []


async def test_an_application_that_says_otherwise_is_noticed(
    kept: Document, anew: Document, document: Document, town: Town, recorder: Recorder
) -> None:
    """A name that is told otherwise, deep inside; one that is no longer told; one that is asked for no longer."""
    assert anew
    place = ".members[].display_name"

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {("name" if name == "display_name" else name): renamed(inner) for name, inner in value.items()}
        return [renamed(inner) for inner in value] if isinstance(value, list) else value

    otherwise = [replace(one, answer=renamed(one.answer)) for one in recorder.said]
    complaints = differing(kept, told(document, otherwise, town.families))
    assert f"no longer: GET /v1/circles/{{circle_id}}: 200 usual{place}" in complaints
    assert "new: GET /v1/circles/{circle_id}: 200 usual.members[].name" in complaints
    unheard = [one for one in recorder.said if one.path != "/v1/operator"]
    assert "no longer: GET /v1/operator: 200 usual" in differing(kept, told(document, unheard, town.families))
    planted = copy.deepcopy(kept)
    planted["operations"][HOT]["requests"]["till_held"]["tip_minor"] = 100
    assert differing(planted, anew) == [f"no longer: {HOT}: body till_held.tip_minor"]


# ----------------------------------------------------------------------------------------------------- is it all made up?

_REAL = re.compile(r"127\.0\.0\.1|localhost|\.test\b|kp_live_(?!Example)|whsec_(?!Example)")


async def test_nothing_real_is_told(kept: Document, anew: Document, town: Town) -> None:
    """No token, no id, no account and no name of the town is in what is recorded; the product's people are."""
    text = written(anew)
    secrets = set().union(*(family.secrets for family in town.families.values()))
    secrets |= {one.token for one in town.principals.values() if isinstance(one, AsPerson)}
    secrets |= {value for family in town.families.values() for value in family.at.values() if len(value) >= 32}
    assert len(secrets) > 100
    assert [secret for secret in secrets if secret in text] == []
    for shown in (text, written(kept)):
        assert _REAL.findall(shown) == []
        assert all(name in shown for name in ("Lin Mei", "Xiaoyu", "Canteen"))
    assert _REAL.findall('"token": "kp_live_8LiJgoHr"') == ["kp_live_"]


def test_it_is_quickly_read() -> None:
    """A server reads the file once, when it is first asked; that is no reason to be slow."""
    begun = time.perf_counter()
    assert read_examples().operations[HOT].requests
    assert time.perf_counter() - begun < 0.5


def test_what_is_no_longer_answered_breaks_nothing() -> None:
    """The document is served although an operation has changed since; how else could its examples be recorded anew?"""
    operation = {"responses": {"201": {"description": "Made.", "content": {"application/json": {"schema": {}}}}}}
    before = copy.deepcopy(operation)
    illustrate(operation, Shown(answers={"200": {"usual": {"a": 1}}, "default": {"usual": {}}}), {})
    assert operation == before
    illustrate(operation, Shown(answers={"201": {"usual": {"a": 1}}}), {})
    assert operation["responses"]["201"]["content"]["application/json"] == {
        "schema": {},
        "examples": {"usual": {"value": {"a": 1}}},
    }


def test_fullness_counts_what_is_said() -> None:
    """What is empty says nothing; the items of a list stand in one place."""
    assert full_places({"a": None, "b": [{"c": 1}, {"c": 2, "d": None}], "e": []}) == {".b[].c"}
