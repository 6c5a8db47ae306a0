"""A fresh proof: bound to a person and to exactly one content, good once, five attempts, five minutes."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest

from kinpay.people.proof import ProofGiven, check_proof, summary_hash, verify_proof
from kinpay.primitives.errors import Invalid, ProofInvalid, ProofRequired
from tests.people.house import House, Somebody

SUBJECT = "0199f3a2c4d87b1e9a5f0c3d2e1b4a67"
CONTENT: dict[str, Any] = {
    "limits": [{"metric": "amount", "window": "day", "at_most_minor": 1500}],
    "note": "午饭",
    "paused": False,
}


async def check(somebody: Somebody, given: dict[str, str], **other: Any) -> str:
    wanted: dict[str, Any] = {"operation": "mandate.terms", "subject_id": SUBJECT, "content": CONTENT} | other
    house = somebody.house
    return await check_proof(house.db, somebody.actor, keys=house.keys, proof=ProofGiven(**given), **wanted)


async def test_a_proof_is_good_once(house: House) -> None:
    wang = await house.person("wang")
    given = await wang.proof("mandate.terms", SUBJECT, CONTENT)
    assert (await house.codes())[-1]["purpose"] == "mandate.terms"
    assert await check(wang, given) == given["proof_id"]
    with pytest.raises(ProofInvalid):
        await check(wang, given)


async def test_one_of_many_at_once_uses_it(house: House) -> None:
    wang = await house.person("wang")
    given = await wang.proof("mandate.terms", SUBJECT, CONTENT)
    answers = await asyncio.gather(*(check(wang, given) for _ in range(5)), return_exceptions=True)
    assert sum(answer == given["proof_id"] for answer in answers) == 1
    assert sum(isinstance(answer, ProofInvalid) for answer in answers) == 4


def altered() -> list[dict[str, Any]]:
    more = copy.deepcopy(CONTENT)
    more["limits"][0]["at_most_minor"] = 1501
    as_text = copy.deepcopy(CONTENT)
    as_text["limits"][0]["at_most_minor"] = "1500"
    return [
        {"content": more},
        {"content": as_text},
        {"content": CONTENT | {"note": "午餐"}},
        {"content": CONTENT | {"paused": 0}},
        {"content": CONTENT | {"extra": None}},
        {"content": {"limits": CONTENT["limits"]}},
        {"content": {}},
        {"operation": "mandate.term"},
        {"subject_id": SUBJECT[:-1] + "8"},
    ]


@pytest.mark.parametrize("other", altered())
async def test_a_proof_of_another_content_is_refused(house: House, other: dict[str, Any]) -> None:
    wang = await house.person("wang")
    given = await wang.proof("mandate.terms", SUBJECT, CONTENT)
    with pytest.raises(ProofInvalid):
        await check(wang, given, **other)
    assert await check(wang, given) == given["proof_id"], "the right content still passes"


def test_every_flipped_byte_of_what_is_bound_changes_its_hash() -> None:
    text = "mandate.terms"
    hashes = {
        summary_hash(operation=text, subject_id=SUBJECT, content={"x": text[:i] + chr(ord(text[i]) ^ bit) + text[i + 1 :]})
        for i in range(len(text))
        for bit in (1, 2, 4, 8, 16, 32, 64)
    }
    assert len(hashes) == 7 * len(text)
    reordered = dict(reversed(CONTENT.items()))
    one = summary_hash(operation=text, subject_id=SUBJECT, content=CONTENT)
    assert one == summary_hash(operation=text, subject_id=SUBJECT, content=reordered), "the order of names says nothing"


@pytest.mark.parametrize("value", [1.0, float("nan"), 2**63, -(2**70), "\ud800", b"x", {1: "x"}, object()])
def test_what_two_readers_could_read_differently_cannot_be_proven(value: Any) -> None:
    with pytest.raises(Invalid):
        summary_hash(operation="x", subject_id=SUBJECT, content={"value": [value]})


def test_bottomless_content_is_refused() -> None:
    deep: Any = 1
    for _ in range(900):
        deep = [deep]
    with pytest.raises(Invalid):
        summary_hash(operation="x", subject_id=SUBJECT, content={"value": deep})


async def test_fifty_guesses_at_once_are_five_and_the_proof_is_dead(house: House) -> None:
    wang = await house.person("wang")
    given = await wang.proof("mandate.terms", SUBJECT, CONTENT)
    wrong = [f"{number:06d}" for number in range(51) if f"{number:06d}" != given["code"]][:50]
    answers = await asyncio.gather(*(check(wang, given | {"code": guess}) for guess in wrong), return_exceptions=True)
    assert all(isinstance(answer, ProofInvalid) for answer in answers)
    assert await house.value("SELECT attempts FROM one_time_code WHERE id = $1", given["proof_id"]) == 5
    with pytest.raises(ProofInvalid):
        await check(wang, given)


async def test_somebody_else_can_neither_use_nor_wear_out_a_proof(house: House) -> None:
    wang, li = await house.person("wang"), await house.person("lily")
    given = await wang.proof("mandate.terms", SUBJECT, CONTENT)
    for _ in range(6):
        with pytest.raises(ProofInvalid):
            await check(li, given)
    assert await check(wang, given) == given["proof_id"]


async def test_a_sign_in_code_is_no_proof_and_a_proof_signs_nobody_in(house: House) -> None:
    wang = await house.person("wang")
    given = await wang.proof("mandate.terms", SUBJECT, CONTENT)
    entered = await house.client.post(f"/v1/sign-in/{given['proof_id']}", json={"code": given["code"]})
    assert entered.status_code == 401
    asked = {"operator_id": house.operator_id, "account": "wang"}
    started = (await house.client.post("/v1/sign-in", json=asked)).json()
    with pytest.raises(ProofInvalid):
        await check(wang, {"proof_id": started["sign_in_id"], "code": await house.last_code("wang")})


async def test_an_expired_proof_is_refused(house: House) -> None:
    wang = await house.person("wang")
    given = await wang.proof("mandate.terms", SUBJECT, CONTENT)
    await house.value("UPDATE one_time_code SET expires_at = created_at WHERE id = $1", given["proof_id"])
    with pytest.raises(ProofInvalid):
        await check(wang, given)


async def test_without_a_proof_one_is_asked_for(house: House) -> None:
    wang = await house.person("wang")
    with pytest.raises(ProofRequired):
        await verify_proof(house.db, wang.actor, keys=house.keys, operation="x", subject_id=SUBJECT, content={}, proof=None)


async def test_at_most_ten_proofs_an_hour(house: House) -> None:
    wang = await house.person("wang")
    body = {"operation": "mandate.terms", "subject_id": SUBJECT, "content": CONTENT}
    answers = [(await wang.ask("POST", "/v1/proofs", body)).status_code for _ in range(11)]
    assert answers == [201] * 10 + [429]


@pytest.mark.parametrize("operation", ["", "Mandate", "a.b.c.d", "x" * 100, "mandate terms", "mandate.terms\n"])
async def test_an_operation_has_a_plain_name(house: House, operation: str) -> None:
    wang = await house.person("wang")
    body = {"operation": operation, "subject_id": SUBJECT, "content": {}}
    assert (await wang.ask("POST", "/v1/proofs", body)).status_code == 422


async def test_only_who_is_signed_in_can_ask_for_a_proof(house: House) -> None:
    body = {"operation": "mandate.terms", "subject_id": SUBJECT, "content": {}}
    assert (await house.client.post("/v1/proofs", json=body)).status_code == 401
