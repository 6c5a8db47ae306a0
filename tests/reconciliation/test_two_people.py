"""Where an operator asks for two people no break is ended by one, whatever they call it; the second sees what it is about."""

from __future__ import annotations

import pytest
import pytest_asyncio

from kinpay.audit.check import check
from kinpay.database.pool import Database
from kinpay.operators.staff import StaffRole, add_staff
from kinpay.primitives.ids import new_id
from kinpay.reconciliation.breaks import BY_PEOPLE
from kinpay.reconciliation.reconcile_day import take_statement
from tests.operators.conftest import house
from tests.people.house import House, Somebody
from tests.reconciliation.planted import DAY
from tests.reconciliation.telling import line, told
from tests.statements.conftest import wall

__all__ = ["house"]


@pytest_asyncio.fixture
async def staff(house: House, db: Database) -> tuple[Somebody, Somebody]:
    """A second owner and somebody of the support, at an operator that asks for two people."""
    boss, wang, lin = await house.sign_in("boss"), await house.person("wang"), await house.person("lin")
    async with db.transaction() as conn:
        await add_staff(conn, house.operator_id, person_id=wang.id, role=StaffRole.OWNER)
        await add_staff(conn, house.operator_id, person_id=lin.id, role=StaffRole.SUPPORT)
    assert (await boss.ask("PUT", "/v1/operator/dual-control", {"on": True})).status_code == 200
    return wang, lin


async def _orphan(db: Database, house: House, key: str, *, account_id: str | None = None, day: int = 0) -> tuple[str, str]:
    """A line of 99.00 that we know nothing of: the path of its break's end, and its provider account."""
    if account_id is None:
        account_id = new_id()
        async with db.transaction() as conn:
            await conn.execute(
                "INSERT INTO provider_account (id, operator_id, provider, account, config, secret, created_at)"
                " VALUES ($1, $2, 'sandbox_bank', 'ours', '{}', '', now())",
                account_id, house.operator_id,
            )  # fmt: skip
    lines = told(line(key, 9_900, wall("2026-03-02 12:00")))
    await take_statement(db, lines, provider_account_id=account_id, day=DAY.replace(day=2 + day))
    async with db.connection() as conn:
        break_id = await conn.fetchval("SELECT id FROM recon_break WHERE key = $1 ORDER BY what DESC LIMIT 1", key)
    return f"/v1/reconciliation/breaks/{break_id}/resolve", account_id


@pytest.mark.parametrize("resolution", sorted(BY_PEOPLE))
async def test_no_word_for_an_end_is_one_persons(
    house: House, staff: tuple[Somebody, Somebody], db: Database, resolution: str
) -> None:
    wang, lin = staff
    path, account_id = await _orphan(db, house, "f" * 32)
    body = {"resolution": resolution, "note": "as agreed"}
    alone = await lin.ask("POST", path, body)
    assert (alone.status_code, alone.json()["code"]) == (403, "second-person-needed")
    act = f"/v1/privileged-acts/{alone.json()['privileged_act_id']}"
    about = (await wang.ask("GET", act)).json()["about"]
    assert (about["resolution"], about["note"], about["what"], about["account"]) == (
        resolution, "as agreed", "orphan", account_id
    )  # fmt: skip
    assert (about["ours"], about["theirs"]["amount_minor"], about["theirs"]["currency"]) == (None, 9_900, "CNY")
    assert [told["amount_minor"] for told in about["lines"]] == [9_900]
    await wang.ask("POST", f"{act}/approve")
    assert (await lin.ask("POST", path, body)).json()["state"] == "resolved"


async def test_a_line_more_is_asked_about_anew(house: House, staff: tuple[Somebody, Somebody], db: Database) -> None:
    wang, lin = staff
    key, body = "f" * 32, {"resolution": "explained", "note": "as agreed"}
    _, account_id = await _orphan(db, house, key)
    path, _ = await _orphan(db, house, key, account_id=account_id, day=1)
    async with db.connection() as conn:
        doubled = await conn.fetchval("SELECT id FROM recon_break WHERE key = $1 AND what = 'doubled'", key)
    path = f"/v1/reconciliation/breaks/{doubled}/resolve"
    act = (await lin.ask("POST", path, body)).json()["privileged_act_id"]
    await wang.ask("POST", f"/v1/privileged-acts/{act}/approve")
    await _orphan(db, house, key, account_id=account_id, day=2)
    anew = await lin.ask("POST", path, body)
    assert (anew.status_code, anew.json()["privileged_act_id"] != act) == (403, True)


async def test_of_what_there_is_not_nobody_is_asked(house: House, staff: tuple[Somebody, Somebody], db: Database) -> None:
    wang, lin = staff
    path, _ = await _orphan(db, house, "f" * 32)
    body = {"resolution": "written_off", "note": "too old"}
    for _ in range(3):
        nothing = await lin.ask("POST", f"/v1/reconciliation/breaks/{new_id()}/resolve", body)
        assert nothing.status_code == 404
    async with db.transaction() as conn:
        await conn.execute("INSERT INTO operator VALUES ($1, 'Other', 'Asia/Shanghai', now())", other := new_id())
        await conn.execute("UPDATE provider_account SET operator_id = $1", other)
    assert (await lin.ask("POST", path, body)).status_code == 404
    async with db.transaction() as conn:
        await conn.execute("UPDATE provider_account SET operator_id = $1", house.operator_id)
    assert await house.notices("second_person_wanted") == []
    act = (await lin.ask("POST", path, body)).json()["privileged_act_id"]
    await wang.ask("POST", f"/v1/privileged-acts/{act}/approve")
    assert (await lin.ask("POST", path, body)).status_code == 200
    assert (await lin.ask("POST", path, body)).status_code == 409, "what is ended is not asked about either"
    assert len(await house.notices("second_person_wanted")) == 1


@pytest.mark.books_broken
async def test_the_audit_finds_an_end_by_one_person(house: House, staff: tuple[Somebody, Somebody], db: Database) -> None:
    wang, lin = staff
    path, _ = await _orphan(db, house, "f" * 32)
    body = {"resolution": "explained", "note": "as agreed"}
    act = (await lin.ask("POST", path, body)).json()["privileged_act_id"]
    await wang.ask("POST", f"/v1/privileged-acts/{act}/approve")
    await lin.ask("POST", path, body)
    async with db.connection() as conn:
        assert await check(conn, overdue_after=None) == []
        await conn.execute("BEGIN")
        await conn.execute("SET LOCAL session_replication_role = replica")
        await conn.execute("UPDATE audit_event SET kind = 'privileged.asked' WHERE kind = 'privileged.done'")
        said = {str(finding) for finding in await check(conn, overdue_after=None)}
        await conn.execute("ROLLBACK")
    assert any("I24" in one and "break.resolved was done by one person" in one for one in said)
