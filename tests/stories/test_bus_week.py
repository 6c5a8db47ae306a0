"""A week on the bus: fares with a daily cap and free transfers, one itemised debit a day, arrears, a retry, a last debit.

The bus operator's need of claim 5. Rides cost 2.00, never more than 8.00 a day; whoever rode and paid less than an hour ago
changes for free. The mother is debited once a day.
"""

from __future__ import annotations

from typing import Any

import pytest_asyncio

from kinpay.cli.demo.cast import Device, Player, merchant, until
from tests.stories.asking import PER_DAY, bound_by_app, by_phone, left, limit, reasons, terms
from tests.stories.conftest import ZONE, House

BEGINS = "2026-03-02 07:00"
FARE = 200
"""2.00 yuan."""


class Line:
    """Who and what the story is about."""

    gate: Device
    mother: Player
    pupil: Player
    circle_id: str
    mandate_id: str
    agreement_id: str


@pytest_asyncio.fixture(scope="module")
async def line(house: House) -> Line:
    """A bus with a gate, a pupil, and a mother who is debited once a day."""
    line = Line()
    owner = await Player.sign_in(house.world, "owner")
    bus, site = await merchant(owner, name="City Bus", mcc="4111", site="Line 1")
    rule = {"currency": "CNY", "cap_per_day_minor": 800, "transfer_within_s": 3600}
    await owner.ask("PUT", f"/v1/merchants/{bus}/fare-rule", rule)
    line.gate = await Device.install(owner, merchant_id=bus, site_id=site, name="Gate", kind="gate")
    line.mother = await house.join("mother", name="林梅", balance_minor=10_000)
    line.pupil = await house.join("pupil", name="小雨", born="2014-09-01")
    policy = terms(limit("amount", "day", 1_000))
    bound = await bound_by_app(line.pupil, line.mother, limits=policy, circle={"name": "Lin", "time_zone": ZONE})
    line.circle_id, line.mandate_id = bound["circle_id"], bound["mandate_id"]
    (line.agreement_id,) = (await line.mother.mandate(line.mandate_id))["agreement_ids"]
    funding = {"agreement_ids": [line.agreement_id], "debited": "daily"}
    proof = await line.mother.prove("mandate.funding", line.mandate_id, funding)
    await line.mother.ask("PUT", f"/v1/mandates/{line.mandate_id}/funding", {**funding, "proof": proof})
    assert (await line.mother.mandate(line.mandate_id))["debited"] == "daily"
    return line


async def test_a_week_on_the_bus(house: House, line: Line) -> None:
    """Monday to Sunday."""
    await monday_transfers_and_the_cap(house, line)
    await tuesday_a_ride_taken_back(house, line)
    await wednesday_no_money_and_thursday_owed(house, line)
    await friday_over_midnight(house, line)
    await sunday_the_last_debit(house, line)
    await the_books(house, line)


async def ride(house: House, line: Line, wall: str) -> Any:
    """Through the gate at that time."""
    await house.clock(wall)
    return await by_phone(line.gate, line.pupil, line.circle_id, FARE)


async def debited(house: House, number: int) -> dict[str, Any]:
    """The bank's debit of that number (from 1), once it is there."""

    async def look() -> dict[str, Any] | None:
        found = sorted(await house.bank_debits(), key=lambda one: str(one["finished_at"]))
        return found[number - 1] if len(found) >= number else None

    return await until(look, f"debit number {number} is in the bank's books", within_s=25)


async def monday_transfers_and_the_cap(house: House, line: Line) -> None:
    """Six rides: one is a transfer, one is above the cap; together 8.00, in one debit with four charges."""
    rides = [await ride(house, line, f"2026-03-02 {at}") for at in ("08:00", "08:40", "12:00", "15:00", "18:00", "20:00")]
    assert [one["amount_minor"] for one in rides] == [200, 0, 200, 200, 200, 0]
    assert [one["state"] for one in rides] == ["due", "succeeded", "due", "due", "due", "succeeded"]
    assert {one["fare_minor"] for one in rides} == {FARE}
    assert {one.body.get("due_on") for one in rides} == {"2026-03-02", None}
    assert await left(line.mother, line.mandate_id, PER_DAY) == 200, "the limit counts what is really owed"
    assert await house.bank_debits() == [], "nobody is debited before the day ends"
    await house.clock("2026-03-03 00:00:30")
    debit = await debited(house, 1)
    assert debit["amount_minor"] == 800
    told = await line.mother.told("daily_debited")
    assert "¥8.00" in told[-1]["title"]
    items = (await line.mother.get(f"/v1/circles/{line.circle_id}/daily-debits"))["debits"]
    assert [(one["day"], one["amount_minor"], one["state"]) for one in items] == [("2026-03-02", 800, "succeeded")]
    assert [one["amount_minor"] for one in items[0]["charges"]] == [200, 200, 200, 200]
    assert (await line.gate.state(rides[0]["id"]))["state"] == "succeeded"


async def tuesday_a_ride_taken_back(house: House, line: Line) -> None:
    """A gate that did not open: the ride is taken off the day, the day comes to nothing, and nobody is debited."""
    taken = await ride(house, line, "2026-03-03 08:00")
    again = await line.gate.terminal.refund(taken["id"], FARE)
    assert again["state"] == "voided"
    assert await left(line.mother, line.mandate_id, PER_DAY) == 1_000
    fresh = await ride(house, line, "2026-03-03 08:10")
    assert fresh["amount_minor"] == FARE, "what was taken back makes no transfer"
    half = await line.gate.terminal.refund(fresh["id"], 50)
    assert (half["state"], half["captured_minor"]) == ("due", 150)
    await house.clock("2026-03-04 00:00:30")
    assert (await debited(house, 2))["amount_minor"] == 150


async def wednesday_no_money_and_thursday_owed(house: House, line: Line) -> None:
    """The bank says no: the day is owed as a whole, the mandate is blocked, and it is tried again once there is money."""
    for at in ("08:00", "17:00"):
        assert (await ride(house, line, f"2026-03-04 {at}"))["state"] == "due"
    await house.world.control.change_customer(line.mother.account, balance_minor=100)
    await house.clock("2026-03-05 00:00:30")
    await line.mother.told("daily_owed")
    refused = await ride(house, line, "2026-03-05 08:00")
    assert reasons(refused) == ["MANDATE_ARREARS"]
    owed = (await line.mother.get(f"/v1/circles/{line.circle_id}/daily-debits"))["debits"][0]
    assert (owed["day"], owed["state"], owed["amount_minor"]) == ("2026-03-04", "failed", 400)
    await house.world.control.change_customer(line.mother.account, balance_minor=10_000)
    await house.clock("2026-03-05 09:30")
    assert (await debited(house, 3))["amount_minor"] == 400
    await line.mother.told("daily_debited")
    assert (await ride(house, line, "2026-03-05 17:00"))["state"] == "due"


async def friday_over_midnight(house: House, line: Line) -> None:
    """A transfer does not care for midnight; the cap does."""
    assert (await ride(house, line, "2026-03-06 23:50"))["amount_minor"] == FARE
    assert (await ride(house, line, "2026-03-07 00:20"))["amount_minor"] == 0
    assert (await debited(house, 4))["amount_minor"] == FARE, "Thursday's"
    assert (await debited(house, 5))["amount_minor"] == FARE, "Friday's"


async def sunday_the_last_debit(house: House, line: Line) -> None:
    """The mother ends the agreement at noon: what is due is debited before it ends at the bank."""
    assert (await ride(house, line, "2026-03-08 09:00"))["state"] == "due"
    await house.clock("2026-03-08 12:00")
    await line.mother.ask("POST", f"/v1/agreements/{line.agreement_id}/end", {})
    assert (await debited(house, 6))["amount_minor"] == FARE
    await line.mother.told("agreement_ended")


async def settled(house: House) -> bool:
    """Whether every charge has come to its end: the bank's word may be on its way still."""
    return await house.value("SELECT count(*) FROM charge WHERE state NOT IN ('succeeded', 'voided', 'refused')") == 0


async def the_books(house: House, line: Line) -> None:
    """The bank debited what was told, once each, and nothing is due or owed."""
    debits = await house.bank_debits()
    assert sorted(one["amount_minor"] for one in debits) == [150, 200, 200, 200, 400, 800]
    assert all(one["bookings"] == 1 for one in debits)
    await until(lambda: settled(house), "nothing is due or owed any more")
    month = (await line.mother.get(f"/v1/circles/{line.circle_id}/statements/2026-03"))["currencies"][0]
    assert month["total"]["net_minor"] == sum(one["amount_minor"] for one in debits)
