"""Crowds: many requests at once, over two server processes, judged by the bank's own books."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from kinpay.cli.demo.cast import Device, Player, merchant
from kinpay_client import Problem, new_key
from tests.stories.conftest import House

BEGINS = "2026-03-02 10:00"
TILLS = 8


@pytest.fixture(scope="module")
async def tills(house: House) -> list[Device]:
    """Eight tills of one canteen; every other one speaks to the second server process."""
    owner = await Player.sign_in(house.world, house.world.owner_account)
    merchant_id, site_id = await merchant(owner, name="Canteen", mcc="5812", site="School")
    other = house.start_another()
    made = []
    for number in range(TILLS):
        till = await Device.install(owner, merchant_id=merchant_id, site_id=site_id, name=f"Till {number}")
        made.append(till if number % 2 else till.at(other))
    return made


async def card_of(house: House, name: str, *limits: dict[str, Any]) -> str:
    """A payer with these limits, a spender bound from the app, and the spender's card; returns its code."""
    payer = await house.join(f"payer.{name}", name=f"Payer {name}", balance_minor=10_000_00)
    spender = await house.join(f"spender.{name}", name=f"Spender {name}")
    asked = await spender.request("C", payer=payer.account)
    terms = {"currency": "CNY", "limits": [{"filter": {}, **limit} for limit in limits], "conditions": []}
    circle = {"name": f"Circle {name}", "time_zone": "Asia/Shanghai"}
    yes = await payer.approve(asked["registration_id"], number=asked["match_number"], terms=terms, circle=circle)
    await payer.sign(yes["agreement"]["sign_url"])
    bound = await spender.bound(asked["registration_id"])
    content = {"person_id": spender.id, "currency": "CNY", "terms": {"currency": "CNY", "limits": [], "conditions": []}}
    issued = await payer.ask("POST", f"/v1/circles/{bound['circle_id']}/cards", content)
    return str(issued["code"])


@pytest.mark.parametrize(
    ("limit", "fit"),
    [
        ({"metric": "amount", "window": "day", "at_most": 137_00}, 137),
        ({"metric": "count", "window": "day", "at_most": 90}, 90),
    ],
    ids=["amount", "count"],
)
async def test_two_hundred_at_a_limit(house: House, tills: list[Device], limit: dict[str, Any], fit: int) -> None:
    """Exactly as many as fit, no more and no less; the bank debited just those."""
    card = await card_of(house, limit["metric"], limit)
    before = len(await house.bank_debits())

    async def ask(till: Device) -> str:
        charge = await till.charge(card, 1_00)
        return (await till.terminal.settled(charge)).state  # Two hundred at once: the bank's answer may come later.

    states = Counter(await asyncio.gather(*(ask(tills[number % TILLS]) for number in range(200))))
    assert states == {"succeeded": fit, "refused": 200 - fit}
    assert len(await house.bank_debits()) - before == fit


async def test_one_key_sixty_four_times_at_once(house: House, tills: list[Device]) -> None:
    """One till repeats one request sixty-four times at once, to both processes: one charge, one debit at the bank."""
    card = await card_of(house, "storm", {"metric": "amount", "window": "day", "at_most": 100_00})
    before = len(await house.bank_debits())
    key, first = new_key(), tills[0]
    second = first.at(house.world)

    async def ask(number: int) -> str:
        try:
            return str((await (first if number % 2 else second).charge(card, 7_00, key=key))["id"])
        except Problem as problem:
            return f"refused: {problem.code}"

    told = set(await asyncio.gather(*(ask(number) for number in range(64)))) - {"refused: idempotency-key-in-use"}
    assert len(told) == 1, told
    debits = await house.bank_debits()
    assert len(debits) - before == 1
    assert [one["amount_minor"] for one in debits].count(7_00) == 1
    assert await house.value("SELECT count(*) FROM charge WHERE amount_minor = 700") == 1
