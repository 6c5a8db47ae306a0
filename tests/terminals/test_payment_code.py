"""The payment code says where, to whom and how much, and is good for exactly that."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Sql
from kinpay.primitives.actor import Actor, ActorKind
from kinpay.primitives.errors import CheckCodeExpired
from kinpay.primitives.ids import new_id
from kinpay.primitives.money import Money
from kinpay.terminals.codes import PaymentCode
from kinpay.terminals.payment_code import issue_payment_code, read_payment_code
from kinpay_client import Problem
from tests.terminals.house import House, another_operator

BURN = Sql("""
    INSERT INTO burnt_code (id, kind, terminal_id, charge_id, expires_at, burnt_at)
    VALUES (:code_id, 'payment', :terminal_id, :charge_id, kinpay_now() + interval '1 minute', kinpay_now())
""")


async def read(house: House, asker: Actor, text: str) -> Any:
    async with house.as_person(asker) as http:
        return await http.post("/v1/payment-codes/read", json={"payment_code": text})


async def test_the_spender_sees_what_they_will_pay(house: House) -> None:
    terminal, person = await house.terminal(), await house.person()
    issued = await terminal.payment_code(1450, "CNY", reference="T-77")
    seen = (await read(house, person, issued["payment_code"])).json()
    assert seen["amount"] == {"amount_minor": 1450, "currency": "CNY"}
    assert (seen["reference"], seen["terminal"]["merchant"], seen["terminal"]["site"]) == ("T-77", "North canteen", "Hall 1")


async def test_the_terminal_learns_which_charge_its_code_went_into(db: Database, house: House) -> None:
    terminal, other, person = await house.terminal(), await house.terminal(), await house.person()
    issued = await terminal.payment_code(1450, "CNY")
    code_id, charge_id = issued["payment_code_id"], new_id()
    before = await terminal.payment_code_state(code_id)
    async with db.transaction() as conn:
        await BURN.run(conn, code_id=code_id, terminal_id=terminal.terminal_id, charge_id=charge_id)
    after, foreign = await terminal.payment_code_state(code_id), await other.payment_code_state(code_id)
    assert [(answer["used"], answer["charge_id"]) for answer in (before, after, foreign)] == [
        (False, None), (True, charge_id), (False, None),
    ]  # fmt: skip
    assert (await read(house, person, issued["payment_code"])).json()["code"] == "check-code-used"


async def test_it_lives_two_minutes(db: Database, house: House) -> None:
    terminal, person = await house.terminal(), await house.person()
    asker = Actor(ActorKind.TERMINAL, terminal.terminal_id, house.operator_id)
    async with db.connection() as conn:
        now = (await database_now(conn)).replace(microsecond=0)
        text = issue_payment_code(house.codes, asker=asker, amount=Money(100, "CNY"), reference=None, now=now).text
        found = await read_payment_code(conn, house.codes, text=text, asker=person, now=now + timedelta(seconds=120))
        assert found.amount == Money(100, "CNY")
        with pytest.raises(CheckCodeExpired):
            await read_payment_code(conn, house.codes, text=text, asker=person, now=now + timedelta(seconds=121))


async def test_altered_revoked_and_foreign_codes_are_refused(db: Database, house: House) -> None:
    terminal, person = await house.terminal(), await house.person()
    text = (await terminal.payment_code(100, "CNY"))["payment_code"]
    operator_id, _, _ = await another_operator(db)
    assert (await read(house, person, text[:-1] + ("A" if text[-1] != "A" else "B"))).json()["code"] == "check-code-altered"
    assert (await read(house, await house.person(operator_id), text)).status_code == 404
    claimed = house.codes.write(PaymentCode(new_id(), operator_id, terminal.terminal_id, 1, "CNY", None, 4_000_000_000))
    assert (await read(house, person, claimed)).status_code == 404
    await house.revoke(terminal.terminal_id)
    assert (await read(house, person, text)).json()["code"] == "check-code-expired"


@pytest.mark.parametrize(
    ("amount", "currency", "reference"),
    [(0, "CNY", None), (-1, "CNY", None), (14.5, "CNY", None), (True, "CNY", None), (2**53, "CNY", None), ("14", "CNY", None),
     (1, "XXX", None), (1, "cny", None), (1, "CNY", ""), (1, "CNY", "a b"), (1, "CNY", "x" * 65)],
)  # fmt: skip
async def test_odd_amounts_currencies_and_references_are_refused(
    house: House, amount: Any, currency: str, reference: str | None
) -> None:
    terminal = await house.terminal()
    with pytest.raises(Problem, match="422"):
        await terminal.payment_code(amount, currency, reference=reference)
