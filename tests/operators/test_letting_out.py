"""One person alone does not widen what two agreed to, does not race the switch, and nobody is asked about what there is not."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

import pytest

from kinpay.audit.check import check
from kinpay.database import audit
from kinpay.database.pool import Database, database_now
from kinpay.operators.act import Act, ActKind
from kinpay.operators.staff import StaffRole, add_staff
from kinpay.operators.two_people import MAX_UNANSWERED, privileged
from kinpay.primitives.actor import Actor, ActorKind
from kinpay.primitives.ids import new_id
from tests.operators.test_two_people import KEY, _said, _said_of, _settled, act_of, two
from tests.people.house import House, Somebody

__all__ = ["two"]

URL = "https://127.0.0.1:1025/hook?token=of-the-receiver"
HOOK = {"url": URL, "types": ["charge.owed", "charge.refused"], "merchant_id": None, "description": "Books"}


async def _agreed(boss: Somebody, wang: Somebody, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """What comes of a request that both stand behind."""
    act = act_of(await boss.ask(method, path, body))
    assert (await wang.ask("POST", f"/v1/privileged-acts/{act}/approve")).status_code == 200
    done = await boss.ask(method, path, body)
    assert done.status_code in (200, 201), done.text
    found: dict[str, Any] = done.json()
    return found


async def _told(db: Database, kind: str) -> list[dict[str, Any]]:
    async with db.connection() as conn:
        rows = await conn.fetch("SELECT body FROM audit_event WHERE kind = $1 ORDER BY lane, seq", kind)
    return [json.loads(row["body"]) for row in rows]


async def test_what_lets_more_out_takes_two_and_what_lets_less_out_takes_one(two: tuple[Somebody, Somebody]) -> None:
    boss, wang = two
    made = await _agreed(boss, wang, "POST", "/v1/webhook-endpoints", HOOK)
    path = f"/v1/webhook-endpoints/{made['endpoint']['id']}"
    fewer = await boss.ask("PATCH", path, {"types": ["charge.owed"], "url": URL})
    assert (fewer.status_code, fewer.json()["types"]) == (200, ["charge.owed"]), "the same address is no other one"
    assert (await boss.ask("PATCH", path, {"description": None})).json()["description"] is None
    wide = {"types": ["charge.owed", "charge.succeeded"]}
    act = act_of(await boss.ask("PATCH", path, wide))
    about = (await wang.ask("GET", f"/v1/privileged-acts/{act}")).json()["about"]
    assert (about["url"], about["types"], about["before"]["types"]) == (URL, wide["types"], ["charge.owed"])
    assert (await boss.ask("PATCH", path, {"enabled": False})).status_code == 200
    act_of(await boss.ask("PATCH", path, {"enabled": True}))
    act_of(await boss.ask("PATCH", path, {"url": URL + "s"}))
    rotation = act_of(await boss.ask("POST", path + "/rotate", {"overlap_s": 0}))
    assert (await wang.ask("GET", f"/v1/privileged-acts/{rotation}")).json()["about"]["url"] == URL
    (shown,) = (await boss.ask("GET", "/v1/webhook-endpoints")).json()["endpoints"]
    assert (shown["types"], shown["enabled"], shown["url"]) == (["charge.owed"], False, URL)
    assert (await _agreed(boss, wang, "PATCH", path, {"enabled": True}))["enabled"]
    assert (await _agreed(boss, wang, "POST", path + "/rotate", {"overlap_s": 0}))["secret"].startswith("whsec_")
    assert (await boss.ask("DELETE", path)).status_code == 204, "to stop at once takes one"


async def test_the_log_tells_where_events_went_after_the_endpoint_is_gone(two: tuple[Somebody, Somebody], db: Database) -> None:
    boss, wang = two
    made = await _agreed(boss, wang, "POST", "/v1/webhook-endpoints", HOOK)
    path = f"/v1/webhook-endpoints/{made['endpoint']['id']}"
    await _agreed(boss, wang, "PATCH", path, {"url": "https://127.0.0.1:1026/other", "types": ["charge.owed"]})
    await boss.ask("DELETE", path)
    (first,), (moved,), (removed,) = [await _told(db, f"webhook.{kind}") for kind in ("made", "changed", "removed")]
    assert first["url"] == moved["before"]["url"] == "https://127.0.0.1:1025/hook", "not what the receiver keeps secret"
    assert first["url_sha256"] == hashlib.sha256(URL.encode()).hexdigest()
    assert first["types"] == ["charge.owed", "charge.refused"]
    assert (
        (moved["url"], moved["types"])
        == (removed["url"], removed["types"])
        == ("https://127.0.0.1:1026/other", ["charge.owed"])
    )


@pytest.mark.books_broken
async def test_the_audit_compares_what_was_agreed_to_with_what_was_done(
    house: House, two: tuple[Somebody, Somebody], db: Database
) -> None:
    boss, wang = two
    made = await _agreed(boss, wang, "POST", "/v1/webhook-endpoints", HOOK)
    await _agreed(boss, wang, "POST", "/v1/api-keys", KEY)
    path = f"/v1/webhook-endpoints/{made['endpoint']['id']}"
    await _agreed(boss, wang, "POST", path + "/rotate", {"overlap_s": 0})
    await boss.ask("PATCH", path, {"types": ["charge.owed"]})
    assert not await _said(db)
    # What the second person was shown, put another way afterwards; with a fingerprint that fits, too.
    other = Act(ActKind.API_KEY_MAKE, {**KEY, "scopes": ["charges:refund"], "merchant_id": None, "merchant": None})
    for defect in (
        "UPDATE privileged_act SET about = about || '{\"name\": \"Another\"}' WHERE kind = 'api_key.make'",
        f"UPDATE privileged_act SET about = '{json.dumps(dict(other.about))}', fingerprint = '\\x{other.fingerprint.hex()}'"
        " WHERE kind = 'api_key.make'",
    ):
        assert await _said_of(db, defect) == {"I24 operator_dual"}, defect
    # A deed that is told otherwise breaks the chain, too; here the comparison counts.
    for altered in (
        "UPDATE audit_event SET body = replace(body, 'charge.refused', 'test') WHERE kind = 'webhook.made'",
        "UPDATE audit_event SET body = replace(body, 'charges:read', 'charges:refund') WHERE kind = 'api_key.made'",
        "UPDATE audit_event SET subject_id = lane WHERE kind = 'webhook.rotated'",
        # It narrowed; now it lets out what it did not before, and still says that it does not.
        'UPDATE audit_event SET body = replace(body, \'"types":["charge.owed"]\', \'"types":["test"]\')'
        " WHERE kind = 'webhook.changed'",
    ):
        assert "I24 operator_dual" in await _said_of(db, altered), altered
    for kind in ("webhook.rotated", "webhook.changed"):
        async with db.transaction() as conn:
            told = {"enabled": True, "lets_more_out": True}
            event = audit.Event(kind, made["endpoint"]["id"], told, boss.id)
            await audit.record(conn, house.operator_id, event, now=await database_now(conn))
        async with db.connection() as conn:
            assert any(f"{kind} was done by one person" in str(finding) for finding in await check(conn))


async def test_whoever_switches_it_on_waits_for_what_one_person_has_begun(house: House, db: Database) -> None:
    boss, wang, lin = await house.sign_in("boss"), await house.person("wang"), await house.person("lin")
    async with db.transaction() as conn:
        await add_staff(conn, house.operator_id, person_id=wang.id, role=StaffRole.OWNER)
    actor = Actor(ActorKind.PERSON, boss.id, house.operator_id, frozenset({"owner"}))
    async with privileged(db, actor, Act(ActKind.STAFF_ADD, {"person_id": lin.id, "role": "owner"})) as conn:
        switching = asyncio.create_task(boss.ask("PUT", "/v1/operator/dual-control", {"on": True}))
        await asyncio.wait([switching], timeout=0.5)
        assert not switching.done()
        await add_staff(conn, house.operator_id, person_id=lin.id, role=StaffRole.OWNER, actor_id=boss.id)
    assert (await switching).json()["dual_control"] is True
    assert not await _said(db)


async def test_nobody_is_asked_about_what_there_is_not(house: House, two: tuple[Somebody, Somebody], db: Database) -> None:
    boss, wang = two
    merchant_id = await _settled(db, house)
    paid = {"currency": "CNY", "reference": "transfer 1"}
    for path, body in (
        (f"/v1/merchants/{merchant_id}/settlements/2027-03-02/paid", paid),
        (f"/v1/merchants/{new_id()}/settlements/2026-03-02/paid", paid),
        (f"/v1/merchants/{merchant_id}/settlements/2026-03-02/paid", paid | {"currency": "EUR"}),
        ("/v1/webhook-endpoints", HOOK | {"merchant_id": new_id()}),
        ("/v1/api-keys", KEY | {"merchant_id": new_id()}),
        (f"/v1/webhook-endpoints/{new_id()}/rotate", {"overlap_s": 0}),
    ):
        assert (await boss.ask("POST", path, body)).status_code == 404, path
    assert (await boss.ask("DELETE", f"/v1/staff/{new_id()}/owner")).status_code == 404
    assert await house.notices("second_person_wanted") == []
    ending = act_of(await boss.ask("DELETE", f"/v1/staff/{wang.id}/owner"))
    assert (await wang.ask("GET", f"/v1/privileged-acts/{ending}")).json()["about"]["account"] == "wang"
    paying = act_of(await boss.ask("POST", f"/v1/merchants/{merchant_id}/settlements/2026-03-02/paid", paid))
    about = (await wang.ask("GET", f"/v1/privileged-acts/{paying}")).json()["about"]
    assert (about["merchant"], about["amount_minor"], about["currency"]) == ("Shop", 100, "CNY")


async def test_nobody_floods_the_others_with_questions(house: House, two: tuple[Somebody, Somebody], db: Database) -> None:
    boss, wang = two
    for number in range(MAX_UNANSWERED):
        act = act_of(await boss.ask("POST", "/v1/api-keys", KEY | {"name": f"Key {number}"}))
    assert act_of(await boss.ask("POST", "/v1/api-keys", KEY | {"name": "Key 0"})), "a question that waits is no new one"
    assert (await boss.ask("POST", f"/v1/privileged-acts/{act}/withdraw")).status_code == 204
    refused = await boss.ask("POST", "/v1/api-keys", KEY | {"name": "One more"})
    assert (refused.status_code, refused.json()["code"]) == (429, "too-many-requests")
    assert 0 < refused.json()["retry_after_s"] <= 86_400
    assert len(await house.notices("second_person_wanted")) == MAX_UNANSWERED
    act_of(await wang.ask("POST", "/v1/api-keys", KEY))
    await house.value(
        "UPDATE privileged_act SET asked_at = asked_at - interval '1 day', expires_at = expires_at - interval '1 day'"
    )
    act_of(await boss.ask("POST", "/v1/api-keys", KEY | {"name": "One more"}))
