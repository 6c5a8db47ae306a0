"""The API's page, walked on a real server with a real bank: every example is what is really asked and answered.

Also [0032] by scan, the other way round: the spender's phone reads the till's code for one sale.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from kinpay.cli.demo.cast import Device, Player, merchant
from kinpay_client import Problem
from tests.flow.recorder import Recorder, Said
from tests.stories.asking import limit, terms
from tests.stories.conftest import ZONE, House
from tests.tidy.source import ROOT

PAGE = ROOT / "docs" / "api.md"


@dataclass
class Family:
    """A mother, her child, a till, and everything that was said."""

    till: Device
    mother: Player
    child: Player
    circle_id: str
    recorder: Recorder
    openapi: dict[str, Any]
    walked: bool = False


@pytest_asyncio.fixture(scope="module")
async def family(house: House) -> Family:
    """Bound by scan in order A, at a canteen."""
    recorder = Recorder()
    recorder.listen(house.world.http)
    owner = await Player.sign_in(house.world, "owner")
    canteen, site = await merchant(owner, name="Canteen", mcc="5814", site="School")
    till = await Device.install(owner, merchant_id=canteen, site_id=site, name="Till 1")
    # The bank is shared by all stories, and knows people by their account names.
    mother = await Player.join(house.world, f"lin.mei.{secrets.token_hex(2)}", name="Lin Mei", born="1986-03-14", locale="en")
    await mother.open_bank_account(100_000)
    child = await Player.join(house.world, "xiaoyu", name="Xiaoyu", born="2016-09-01", locale="en")
    asked = await child.request("A", payer=mother.account, device=till)
    yes = await mother.approve(
        asked["registration_id"],
        number=asked["match_number"],
        terms=terms(limit("amount", "per_payment", 2_000), limit("amount", "day", 3_500)),
        circle={"name": "Lin", "time_zone": ZONE},
    )
    await mother.sign(yes["agreement"]["sign_url"])
    await till.capture_face(await till.told_to_capture())
    bound = await child.bound(asked["registration_id"])
    openapi = (await house.world.http.get(f"{house.world.url}/openapi.json")).json()
    return Family(till, mother, child, bound["circle_id"], recorder, openapi)


async def walk(family: Family) -> None:
    """Hold, capture less, refund, pay at once, be refused, look."""
    if family.walked:
        return
    held = await family.till.charge(await family.child.pay_code(family.circle_id), 1_000, capture=False)
    captured = await family.till.terminal.capture(held["id"], 735)
    await family.till.terminal.refund(captured["id"], 200)
    await family.till.terminal.charge_state(held["id"])
    given_up = await family.till.charge(await family.child.pay_code(family.circle_id), 500, capture=False)
    await family.till.terminal.void(given_up["id"])
    await family.till.charge(await family.child.pay_code(family.circle_id), 2_500)
    shown = await family.till.terminal.payment_code(1_400, "CNY", reference="A-17")
    await family.child.ask("POST", "/v1/payment-codes/read", {"payment_code": shown["payment_code"]})
    await family.child.pay(shown["payment_code"], family.circle_id)
    await family.till.terminal.payment_code_state(shown["payment_code_id"])
    await family.mother.told("charge_refused", "charge_succeeded", "charge_succeeded")
    await family.mother.get(f"/v1/circles/{family.circle_id}/charges")
    (charge, *_) = (await family.mother.get(f"/v1/circles/{family.circle_id}/charges?limit=1"))["charges"]
    await family.mother.get(f"/v1/circles/{family.circle_id}/statements/{charge['decided_at'][:7]}")
    family.walked = True


async def test_the_spender_pays_by_the_tills_code(family: Family) -> None:
    """[0032] by scan: the code binds till, payee and amount; whoever is signed in on the phone is the spender."""
    shown = await family.till.terminal.payment_code(600, "CNY", reference="B-1")
    tries = [family.child.pay(shown["payment_code"], family.circle_id) for _ in range(5)]
    done = await asyncio.gather(*tries, return_exceptions=True)
    (paid,) = [one for one in done if not isinstance(one, BaseException)]
    assert (paid["state"], paid["captured_minor"], paid["method"], paid["reference"]) == (
        "succeeded",
        600,
        "payment_code",
        "B-1",
    )
    assert (paid["payer_id"], paid["spender_id"], paid["terminal_id"]) == (family.mother.id, family.child.id, family.till.id)
    assert {one.code for one in done if isinstance(one, Problem)} == {"check-code-used"}
    used = await family.till.terminal.payment_code_state(shown["payment_code_id"])
    assert (used["used"], used["charge_id"]) == (True, paid["id"])
    other = await family.till.terminal.payment_code(600, "CNY")
    with pytest.raises(Problem) as refused:
        await family.mother.pay(other["payment_code"], family.circle_id)
    assert refused.value.status == 404, "the mother is no spender there"


async def test_both_may_pay_by_emvco_codes(family: Family) -> None:
    """The till's code for one sale as a merchant-presented one, the phone's as a consumer-presented one; each once."""
    asked = {"amount_minor": 70, "currency": "CNY", "reference": "E-1", "emv": {"country": "CN", "city": "Hangzhou"}}
    shown = await family.till.terminal.request("POST", "/v1/terminal/payment-codes", asked)
    read = await family.child.ask("POST", "/v1/payment-codes/read", {"payment_code": shown["emv_code"]})
    assert (read["amount"]["amount_minor"], read["reference"], read["terminal"]["merchant"]) == (70, "E-1", "Canteen")
    with pytest.raises(Problem) as altered:
        await family.child.pay(shown["emv_code"].replace("54040.70", "54040.07"), family.circle_id)
    assert altered.value.code == "emv-code-malformed", "its CRC no longer fits"
    paid = await family.child.pay(shown["emv_code"], family.circle_id)
    assert (paid["state"], paid["captured_minor"], paid["method"], paid["reference"]) == (
        "succeeded",
        70,
        "payment_code",
        "E-1",
    )
    for text in (shown["emv_code"], shown["payment_code"]):
        with pytest.raises(Problem) as used:
            await family.child.pay(text, family.circle_id)
        assert used.value.code == "check-code-used"
    code = await family.child.ask("POST", "/v1/pay-codes", {"circle_id": family.circle_id})
    bought = await family.till.charge(code["emv_code"], 65)
    assert (bought["state"], bought["method"]) == ("succeeded", "pay_code")
    with pytest.raises(Problem) as again:
        await family.till.charge(code["pay_code"], 65)
    assert again.value.code == "check-code-used"


async def test_a_face_that_we_did_not_recognise_pays_nothing(family: Family) -> None:
    """[0032] by biometric: what the till shows is a token of ours, or nothing."""
    with pytest.raises(Problem) as refused:
        await family.till.terminal.charge({"face": "K1B." + "A" * 200}, 100, "CNY")
    assert (refused.value.status, refused.value.code) == (422, "check-code-altered")


# ------------------------------------------------------------------------------------------------------- the page


@dataclass(frozen=True)
class Example:
    """A request of the page and its answer, as JSON."""

    method: str
    path: str
    asked: Any
    status: int
    answer: Any


HEAD = re.compile(r"^(GET|POST|PUT|PATCH|DELETE) (/\S+)")


def examples() -> list[Example]:
    """The blocks marked `http` on the page: a request line, perhaps a body, `→ status`, perhaps a body."""
    found = []
    for block in re.findall(r"^```http\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        request, _, response = block.partition("\n→ ")
        head = HEAD.match(request)
        assert head is not None, block
        status, _, answer = response.partition("\n")
        body = request[request.index("\n{") :] if "\n{" in request else ""
        found.append(Example(head[1], head[2], _read(body), int(status.split()[0]), _read(answer)))
    return found


def _read(text: str) -> Any:
    return json.loads(text) if text.strip() else None


def shape(value: Any, place: str = "") -> set[str]:
    """Every name in a JSON value, with where it stands; items of a list stand in one place."""
    if isinstance(value, dict):
        return {found for name, inner in value.items() for found in {f"{place}.{name}", *shape(inner, f"{place}.{name}")}}
    if isinstance(value, list):
        return {found for inner in value for found in shape(inner, f"{place}[]")}
    return set()


def test_shapes_are_told_apart() -> None:
    assert shape({"a": [{"b": 1}, {"c": {"d": None}}]}) == {".a", ".a[].b", ".a[].c", ".a[].c.d"}


def template_of(path: str, openapi: dict[str, Any], method: str) -> str:
    """The path of the document that `path` is an instance of."""
    bare = path.partition("?")[0]
    fits = [
        template
        for template, operations in openapi["paths"].items()
        if method.lower() in operations and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), bare)
    ]
    assert fits, f"{method} {path} is not in the OpenAPI document"
    return str(min(fits, key=lambda template: str(template).count("{")))


def names_of(schema: dict[str, Any], openapi: dict[str, Any], place: str = "", depth: int = 0) -> set[str]:
    """Every name that a schema allows; objects with free names end with `.*`."""
    if depth > 12:
        return {f"{place}.*"}
    if "$ref" in schema:
        return names_of(openapi["components"]["schemas"][schema["$ref"].rpartition("/")[2]], openapi, place, depth + 1)
    found: set[str] = set()
    for inner in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        found |= names_of(inner, openapi, place, depth + 1)
    for name, inner in schema.get("properties", {}).items():
        found |= {f"{place}.{name}"} | names_of(inner, openapi, f"{place}.{name}", depth + 1)
    if "items" in schema:
        found |= names_of(schema["items"], openapi, f"{place}[]", depth + 1)
    if schema.get("type") == "object" and (schema.get("additionalProperties") or "properties" not in schema):
        found.add(f"{place}.*")
    return found


def unknown(value: Any, allowed: set[str]) -> set[str]:
    """The names of `value` that a schema does not know."""
    free = [place[:-1] for place in allowed if place.endswith(".*")]
    return {name for name in shape(value) if name not in allowed and not any(name.startswith(place) for place in free)}


def body_schema(operation: dict[str, Any]) -> dict[str, Any]:
    """What may be asked."""
    found: dict[str, Any] = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    return found


async def test_every_example_is_in_the_openapi_document(family: Family) -> None:
    assert len(examples()) >= 15
    for example in examples():
        operation = family.openapi["paths"][template_of(example.path, family.openapi, example.method)][example.method.lower()]
        where = f"{example.method} {example.path}"
        if example.asked is not None:
            assert unknown(example.asked, names_of(body_schema(operation), family.openapi)) == set(), where
        if example.status >= 400:
            continue
        assert str(example.status) in operation["responses"], where
        schema = operation["responses"][str(example.status)].get("content", {}).get("application/json", {}).get("schema", {})
        assert unknown(example.answer or {}, names_of(schema, family.openapi)) == set(), where


async def test_every_example_is_really_said_so(family: Family) -> None:
    """Played against the server: for each example something with exactly its names was asked, and answered."""
    await walk(family)
    missing = []
    for example in examples():
        heard = family.recorder.of(example.method, template_of(example.path, family.openapi, example.method))
        if not any(alike(example, said) for said in heard):
            missing.append(f"{example.method} {example.path} → {example.status}; heard {[one.status for one in heard]}")
    assert missing == []


def alike(example: Example, said: Said) -> bool:
    """The same status, the same names at the top, and below nothing that was not there; lists may be cut short."""
    if example.status != said.status or set(example.answer or ()) != set(said.answer or ()):
        return False
    return shape(example.answer) <= shape(said.answer) and shape(example.asked) == shape(said.asked)
