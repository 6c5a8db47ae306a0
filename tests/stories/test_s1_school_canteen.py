"""Story S1 (product.md §5): Xiaoyu, 9, at the school canteen on Monday, 2026-03-02, number by number.

Left out, because it belongs to later issues: the face at the till (the code on her phone and her printed card stand for it)
and the receipt for its erasure; asking a person for 20.01-40.00, and with it all of Tuesday; the father as a backup, who only
answers and pays there.
"""

from __future__ import annotations

import pytest_asyncio

from kinpay.cli.demo.cast import Device, Player, merchant
from kinpay_client import new_key
from tests.stories.asking import (
    PER_DAY_COUNT,
    PER_MONTH,
    by_phone,
    left,
    limit,
    possible_now,
    reasons,
    terms,
    used,
)
from tests.stories.conftest import ZONE, House

BEGINS = "2026-03-02 06:45"


SPRING_TERM = {
    "weekdays": [1, 2, 3, 4, 5],
    "semesters": [{"first": "2026-02-23", "last": "2026-07-03"}],
    "off": ["2026-04-06", "2026-05-01", "2026-06-19"],
    "on": ["2026-05-09"],
}


class School:
    """Who and what the story is about."""

    canteen: Device
    bookshop: Device
    mother: Player
    xiaoyu: Player
    circle_id: str
    mandate_id: str
    card: str


@pytest_asyncio.fixture(scope="module")
async def school(house: House) -> School:
    """Registered by scan at the canteen (order A), with a printed card as the other way."""
    school = School()
    owner = await Player.sign_in(house.world, "owner")
    canteen, site = await merchant(owner, name="Canteen", mcc="5814", site="School")
    school.canteen = await Device.install(owner, merchant_id=canteen, site_id=site, name="Till 1")
    shop, site = await merchant(owner, name="Bookshop", mcc="5942", site="School")
    school.bookshop = await Device.install(owner, merchant_id=shop, site_id=site, name="Till 2")
    school.mother = await house.join("mother", name="林梅", balance_minor=200_000)
    school.xiaoyu = await house.join("xiaoyu", name="小雨", born="2016-09-01")
    policy = terms(
        limit("amount", "per_payment", 2_000),
        limit("amount", "day", 3_500),
        limit("count", "day", 4),
        limit("amount", "month", 60_000),
        conditions=[
            {
                "kind": "hours",
                "open": [{"opens": "06:30", "closes": "18:30", "weekdays": [1, 2, 3, 4, 5, 6, 7]}],
                "calendar": SPRING_TERM,
                "days": "school",
            },
            {"kind": "payees", "allow": [canteen]},
        ],
    )
    asked = await school.xiaoyu.request("A", payer=school.mother.account, device=school.canteen)
    yes = await school.mother.approve(
        asked["registration_id"], number=asked["match_number"], terms=policy, circle={"name": "Lin", "time_zone": ZONE}
    )
    await school.mother.sign(yes["agreement"]["sign_url"])
    await school.canteen.capture_face(await school.canteen.told_to_capture())
    bound = await school.xiaoyu.bound(asked["registration_id"])
    school.circle_id, school.mandate_id = bound["circle_id"], bound["mandate_id"]
    issued = await school.mother.ask(
        "POST", f"/v1/circles/{school.circle_id}/cards", {"person_id": school.xiaoyu.id, "pin": "2580"}
    )
    school.card = issued["code"]
    await school.mother.told("registration_bound", "card_issued")
    await school.xiaoyu.told("registration_bound", "card_issued")
    return school


async def test_monday(house: House, school: School) -> None:
    """Steps 1 to 7."""
    await step_1_breakfast(house, school)
    lunch = await step_2_lunch_and_the_same_key_again(house, school)
    await step_3_above_the_day(house, school)
    await step_4_equality_passes(house, school)
    await step_5_refund_restores_the_amount_not_the_count(house, school, lunch)
    await step_6_count_first_then_time_first(house, school)
    await step_7_another_payee_on_the_same_site(house, school)
    await the_books_of_monday(house, school)


async def stands(school: School, *, left_minor: int, count: int) -> None:
    """What is left of the day, and how many payments were made."""
    assert await left(school.mother, school.mandate_id) == left_minor
    assert await used(school.mother, school.mandate_id, PER_DAY_COUNT) == count


async def step_1_breakfast(house: House, school: School) -> None:
    """07:10 6.50 → approved, 28.50 left, count 1."""
    await house.clock("2026-03-02 07:10")
    paid = await by_phone(school.canteen, school.xiaoyu, school.circle_id, 650)
    assert (paid.status, paid["state"], paid["captured_minor"]) == (201, "succeeded", 650)
    await stands(school, left_minor=2_850, count=1)
    for person in (school.mother, school.xiaoyu):
        (told,) = await person.told("charge_succeeded")
        assert "6.50" in told["text"]
        assert "28.50" in told["text"], "they are told what is left today"


async def step_2_lunch_and_the_same_key_again(house: House, school: School) -> str:
    """11:55 14.00 → approved, 14.50 left, count 2. 11:56 same key resent → same id, one debit, count 2."""
    await house.clock("2026-03-02 11:55")
    key, code = new_key(), await school.xiaoyu.pay_code(school.circle_id)
    paid = await school.canteen.charge(code, 1_400, key=key)
    assert paid["state"] == "succeeded"
    await stands(school, left_minor=1_450, count=2)
    await house.clock("2026-03-02 11:56:30")
    again = await school.canteen.charge(code, 1_400, key=key)
    assert again.replayed
    assert again["id"] == paid["id"]
    await stands(school, left_minor=1_450, count=2)
    assert sorted(one["amount_minor"] for one in await house.bank_debits()) == [650, 1_400]
    return str(paid["id"])


async def step_3_above_the_day(house: House, school: School) -> None:
    """15:30 15.00 → refused DAY_AMOUNT, "up to 14.50 now"; mother notified."""
    await house.clock("2026-03-02 15:30")
    refused = await by_phone(school.canteen, school.xiaoyu, school.circle_id, 1_500)
    assert reasons(refused) == ["DAY_AMOUNT"]
    assert possible_now(refused) == 1_450
    assert refused["refusal"]["again_at"] == "2026-03-02T22:30:00Z", "Tuesday 06:30, when the canteen's hours begin"
    await stands(school, left_minor=1_450, count=2)
    told = [one for one in await school.mother.told("charge_refused") if one["kind"] == "charge_refused"]
    assert len(told) == 1
    assert "14.50" in told[0]["text"]
    assert len(await house.bank_debits()) == 2


async def step_4_equality_passes(house: House, school: School) -> None:
    """15:31 14.50 → approved (equality), 0.00 left, count 3. By the card this time."""
    await house.clock("2026-03-02 15:31")
    paid = await school.canteen.charge(school.card, 1_450, pin="2580")
    assert (paid["state"], paid["method"]) == ("succeeded", "card")
    await stands(school, left_minor=0, count=3)


async def step_5_refund_restores_the_amount_not_the_count(house: House, school: School, lunch: str) -> None:
    """15:40 lunch refunded 14.00 → 14.00 left, count still 3. 15:45 14.00 → approved, 0.00, count 4."""
    await house.clock("2026-03-02 15:40")
    refunded = await school.canteen.terminal.refund(lunch, 1_400)
    assert (refunded["state"], refunded["refunded_minor"]) == ("succeeded", 1_400)
    await stands(school, left_minor=1_400, count=3)
    told = await school.mother.told("charge_refunded", "refund_succeeded")
    assert all("14.00" in one["text"] for one in told if one["kind"] in ("charge_refunded", "refund_succeeded"))
    await house.clock("2026-03-02 15:45")
    paid = await by_phone(school.canteen, school.xiaoyu, school.circle_id, 1_400)
    assert paid["state"] == "succeeded"
    await stands(school, left_minor=0, count=4)


async def step_6_count_first_then_time_first(house: House, school: School) -> None:
    """15:50 0.50 → refused, primary COUNT (4/4), also DAY_AMOUNT. 18:31 → refused TIME first."""
    await house.clock("2026-03-02 15:50")
    refused = await by_phone(school.canteen, school.xiaoyu, school.circle_id, 50)
    assert reasons(refused) == ["DAY_COUNT", "DAY_AMOUNT"]
    assert possible_now(refused) == 0
    (seen,) = [one for one in (await school.mother.charge(refused["id"]))["refusal"]["reasons"] if one["code"] == "DAY_COUNT"]
    assert (seen["used"], seen["at_most"], seen["remaining"]) == (4, 4, 0), "her mother sees 4/4"
    await house.clock("2026-03-02 18:31")
    late = await by_phone(school.canteen, school.xiaoyu, school.circle_id, 50)
    assert reasons(late) == ["TIME", "DAY_COUNT", "DAY_AMOUNT"]
    await stands(school, left_minor=0, count=4)


async def step_7_another_payee_on_the_same_site(house: House, school: School) -> None:
    """Bookshop on the same site 10.00 → refused PAYEE. (Asked within hours, on Tuesday, so that it is the only reason.)"""
    refused = await by_phone(school.bookshop, school.xiaoyu, school.circle_id, 1_000)
    assert reasons(refused) == ["PAYEE", "TIME", "DAY_COUNT", "DAY_AMOUNT"], "on Monday evening the rest is against it, too"
    await house.clock("2026-03-03 07:00")
    alone = await by_phone(school.bookshop, school.xiaoyu, school.circle_id, 1_000)
    assert reasons(alone) == ["PAYEE"]
    assert possible_now(alone) == 0
    await stands(school, left_minor=3_500, count=0)


async def the_books_of_monday(house: House, school: School) -> None:
    """Statement of Monday: gross 49.00, refund 14.00, net 35.00; the bank says the same."""
    statement = await school.mother.get(f"/v1/circles/{school.circle_id}/statements/2026-03")
    (part,) = statement["currencies"]
    (monday,) = part["by_day"]
    assert (monday["key"], monday["count"]) == ("2026-03-02", 4)
    assert (monday["gross_minor"], monday["refunded_minor"], monday["net_minor"]) == (4_900, 1_400, 3_500)
    (payer,) = part["by_payer"]
    assert (payer["key"], payer["net_minor"]) == (school.mother.id, 3_500)
    debits = await house.bank_debits()
    assert sorted(one["amount_minor"] for one in debits) == [650, 1_400, 1_400, 1_450]
    assert sum(one["refunded_minor"] for one in debits) == 1_400
    assert all(one["bookings"] == 1 for one in debits), "the bank moved money once for each"
    assert await school.mother.balance_minor() == 200_000 - 3_500
    assert await used(school.mother, school.mandate_id, PER_MONTH) == 3_500
