"""Accounts and sign-in: who is there cannot be seen, and nobody guesses their way in."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kinpay.people import sign_in
from kinpay.people.open_account import open_assisted
from kinpay.people.prune import prune
from kinpay.primitives.errors import TooMany, Unauthenticated
from tests.people.house import House


def wish(house: House, account: str, **other: Any) -> dict[str, Any]:
    told = {"operator_id": house.operator_id, "account": account, "display_name": "Li", "locale": "zh"}
    return {**told, "contact": {"channel": "email", "address": "li@example.org"}, **other}


async def test_an_account_is_unverified_until_its_first_code_comes_back(house: House) -> None:
    started = await house.client.post("/v1/people", json=wish(house, "lily"))
    assert started.status_code == 202
    assert await house.value("SELECT state FROM person WHERE account = 'lily'") == "unverified"
    sent = (await house.codes())[-1]
    assert (sent["address"], sent["account"], sent["purpose"]) == ("li@example.org", "lily", "open_account")
    entered = await house.client.post(f"/v1/sign-in/{started.json()['sign_in_id']}", json={"code": sent["code"]})
    assert entered.status_code == 201
    assert entered.json()["person"]["state"] == "active"
    assert await house.value("SELECT verified_at IS NOT NULL FROM person_contact c JOIN person p ON p.id = c.person_id"
                             " WHERE p.account = 'lily'")  # fmt: skip


async def test_a_taken_name_answers_like_a_free_one_and_its_owner_is_told(house: House) -> None:
    owner = await house.person("wang")
    before = await house.codes()
    house.counted.taken()
    free = await house.client.post("/v1/people", json=wish(house, "nobody-yet"))
    free_cost = house.counted.taken()
    taken = await house.client.post("/v1/people", json=wish(house, "wang"))
    taken_cost = house.counted.taken()
    assert (free.status_code, taken.status_code) == (202, 202)
    assert shape(free.json()) == shape(taken.json())
    assert free_cost == taken_cost > 0
    assert [code["account"] for code in (await house.codes())[len(before) :]] == ["nobody-yet"]
    assert await house.notices("account_tried") == [{"people": [owner.id]}]
    assert await house.value("SELECT display_name FROM person WHERE account = 'wang'") == "Wang"


async def test_signing_in_takes_the_same_steps_whether_the_account_exists_or_not(house: House) -> None:
    await house.person("wang")
    house.counted.taken()
    known = await house.client.post("/v1/sign-in", json={"operator_id": house.operator_id, "account": "wang"})
    known_cost = house.counted.taken()
    unknown = await house.client.post("/v1/sign-in", json={"operator_id": house.operator_id, "account": "wong"})
    unknown_cost = house.counted.taken()
    elsewhere = await house.client.post("/v1/sign-in", json={"operator_id": "0" * 32, "account": "wang"})
    assert known.status_code == unknown.status_code == elsewhere.status_code == 202
    assert shape(known.json()) == shape(unknown.json()) == shape(elsewhere.json())
    assert known_cost == unknown_cost == house.counted.taken() > 0
    wrong = [
        await house.client.post(f"/v1/sign-in/{answer.json()['sign_in_id']}", json={"code": "000000"})
        for answer in (known, unknown)
    ]
    missing = await house.client.post(f"/v1/sign-in/{'0' * 32}", json={"code": "000000"})
    costs = house.counted.taken()
    assert costs % 3 == 0
    assert {answer.status_code for answer in [*wrong, missing]} == {401}
    assert wrong[0].json() == wrong[1].json() == missing.json()


def shape(body: dict[str, Any]) -> dict[str, tuple[type, int]]:
    return {name: (type(value), len(value)) for name, value in body.items()}


async def test_a_name_that_nobody_verified_may_be_opened_anew_after_a_day_and_old_codes_die(house: House) -> None:
    squatted = await house.client.post("/v1/people", json=wish(house, "zhao"))
    stolen = await house.last_code("zhao")
    again = await house.client.post("/v1/people", json=wish(house, "zhao", display_name="Zhao"))
    assert again.status_code == 202
    assert await house.value("SELECT display_name FROM person WHERE account = 'zhao'") == "Li"
    await house.value("UPDATE person SET created_at = created_at - interval '25 hours' WHERE account = 'zhao'")
    contact = {"channel": "phone", "address": "+8613900000009"}
    honest = await house.client.post("/v1/people", json=wish(house, "zhao", display_name="Zhao", contact=contact))
    assert await house.value("SELECT display_name FROM person WHERE account = 'zhao'") == "Zhao"
    assert await house.value("SELECT array_agg(address) FROM person_contact c JOIN person p ON p.id = c.person_id"
                             " WHERE account = 'zhao'") == ["+8613900000009"]  # fmt: skip
    late = await house.client.post(f"/v1/sign-in/{squatted.json()['sign_in_id']}", json={"code": stolen})
    assert late.status_code == 401
    digits = await house.last_code("zhao")
    entered = await house.client.post(f"/v1/sign-in/{honest.json()['sign_in_id']}", json={"code": digits})
    assert entered.status_code == 201


async def test_fifty_guesses_at_once_are_five_guesses(house: House) -> None:
    await house.person("wang")
    started = await sign_in.start_sign_in(house.db, house.keys, operator_id=house.operator_id, account="wang")
    right = await house.last_code("wang")
    wrong = [f"{number:06d}" for number in range(51) if f"{number:06d}" != right][:50]
    answers = await asyncio.gather(
        *(sign_in.finish_sign_in(house.db, house.keys, sign_in_id=started.sign_in_id, digits=guess) for guess in wrong),
        return_exceptions=True,
    )
    assert all(isinstance(answer, Unauthenticated) for answer in answers)
    assert await house.value("SELECT attempts FROM one_time_code WHERE id = $1", started.sign_in_id) == 5
    with pytest.raises(Unauthenticated):
        await sign_in.finish_sign_in(house.db, house.keys, sign_in_id=started.sign_in_id, digits=right)


async def test_a_right_code_opens_one_session_however_often_it_comes(house: House) -> None:
    await house.person("wang")
    started = await sign_in.start_sign_in(house.db, house.keys, operator_id=house.operator_id, account="wang")
    right = await house.last_code("wang")
    answers = await asyncio.gather(
        *(sign_in.finish_sign_in(house.db, house.keys, sign_in_id=started.sign_in_id, digits=right) for _ in range(5)),
        return_exceptions=True,
    )
    assert sum(not isinstance(answer, BaseException) for answer in answers) == 1


async def test_an_expired_code_opens_nothing(house: House) -> None:
    await house.person("wang")
    started = await sign_in.start_sign_in(house.db, house.keys, operator_id=house.operator_id, account="wang")
    await house.value("UPDATE one_time_code SET expires_at = created_at WHERE id = $1", started.sign_in_id)
    with pytest.raises(Unauthenticated):
        await sign_in.finish_sign_in(house.db, house.keys, sign_in_id=started.sign_in_id, digits=await house.last_code("wang"))


@pytest.mark.parametrize("account", ["boss", "nobody"])
async def test_at_most_five_codes_an_hour_for_an_account_that_exists_and_one_that_does_not(house: House, account: str) -> None:
    waits: list[int] = []

    async def ask() -> str:
        try:
            await sign_in.start_sign_in(house.db, house.keys, operator_id=house.operator_id, account=account)
        except TooMany as error:
            waits.append(int(str(error.detail["retry_after_s"])))
            return "too many"
        return "sent"

    answers = await asyncio.gather(*(ask() for _ in range(20)))
    assert (answers.count("sent"), answers.count("too many")) == (5, 15)
    assert all(3500 < wait <= 3600 for wait in waits)
    refused = await house.client.post("/v1/sign-in", json={"operator_id": house.operator_id, "account": account})
    assert refused.status_code == 429
    await house.value("UPDATE one_time_code SET created_at = created_at - interval '61 minutes'")
    assert await ask() == "sent"


async def test_a_number_is_not_pestered_however_many_accounts_are_opened_with_it(house: House) -> None:
    for number in range(14):
        wanted = wish(house, f"stranger-{number}") | {"contact": {"channel": "phone", "address": "+8613900000000"}}
        assert (await house.client.post("/v1/people", json=wanted)).status_code == 202
    body = {"operator_id": house.operator_id, "account": "stranger-1"}
    assert (await house.client.post("/v1/sign-in", json=body)).status_code == 202
    sent = [code for code in await house.codes() if code["address"] == "+8613900000000"]
    assert len(sent) == 10
    await house.value("UPDATE one_time_code SET created_at = created_at - interval '61 minutes'")
    await house.client.post("/v1/sign-in", json=body)
    assert len([code for code in await house.codes() if code["address"] == "+8613900000000"]) == 11


async def test_neither_codes_nor_tokens_nor_addresses_lie_in_the_tables(house: House) -> None:
    person = await house.person("wang", address="+8613812345678")
    digits = await house.last_code("wang")
    tables = ("one_time_code", "session", "outbox", "audit_event")
    dump = "".join([str(await house.value(f"SELECT string_agg(t::text, ' ') FROM {table} t")) for table in tables])
    assert person.token not in dump
    assert "13812345678" not in dump
    assert f'"{digits}"' not in dump


async def test_a_session_ends_at_sign_out_at_its_time_and_with_the_account(house: House) -> None:
    first, second = await house.person("wang"), await house.sign_in("wang")
    assert (await first.ask("GET", "/v1/me")).json()["account"] == "wang"
    assert (await first.ask("POST", "/v1/sign-out")).status_code == 204
    assert (await first.ask("GET", "/v1/me")).status_code == 401
    assert (await second.ask("GET", "/v1/me")).status_code == 200
    await house.value("UPDATE session SET expires_at = created_at")
    assert (await second.ask("GET", "/v1/me")).status_code == 401
    third = await house.sign_in("wang")
    await house.value("UPDATE person SET state = 'closed' WHERE account = 'wang'")
    assert (await third.ask("GET", "/v1/me")).status_code == 401


@pytest.mark.parametrize("token", ["", "x", "ü" * 40, "a" * 43, "a" * 5000])
async def test_a_token_that_we_did_not_make_is_nobody(house: House, token: str) -> None:
    assert await sign_in.authenticate_person(house.db, token) is None


async def test_staff_roles_come_with_the_session_and_go_at_once(house: House) -> None:
    boss = await house.sign_in("boss")
    assert (await boss.ask("GET", "/v1/me")).json()["staff_roles"] == ["owner"]
    await house.value("UPDATE staff SET ended_at = created_at")
    assert (await boss.ask("GET", "/v1/me")).json()["staff_roles"] == []


async def test_a_person_without_a_phone_is_active_but_nobody_signs_in_as_them(house: House) -> None:
    async with house.db.transaction() as conn:
        now = await conn.fetchval("SELECT kinpay_now()")
        person_id = await open_assisted(conn, house.operator_id, "Grandma", "zh", now)
    account = await house.value("SELECT account FROM person WHERE id = $1", person_id)
    assert await house.value("SELECT state FROM person WHERE id = $1", person_id) == "active"
    started = await house.client.post("/v1/sign-in", json={"operator_id": house.operator_id, "account": account})
    assert started.status_code == 202
    assert await house.codes() == []


async def test_people_change_their_name_and_language(house: House) -> None:
    wang = await house.person("wang")
    changed = await wang.ask("PATCH", "/v1/me", {"locale": "zh", "display_name": "王"})
    assert (changed.json()["locale"], changed.json()["display_name"]) == ("zh", "王")
    assert (await wang.ask("PATCH", "/v1/me", {})).status_code == 422
    assert (await wang.ask("PATCH", "/v1/me", {"state": "closed"})).status_code == 422


@pytest.mark.parametrize(
    "change",
    [
        {"birth_date": "2999-01-01"},
        {"birth_date": "1850-01-01"},
        {"contact": {"channel": "phone", "address": "+86 138\n00"}},
        {"contact": {"channel": "phone", "address": "li@example.org"}},
        {"contact": {"channel": "email", "address": "li@example.org\nbcc: x@y.zz"}},
        {"contact": {"channel": "pigeon", "address": "roof"}},
        {"display_name": "\u202eevil"},
        {"account": "a b c"},
        {"state": "active"},
        {"operator_id": "'; DROP TABLE person; --"},
    ],
)
async def test_a_bad_wish_is_refused_and_changes_nothing(house: House, change: dict[str, Any]) -> None:
    answer = await house.client.post("/v1/people", json=wish(house, "lily") | change)
    assert 400 <= answer.status_code < 500
    assert await house.value("SELECT count(*) FROM person") == 1


async def test_old_codes_and_sessions_are_forgotten_but_a_used_proof_is_kept(house: House) -> None:
    wang = await house.person("wang")
    circle_id = await wang.circle()
    assert (await wang.invite(circle_id, "nobody", "viewer")).status_code == 202
    await wang.proof("circle.unfreeze", circle_id, {})
    await house.value("UPDATE one_time_code SET created_at = created_at - interval '3 days'")
    await house.value("UPDATE session SET expires_at = created_at - interval '8 days'")
    assert await prune(house.db) == 4, "the session, its code, the note of where that went, and the proof nobody used"
    assert await house.value("SELECT array_agg(purpose) FROM one_time_code") == ["proof"]
