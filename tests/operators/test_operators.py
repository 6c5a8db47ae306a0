"""An operator's own records, seen and changed by its staff alone."""

from __future__ import annotations

import pytest

from kinpay.operators.operator import create_operator
from kinpay.operators.staff import StaffRole, add_staff, end_staff
from kinpay.primitives.errors import NotFound
from tests.people.house import House, newcomer


async def test_an_owner_enters_merchants_and_sites(house: House) -> None:
    boss = await house.sign_in("boss")
    merchant = (await boss.ask("POST", "/v1/merchants", {"name": "Canteen", "mcc": "5814"}, key="m")).json()
    again = (await boss.ask("POST", "/v1/merchants", {"name": "Canteen", "mcc": "5814"}, key="m")).json()
    assert merchant == again
    site = await boss.ask("POST", "/v1/sites", {"merchant_id": merchant["id"], "name": "North door"})
    assert site.status_code == 201
    assert (await boss.ask("GET", "/v1/merchants")).json() == {"merchants": [merchant], "next": None}
    assert (await boss.ask("GET", f"/v1/sites?merchant_id={merchant['id']}")).json()["sites"] == [site.json()]
    assert (await boss.ask("POST", "/v1/merchants", {"name": "X", "mcc": "58"})).status_code == 422


async def test_nobody_else_does(house: House) -> None:
    wang = await house.person("wang")
    body = {"name": "Canteen", "mcc": "5814"}
    assert (await wang.ask("POST", "/v1/merchants", body)).status_code == 403
    assert (await wang.ask("GET", "/v1/merchants")).status_code == 403
    assert (await house.client.post("/v1/merchants", json=body)).status_code == 401
    async with house.db.transaction() as conn:
        await add_staff(conn, house.operator_id, person_id=wang.id, role=StaffRole.INSTALLER)
    assert (await wang.ask("GET", "/v1/merchants")).status_code == 200
    assert (await wang.ask("POST", "/v1/merchants", body)).status_code == 403
    async with house.db.transaction() as conn:
        await end_staff(conn, house.operator_id, person_id=wang.id, role=StaffRole.INSTALLER)
    assert (await wang.ask("GET", "/v1/sites")).status_code == 403


async def test_another_operators_merchant_is_not_there(house: House) -> None:
    boss = await house.sign_in("boss")
    merchant = (await boss.ask("POST", "/v1/merchants", {"name": "Canteen", "mcc": "5814"})).json()
    async with house.db.transaction() as conn:
        other = await create_operator(conn, "Other", time_zone="Europe/Berlin", owner=newcomer("boss"))
        with pytest.raises(NotFound):
            await add_staff(conn, house.operator_id, person_id=other.owner_id, role=StaffRole.OWNER)
    house.operator_id, mine = other.operator_id, house.operator_id
    rival = await house.sign_in("boss")
    assert (await rival.ask("GET", "/v1/merchants")).json()["merchants"] == []
    body = {"merchant_id": merchant["id"], "name": "Back door"}
    assert (await rival.ask("POST", "/v1/sites", body)).status_code == 404
    assert (await rival.ask("GET", f"/v1/sites?merchant_id={merchant['id']}")).json()["sites"] == []
    assert mine != other.operator_id
