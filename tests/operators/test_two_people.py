"""Dual control: what one of the staff asks for happens once another owner agreed to exactly that, and once only."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from typing import Any

import httpx
import pytest
import pytest_asyncio

from kinpay.audit.check import check
from kinpay.database import audit
from kinpay.database.pool import Database, database_now
from kinpay.operators.staff import StaffRole, add_staff
from kinpay.primitives.ids import new_id
from tests.people.house import House, Somebody

KEY = {"name": "Till reports", "scopes": ["charges:read"]}


@pytest_asyncio.fixture
async def two(house: House, db: Database) -> tuple[Somebody, Somebody]:
    """Two owners of an operator that asks for two people."""
    boss, wang = await house.sign_in("boss"), await house.person("wang")
    assert (await boss.ask("PUT", "/v1/operator/dual-control", {"on": True})).json()["code"] == "owners-needed"
    async with db.transaction() as conn:
        await add_staff(conn, house.operator_id, person_id=wang.id, role=StaffRole.OWNER)
    assert (await boss.ask("PUT", "/v1/operator/dual-control", {"on": True})).json()["dual_control"] is True
    return boss, wang


def act_of(answer: httpx.Response) -> str:
    """The question that was put instead."""
    assert (answer.status_code, answer.json()["code"]) == (403, "second-person-needed"), answer.text
    return str(answer.json()["privileged_act_id"])


async def test_one_alone_makes_no_key_and_two_make_exactly_one(house: House, two: tuple[Somebody, Somebody]) -> None:
    boss, wang = two
    act = act_of(await boss.ask("POST", "/v1/api-keys", KEY))
    assert act_of(await boss.ask("POST", "/v1/api-keys", KEY)) == act
    assert [body["people"] for body in await house.notices("second_person_wanted")] == [[wang.id]]
    assert (await boss.ask("POST", f"/v1/privileged-acts/{act}/approve")).status_code == 403
    shown = (await wang.ask("GET", f"/v1/privileged-acts/{act}")).json()
    assert shown["about"] == {**KEY, "merchant_id": None, "merchant": None, "expires_at": None}
    assert shown["asked_by"] == boss.id
    assert (await wang.ask("POST", f"/v1/privileged-acts/{act}/approve")).json()["state"] == "approved"
    assert [body["people"] for body in await house.notices("second_person_agreed")] == [[boss.id]]
    assert (await wang.ask("POST", "/v1/api-keys", KEY)).status_code == 403, "the yes was to boss"
    made = await boss.ask("POST", "/v1/api-keys", KEY)
    assert made.status_code == 201
    assert made.json()["token"].startswith("kp_live_")
    assert (await wang.ask("GET", f"/v1/privileged-acts/{act}")).json()["state"] == "done"
    assert act_of(await boss.ask("POST", "/v1/api-keys", KEY)) != act
    assert len((await boss.ask("GET", "/v1/api-keys")).json()["api_keys"]) == 1


async def test_a_yes_is_to_exactly_what_was_shown(two: tuple[Somebody, Somebody]) -> None:
    boss, wang = two
    act = act_of(await boss.ask("POST", "/v1/api-keys", KEY))
    await wang.ask("POST", f"/v1/privileged-acts/{act}/approve")
    more = KEY | {"scopes": ["charges:read", "charges:refund"]}
    assert act_of(await boss.ask("POST", "/v1/api-keys", more)) != act


async def test_no_is_no_and_what_is_taken_back_is_gone(house: House, two: tuple[Somebody, Somebody]) -> None:
    boss, wang = two
    refused = act_of(await boss.ask("POST", "/v1/api-keys", KEY))
    assert (await wang.ask("POST", f"/v1/privileged-acts/{refused}/refuse")).json()["state"] == "refused"
    assert len(await house.notices("second_person_refused")) == 1
    assert (await wang.ask("POST", f"/v1/privileged-acts/{refused}/approve")).status_code == 409
    withdrawn = act_of(await boss.ask("POST", "/v1/api-keys", KEY))
    assert (await wang.ask("POST", f"/v1/privileged-acts/{withdrawn}/withdraw")).status_code == 404
    assert (await boss.ask("POST", f"/v1/privileged-acts/{withdrawn}/withdraw")).status_code == 204
    assert (await wang.ask("POST", f"/v1/privileged-acts/{withdrawn}/approve")).status_code == 409
    taken_back = act_of(await boss.ask("POST", "/v1/api-keys", KEY))
    await wang.ask("POST", f"/v1/privileged-acts/{taken_back}/approve")
    await wang.ask("POST", f"/v1/privileged-acts/{taken_back}/refuse")
    assert act_of(await boss.ask("POST", "/v1/api-keys", KEY)) != taken_back


async def test_a_yes_lasts_a_day_and_as_long_as_its_owner(house: House, two: tuple[Somebody, Somebody], db: Database) -> None:
    boss, wang = two
    act = act_of(await boss.ask("POST", "/v1/api-keys", KEY))
    await wang.ask("POST", f"/v1/privileged-acts/{act}/approve")
    async with db.transaction() as conn:
        await conn.execute(
            "UPDATE privileged_act SET asked_at = asked_at - interval '1 day', expires_at = expires_at - interval '1 day'"
        )
    assert (await wang.ask("GET", f"/v1/privileged-acts/{act}")).json()["state"] == "expired"
    assert (await wang.ask("POST", f"/v1/privileged-acts/{act}/refuse")).status_code == 409
    again = act_of(await boss.ask("POST", "/v1/api-keys", KEY))
    assert again != act
    await wang.ask("POST", f"/v1/privileged-acts/{again}/approve")
    chen = await house.person("chen")
    body = {"account": "chen", "role": "owner"}
    await wang.ask("POST", f"/v1/privileged-acts/{act_of(await boss.ask('POST', '/v1/staff', body))}/approve")
    assert (await boss.ask("POST", "/v1/staff", body)).status_code == 204
    ending = act_of(await boss.ask("DELETE", f"/v1/staff/{wang.id}/owner"))
    await chen.ask("POST", f"/v1/privileged-acts/{ending}/approve")
    assert (await boss.ask("DELETE", f"/v1/staff/{wang.id}/owner")).status_code == 204
    assert act_of(await boss.ask("POST", "/v1/api-keys", KEY)) != again, "whoever agreed is an owner no longer"


async def test_two_remain_and_switching_it_off_takes_two(two: tuple[Somebody, Somebody]) -> None:
    boss, wang = two
    ending = act_of(await boss.ask("DELETE", f"/v1/staff/{boss.id}/owner"))
    await wang.ask("POST", f"/v1/privileged-acts/{ending}/approve")
    kept = await boss.ask("DELETE", f"/v1/staff/{boss.id}/owner")
    assert (kept.status_code, kept.json()["code"], kept.json()["at_least"]) == (409, "owners-needed", 2)
    off = act_of(await wang.ask("PUT", "/v1/operator/dual-control", {"on": False}))
    assert (await boss.ask("GET", "/v1/operator")).json()["dual_control"] is True
    await boss.ask("POST", f"/v1/privileged-acts/{off}/approve")
    assert (await wang.ask("PUT", "/v1/operator/dual-control", {"on": False})).json()["dual_control"] is False
    assert (await boss.ask("POST", "/v1/api-keys", KEY)).status_code == 201


async def test_of_many_at_once_one_is_done(two: tuple[Somebody, Somebody]) -> None:
    boss, wang = two
    asked = await asyncio.gather(*(boss.ask("POST", "/v1/api-keys", KEY) for _ in range(8)))
    (act,) = {act_of(one) for one in asked}
    await asyncio.gather(*(wang.ask("POST", f"/v1/privileged-acts/{act}/approve") for _ in range(4)))
    done = await asyncio.gather(*(boss.ask("POST", "/v1/api-keys", KEY) for _ in range(8)))
    assert sorted(one.status_code for one in done) == [201, *[403] * 7]


async def _settled(db: Database, house: House) -> str:
    merchant_id = new_id()
    async with db.transaction() as conn:
        await conn.execute(
            "INSERT INTO merchant (id, operator_id, name, mcc, created_at) VALUES ($1, $2, 'Shop', '5814', now())",
            merchant_id,
            house.operator_id,
        )
        await conn.execute(
            "INSERT INTO settlement_day (merchant_id, day, currency, starts, ends, captures, captured_minor, refunds,"
            " refunded_minor, closed_at) VALUES ($1, $2, 'CNY', $3, $4, 1, 100, 0, 0, now())",
            merchant_id,
            date(2026, 3, 2),
            datetime(2026, 3, 1, 16, tzinfo=UTC),
            datetime(2026, 3, 2, 16, tzinfo=UTC),
        )
    return merchant_id


async def _difference(db: Database, house: House) -> str:
    account_id, break_id = new_id(), new_id()
    async with db.transaction() as conn:
        await conn.execute(
            "INSERT INTO provider_account (id, operator_id, provider, account, config, secret, created_at)"
            " VALUES ($1, $2, 'sandbox_bank', 'ours', '{}', '', now())",
            account_id,
            house.operator_id,
        )
        await conn.execute(
            "INSERT INTO recon_break (id, provider_account_id, day, what, kind, key, found_at)"
            " VALUES ($1, $2, '2026-03-02', 'orphan', 'debit', 'k', now())",
            break_id,
            account_id,
        )
    return break_id


async def test_every_other_privileged_act_takes_two(house: House, two: tuple[Somebody, Somebody], db: Database) -> None:
    boss, wang = two
    await house.person("chen")
    merchant_id, break_id = await _settled(db, house), await _difference(db, house)
    hook = {"url": "https://127.0.0.1:1025/hook", "types": ["charge.owed"], "merchant_id": None}
    acts: list[tuple[str, str, Any, int]] = [
        ("POST", "/v1/staff", {"account": "chen", "role": "installer"}, 204),
        ("POST", "/v1/webhook-endpoints", hook, 201),
        (
            "POST",
            f"/v1/merchants/{merchant_id}/settlements/2026-03-02/paid",
            {"currency": "CNY", "reference": "transfer 1"},
            200,
        ),
        ("POST", f"/v1/reconciliation/breaks/{break_id}/resolve", {"resolution": "written_off", "note": "too old"}, 200),
    ]
    for method, path, body, done in acts:
        act = act_of(await boss.ask(method, path, body))
        assert (await wang.ask("POST", f"/v1/privileged-acts/{act}/approve")).status_code == 200
        assert (await boss.ask(method, path, body)).status_code == done, path
    endpoint = (await boss.ask("GET", "/v1/webhook-endpoints")).json()["endpoints"][0]["id"]
    moved = f"/v1/webhook-endpoints/{endpoint}"
    act_of(await boss.ask("PATCH", moved, {"url": "https://127.0.0.1:1026/elsewhere"}))
    assert (await boss.ask("DELETE", f"/v1/staff/{(await house.sign_in('chen')).id}/installer")).status_code == 204


async def test_support_asks_and_sees_only_their_own(house: House, two: tuple[Somebody, Somebody], db: Database) -> None:
    boss, wang = two
    lin = await house.person("lin")
    async with db.transaction() as conn:
        await add_staff(conn, house.operator_id, person_id=lin.id, role=StaffRole.SUPPORT)
    break_id = await _difference(db, house)
    act_of(await boss.ask("POST", "/v1/api-keys", KEY))
    path, body = f"/v1/reconciliation/breaks/{break_id}/resolve", {"resolution": "given_back", "note": "too old"}
    act = act_of(await lin.ask("POST", path, body))
    assert [one["id"] for one in (await lin.ask("GET", "/v1/privileged-acts")).json()["privileged_acts"]] == [act]
    assert len((await wang.ask("GET", "/v1/privileged-acts")).json()["privileged_acts"]) == 2
    assert (await lin.ask("POST", f"/v1/privileged-acts/{act}/approve")).status_code == 403
    await wang.ask("POST", f"/v1/privileged-acts/{act}/approve")
    assert (await lin.ask("POST", path, body)).status_code == 200


async def _said(db: Database) -> set[str]:
    async with db.connection() as conn:
        return {finding.invariant for finding in await check(conn)}


@pytest.mark.books_broken
async def test_the_audit_finds_what_one_person_did(house: House, two: tuple[Somebody, Somebody], db: Database) -> None:
    boss, wang = two
    act = act_of(await boss.ask("POST", "/v1/api-keys", KEY))
    await wang.ask("POST", f"/v1/privileged-acts/{act}/approve")
    assert (await boss.ask("POST", "/v1/api-keys", KEY)).status_code == 201
    assert not await _said(db)
    for defect in (
        f"UPDATE privileged_act SET decided_by = '{house.operator_id}'",
        "UPDATE privileged_act SET state = 'refused', done_at = NULL",
        "UPDATE operator SET dual_control = false",
    ):
        assert await _said_of(db, defect) == {"I24 operator_dual"}, defect
    async with db.transaction() as conn:
        event = audit.Event("api_key.made", new_id(), {"merchant": None, "scopes": []}, boss.id)
        await audit.record(conn, house.operator_id, event, now=await database_now(conn))
    assert await _said(db) == {"I24 operator_dual"}


async def _said_of(db: Database, defect: str) -> set[str]:
    """What the audit says of a change by hand, which is taken back."""
    async with db.connection() as conn:
        await conn.execute("BEGIN")
        await conn.execute("SET LOCAL session_replication_role = replica")
        await conn.execute(defect)
        found = {finding.invariant for finding in await check(conn)}
        await conn.execute("ROLLBACK")
    return found
