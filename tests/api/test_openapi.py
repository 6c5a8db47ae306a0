"""The OpenAPI document: whole by itself, true about who may ask, and at one with the hot route's decoder and answers."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, create_model

from kinpay.charges.answer import ChargeAnswer, ReasonAnswer, RefusalAnswer
from kinpay.charges.hot import SpenderCharge, TerminalCharge, described
from kinpay.charges.routes import ChargeTold, ReasonTold, RefusalTold
from kinpay.server.operations import NAMES, ROOMS
from tests.api.asking import URL
from tests.api.matrix import EVERYBODY, KEYS, PERSONS, ROWS, TERMINALS
from tests.api.schema import faults, fits, operations
from tests.api.town import Town

_OPERATION, _SCHEMAS = described()
HOT: dict[str, Any] = {"components": {"schemas": _SCHEMAS}}
NAMED = Path(__file__).parent / "operation_ids.txt"
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Under load a value takes longer to make, which says nothing about us."""
BODIES: Mapping[str, type[msgspec.Struct]] = {"TerminalCharge": TerminalCharge, "SpenderCharge": SpenderCharge}


@pytest_asyncio.fixture(scope="module")
async def document(town: Town) -> dict[str, Any]:
    """As it is served."""
    response: httpx.Response = await town.http.get(f"{URL}/openapi.json")
    assert response.headers["content-type"] == "application/json"
    found: dict[str, Any] = response.json()
    return found


# ------------------------------------------------------------------------------------------------------ is it whole?


async def test_it_is_whole(document: dict[str, Any]) -> None:
    """References, ids, security, problems, closed bodies."""
    assert faults(document) == []


def _lose_a_schema(document: dict[str, Any]) -> None:
    del document["components"]["schemas"]["CircleIn"]


def _name_two_alike(document: dict[str, Any]) -> None:
    document["paths"]["/v1/me"]["get"]["operationId"] = document["paths"]["/v1/circles"]["get"]["operationId"]


def _forget_who_may_ask(document: dict[str, Any]) -> None:
    del document["paths"]["/v1/me"]["get"]["security"]


def _forget_problems(document: dict[str, Any]) -> None:
    del document["paths"]["/v1/me"]["get"]["responses"]["default"]


def _open_a_body(document: dict[str, Any]) -> None:
    del document["components"]["schemas"]["ProofGiven"]["additionalProperties"]


def _misname_a_parameter(document: dict[str, Any]) -> None:
    document["paths"]["/v1/circles/{circle_id}"]["get"]["parameters"][0]["name"] = "id"


def _write_a_word_wrong(document: dict[str, Any]) -> None:
    document["components"]["schemas"]["CircleIn"]["additionalProperty"] = False


@pytest.mark.parametrize(
    ("plant", "complaint"),
    [
        (_lose_a_schema, "#/components/schemas/CircleIn points nowhere"),
        (_name_two_alike, "operationId listCircles is there 2 times"),
        (_forget_who_may_ask, "GET /v1/me: nothing about who may ask"),
        (_forget_problems, "GET /v1/me: its problems are not described"),
        (_open_a_body, "PUT /v1/mandates/{mandate_id}/terms: ProofGiven is open to unknown fields"),
        (_misname_a_parameter, "GET /v1/circles/{circle_id}: its path and its path parameters differ"),
        (_write_a_word_wrong, "CircleIn: words that nobody knows: ['additionalProperty']"),
    ],
)
async def test_what_is_broken_is_named(
    document: dict[str, Any], plant: Callable[[dict[str, Any]], None], complaint: str
) -> None:
    """Each planted fault turns the check red."""
    planted = copy.deepcopy(document)
    plant(planted)
    assert complaint in faults(planted)


# ------------------------------------------------------------------------------------------------ what clients are made of


def names_of(document: Mapping[str, Any]) -> list[str]:
    """`operationId METHOD /path` of every operation, in the order of the names."""
    return sorted(f"{operation['operationId']} {name}" for name, _, _, operation in operations(document))


async def test_names_are_for_ever(document: dict[str, Any]) -> None:
    """Clients are generated from them: another name, path or method breaks those. New operations get a line in the list."""
    assert names_of(document) == NAMED.read_text(encoding="utf-8").splitlines()
    planted = copy.deepcopy(document)
    planted["paths"]["/v1/circles"]["get"]["operationId"] = "listFamilies"
    assert set(NAMED.read_text(encoding="utf-8").splitlines()) - set(names_of(planted)) == {"listCircles GET /v1/circles"}


async def test_names_read_alike(document: dict[str, Any]) -> None:
    """A verb and a noun; what has a cursor or a limit is a list."""
    for name, _, _, operation in operations(document):
        called = operation["operationId"]
        assert re.fullmatch(r"[a-z]+([A-Z][a-z]+)+", called), f"{name} is called {called}"
        asked = {one["name"] for one in operation.get("parameters", [])}
        assert called.startswith("list") or not asked & {"after", "limit"}, f"{name} is a list"


async def test_every_operation_is_in_one_room(document: dict[str, Any]) -> None:
    """One tag each, each tag with one line about it, in the order of the table; and nothing is called that there is not."""
    tags = {name: tuple(operation["tags"]) for name, _, _, operation in operations(document)}
    assert tags == {name: (tag,) for name, (tag, _) in NAMES.items()}
    told = {one["name"]: one["description"] for one in document["tags"]}
    assert list(told) == list(ROOMS)
    assert [line for line in told.values() if "\n" in line or not line.endswith(".")] == []


async def test_it_says_what_it_is(document: dict[str, Any]) -> None:
    """A licence, and a server: the one that it comes from."""
    assert document["info"]["license"] == {"name": "Apache-2.0", "identifier": "Apache-2.0"}
    assert document["info"]["summary"]
    assert document["info"]["description"]
    assert [server["url"] for server in document["servers"]] == ["/"]


# --------------------------------------------------------------------------------------- is it true about who may ask?


def askers(document: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """Operation → the kinds of askers that the document names; none of them where it is open to all."""
    return {name: frozenset().union(*operation["security"]) for name, _, _, operation in operations(document)}


def askers_in_truth() -> dict[str, frozenset[str]]:
    """The same from the matrix of roles, which is held against the running application."""
    told: dict[str, frozenset[str]] = {}
    for row in ROWS:
        kinds = {"person"} if row.may & PERSONS else set()
        kinds |= {"terminal"} if row.may & TERMINALS else set()
        kinds |= {"api_key"} if row.may & KEYS else set()
        open_to_all = not row.may or row.may >= EVERYBODY
        told[row.operation] = told.get(row.operation, frozenset()) | (frozenset() if open_to_all else frozenset(kinds))
    return told


async def test_it_says_who_may_ask(document: dict[str, Any]) -> None:
    """Person, terminal, API key, several or nobody in particular, as the matrix of roles knows it."""
    assert askers(document) == askers_in_truth()
    planted = copy.deepcopy(document)
    planted["paths"]["/v1/me"]["get"]["security"] = [{"person": []}, {"terminal": []}]
    assert askers(planted) != askers_in_truth()


async def test_it_says_where_a_key_is_needed(document: dict[str, Any]) -> None:
    """`Idempotency-Key` is a required header exactly where a request without one is refused (`test_bad_input.py`)."""
    told = {
        name
        for name, _, _, operation in operations(document)
        for one in operation.get("parameters", [])
        if one["name"] == "Idempotency-Key" and one["in"] == "header" and one.get("required")
    }
    assert told == {row.operation for row in ROWS if row.keyed}


async def test_it_says_where_a_key_makes_a_difference(town: Town, document: dict[str, Any]) -> None:
    """What takes a key without asking for one does the same thing once; where nothing is kept under it, it is refused."""
    told = {
        name
        for name, _, _, operation in operations(document)
        for one in operation.get("parameters", [])
        if one["name"] == "Idempotency-Key" and not one.get("required")
    }
    assert told == {"POST /v1/circles", "POST /v1/merchants", "POST /v1/sites", "POST /v1/terminals"}
    family, owner = town.families["A"], town.principals["A.owner"]
    for row in ROWS:
        if row.operation in told:
            heard = [await owner.ask("POST", row.path(family), row.content(family), headers=row.key)]
            key = {"idempotency-key": "the-same"}
            heard += [await owner.ask("POST", row.path(family), row.content(family), headers=key) for _ in range(2)]
            assert [one.status_code for one in heard] == [201] * 3, row.operation
            assert [one.headers.get("idempotency-replayed") for one in heard] == [None, None, "true"], row.operation
            assert heard[1].json() == heard[2].json() != heard[0].json(), row.operation
            other = await owner.ask("POST", row.path(family), row.content(family)[:-1] + b" }", headers=key)
            assert other.json()["code"] == "idempotency-key-reused", row.operation
        if row.unkeyed:
            refused = await owner.ask("POST", row.path(family), row.content(family), headers={"idempotency-key": "k"})
            assert (refused.status_code, refused.json()["code"]) == (400, "idempotency-key-not-kept"), row.operation


# ----------------------------------------------------------------------------------- the hot route: schema and decoder


def values_of(kind: msgspec.inspect.Type) -> st.SearchStrategy[Any]:
    """Valid JSON values of a type of the decoder, made from the decoder's own description of it."""
    if isinstance(kind, msgspec.inspect.StructType):
        needed = {one.encode_name: values_of(one.type) for one in kind.fields if one.required}
        others = {one.encode_name: values_of(one.type) for one in kind.fields if not one.required}
        return st.fixed_dictionaries(needed, optional=others)
    if isinstance(kind, msgspec.inspect.UnionType):
        return st.one_of([values_of(one) for one in kind.types])
    if isinstance(kind, msgspec.inspect.VarTupleType):
        return st.lists(values_of(kind.item_type), max_size=3)
    if isinstance(kind, msgspec.inspect.IntType):
        return st.integers(min_value=kind.gt + 1 if kind.gt is not None else kind.ge, max_value=kind.le)
    if isinstance(kind, msgspec.inspect.StrType):
        low, high = kind.min_length or 0, kind.max_length
        if kind.pattern is None:
            return st.text(min_size=low, max_size=high, alphabet=st.characters(exclude_categories=["Cs"]))
        return st.from_regex(kind.pattern, fullmatch=True).filter(lambda text: low <= len(text) <= (high or len(text)))
    return st.none() if isinstance(kind, msgspec.inspect.NoneType) else st.booleans()


TEXT = st.text(max_size=12, alphabet=st.characters(exclude_categories=["Cs"]))
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([2**53, 2**53 - 1, 0.5, -1.5, [], {}, "CNY\n", "1234\n", ""]),
    TEXT,
)


@st.composite
def nearly(draw: st.DrawFn, kind: type[msgspec.Struct]) -> Any:
    """A valid body in which something was dropped, added or put in another's place, in it or in what is presented."""
    body = draw(values_of(msgspec.inspect.type_info(kind)))
    inner = draw(st.sampled_from([body, body["presented"]]))
    name = draw(st.sampled_from([*inner, "state", "payer_id"]))
    if draw(st.booleans()) and name in inner:
        del inner[name]
    else:
        inner[name] = draw(ODD)
    return body


def takes(kind: type[msgspec.Struct], body: Any) -> bool:
    """Whether the decoder takes it, as it comes over the wire."""
    try:
        msgspec.json.decode(json.dumps(body).encode(), type=kind)
    except msgspec.ValidationError:
        return False
    return True


def described_as(name: str, body: Any, *, document: Mapping[str, Any] = HOT) -> bool:
    """Whether the document says that it is taken."""
    return fits(document, {"$ref": f"#/components/schemas/{name}"}, body)


@pytest.mark.parametrize("name", BODIES)
def test_what_the_decoder_takes_is_described(name: str) -> None:
    """Every value of the decoder's types fits the schema, and no other body's."""

    @PATIENT
    @given(values_of(msgspec.inspect.type_info(BODIES[name])))
    def check(body: Any) -> None:
        assert takes(BODIES[name], body)
        assert [other for other in BODIES if described_as(other, body)] == [name]

    check()


@pytest.mark.parametrize("name", BODIES)
def test_decoder_and_schema_agree_about_the_rest(name: str) -> None:
    """What is nearly valid is taken exactly where the schema says so."""

    @PATIENT
    @given(nearly(BODIES[name]))
    def check(body: Any) -> None:
        assert takes(BODIES[name], body) is described_as(name, body)

    check()


CODE = {"code": "K1P.abcdef"}
INVALID: list[Any] = [
    {},
    [],
    None,
    {"presented": CODE, "amount_minor": 0, "currency": "CNY"},
    {"presented": CODE, "amount_minor": 2**53, "currency": "CNY"},
    {"presented": CODE, "amount_minor": 1.5, "currency": "CNY"},
    {"presented": CODE, "amount_minor": "100", "currency": "CNY"},
    {"presented": CODE, "amount_minor": True, "currency": "CNY"},
    {"presented": CODE, "amount_minor": 100, "currency": "cny"},
    {"presented": CODE, "amount_minor": 100, "currency": "CNY\n"},
    {"presented": CODE, "amount_minor": 100},
    {"presented": {"code": "short"}, "amount_minor": 100, "currency": "CNY"},
    {"presented": {"code": "K1P.with space"}, "amount_minor": 100, "currency": "CNY"},
    {"presented": CODE | {"state": "x"}, "amount_minor": 100, "currency": "CNY"},
    {"presented": CODE, "amount_minor": 100, "currency": "CNY", "payer_id": "0" * 32},
    {"presented": CODE, "amount_minor": 100, "currency": "CNY", "pin": "１２３４"},
    {"presented": CODE, "amount_minor": 100, "currency": "CNY", "pin": "123456789"},
    {"presented": CODE, "amount_minor": 100, "currency": "CNY", "reference": ""},
    {"presented": CODE, "amount_minor": 100, "currency": "CNY", "capture": "yes"},
    {"presented": {"payment_code": "K1T.abcdef"}, "circle_id": "A" * 32},
    {"presented": {"payment_code": "K1T.abcdef"}, "circle_id": "0" * 32 + "\n"},
    {"presented": {"payment_code": None}, "circle_id": "0" * 32},
]


@pytest.mark.parametrize("body", INVALID, ids=str)
def test_what_is_invalid_is_so_for_both(body: Any) -> None:
    """By hand, for what generators seldom hit."""
    assert not any(takes(kind, body) for kind in BODIES.values())
    assert not any(described_as(name, body) for name in BODIES)


def test_a_schema_that_says_something_else_is_noticed() -> None:
    """A looser bound, a missing one and an open body each disagree with the decoder about something above."""
    valid = {"presented": CODE, "amount_minor": 100, "currency": "CNY"}
    assert described_as("TerminalCharge", valid)
    plants: list[Callable[[dict[str, Any]], object]] = [
        lambda schema: schema["properties"]["amount_minor"].update(maximum=2**60),
        lambda schema: schema["properties"]["amount_minor"].pop("exclusiveMinimum"),
        lambda schema: schema["required"].remove("currency"),
        lambda schema: schema.pop("additionalProperties"),
        lambda schema: schema["properties"].update(capture={}),
    ]
    for plant in plants:
        planted = copy.deepcopy(HOT)
        plant(planted["components"]["schemas"]["TerminalCharge"])
        assert any(described_as("TerminalCharge", body, document=planted) for body in INVALID)


# ------------------------------------------------------------------------------------- one answer, described twice


def shape(schema: Mapping[str, Any]) -> dict[str, tuple[bool, tuple[str, ...]]]:
    """Field → whether it is required, and of which kinds it is; a reference counts as an object."""
    fields = {}
    for name, told in schema["properties"].items():
        kinds = sorted(_kind(one) for one in told.get("anyOf", [told]))
        fields[name] = (name in schema.get("required", []), tuple(kinds))
    return fields


def _kind(schema: Mapping[str, Any]) -> str:
    return "object" if "$ref" in schema else str(schema["type"]) + (f" {schema['format']}" if "format" in schema else "")


def of_model(model: type[BaseModel]) -> dict[str, tuple[bool, tuple[str, ...]]]:
    """What the routes describe."""
    return shape(model.model_json_schema())


def of_struct(struct: type[msgspec.Struct]) -> dict[str, tuple[bool, tuple[str, ...]]]:
    """What is sent."""
    return shape(msgspec.json.schema_components([struct])[1][struct.__name__])


PAIRS: list[tuple[type[BaseModel], type[msgspec.Struct]]] = [
    (ChargeTold, ChargeAnswer),
    (RefusalTold, RefusalAnswer),
    (ReasonTold, ReasonAnswer),
]


@pytest.mark.parametrize(("model", "struct"), PAIRS)
def test_a_charge_is_told_as_it_is_described(model: type[BaseModel], struct: type[msgspec.Struct]) -> None:
    """The same fields, as optional, of the same kinds, in the same order."""
    assert list(of_model(model).items()) == list(of_struct(struct).items())


def test_a_charge_that_is_told_otherwise_is_noticed() -> None:
    """One field more, or one that is no longer optional."""
    assert of_model(create_model("More", __base__=ChargeTold, tip_minor=(int, 0))) != of_struct(ChargeAnswer)
    assert of_model(create_model("Firm", __base__=ChargeTold, payer_id=(str, ...))) != of_struct(ChargeAnswer)
