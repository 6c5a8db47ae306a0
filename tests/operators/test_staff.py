"""Who may do what for an operator, and that somebody always may."""

from __future__ import annotations

from pathlib import Path

from kinpay import database
from kinpay.database.pool import Database
from kinpay.operators.act import ACT_LIFE, ActState
from kinpay.operators.staff import StaffRole, add_staff
from tests.people.house import House

MIGRATIONS = sorted((Path(database.__file__).parent / "migrations").glob("*.sql"))


def test_the_schema_knows_the_same_roles_and_states() -> None:
    schema = "".join(one.read_text(encoding="utf-8") for one in MIGRATIONS)
    assert ACT_LIFE.reachable() == set(ActState)
    for enum in (StaffRole, ActState):
        assert f"({', '.join(repr(str(member)) for member in enum)})" in schema


async def test_an_owner_gives_and_takes_roles(house: House) -> None:
    boss, wang = await house.sign_in("boss"), await house.person("wang")
    assert (await wang.ask("GET", "/v1/staff")).status_code == 403
    body = {"account": "wang", "role": "support"}
    assert (await boss.ask("POST", "/v1/staff", body)).status_code == 204
    assert (await boss.ask("POST", "/v1/staff", body)).status_code == 204
    assert (await boss.ask("POST", "/v1/staff", body | {"role": "installer"})).status_code == 204
    listed = (await wang.ask("GET", "/v1/staff")).json()["staff"]
    roles = {one["account"]: one["roles"] for one in listed}
    assert roles == {"boss": ["owner"], "wang": ["installer", "support"]}
    assert (await wang.ask("POST", "/v1/staff", body | {"role": "owner"})).status_code == 403
    assert (await boss.ask("DELETE", f"/v1/staff/{wang.id}/support")).status_code == 204
    assert (await boss.ask("DELETE", f"/v1/staff/{wang.id}/support")).status_code == 404
    assert (await wang.ask("GET", "/v1/me")).json()["staff_roles"] == ["installer"]


async def test_a_page_of_the_staff_ends_with_a_person(house: House) -> None:
    boss = await house.sign_in("boss")
    for account in ("ann", "ben", "cem"):
        await house.person(account)
        await boss.ask("POST", "/v1/staff", {"account": account, "role": "support"})
    first = (await boss.ask("GET", "/v1/staff?limit=3")).json()
    second = (await boss.ask("GET", f"/v1/staff?limit=3&after={first['next']}")).json()
    found = [one["account"] for one in first["staff"] + second["staff"]]
    assert sorted(found) == ["ann", "ben", "boss", "cem"]
    assert second["next"] is None


async def test_nobody_of_that_name_and_nobody_who_never_signed_in(house: House) -> None:
    boss = await house.sign_in("boss")
    assert (await boss.ask("POST", "/v1/staff", {"account": "nobody", "role": "support"})).status_code == 404
    contact = {"channel": "phone", "address": "+8613800000002"}
    told = {"operator_id": house.operator_id, "account": "shy", "display_name": "Shy", "locale": "en", "birth_date": None}
    assert (await house.client.post("/v1/people", json=told | {"contact": contact})).status_code == 202
    assert (await boss.ask("POST", "/v1/staff", {"account": "shy", "role": "support"})).status_code == 404
    assert (await boss.ask("POST", "/v1/staff", {"account": "boss", "role": "king"})).status_code == 422


async def test_the_last_owner_stays(house: House, db: Database) -> None:
    boss, wang = await house.sign_in("boss"), await house.person("wang")
    last = await boss.ask("DELETE", f"/v1/staff/{boss.id}/owner")
    assert (last.status_code, last.json()["code"], last.json()["at_least"]) == (409, "owners-needed", 1)
    async with db.transaction() as conn:
        await add_staff(conn, house.operator_id, person_id=wang.id, role=StaffRole.OWNER)
    assert (await boss.ask("DELETE", f"/v1/staff/{boss.id}/owner")).status_code == 204
    assert (await boss.ask("GET", "/v1/operator")).status_code == 403
    assert (await wang.ask("GET", "/v1/operator")).json()["name"] == "Canteen"
