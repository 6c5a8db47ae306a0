"""Rides through a gate, at the level of the database: what caps and transfers do to conditions, floors, items and days."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kinpay.charges.batch import Batcher
from kinpay.charges.order import Item
from kinpay.charges.request import Charge
from kinpay.database.pool import Database, database_now
from kinpay.terminals.set_fare import set_fare_rule
from tests.charges.household import Household, found, limit, shop_of, terms
from tests.conftest import set_clock

MORNING = datetime(2026, 3, 2, 1, tzinfo=UTC)
"""09:00 in Shanghai."""
ONLY_RIDES = {"kind": "items", "allow": ["ride", "bike"]}


async def _clock(db: Database, moment: datetime) -> None:
    async with db.connection() as conn:
        await set_clock(conn, moment)


async def _line(
    db: Database, written: dict[str, Any], *, cap: int | None = 800, transfer_s: int | None = None, zone: str = "Asia/Shanghai"
) -> Household:
    """A family in Shanghai, and a bus whose operator's day ends in `zone`."""
    await _clock(db, MORNING)
    (home,) = await found(db, await shop_of(db), written)
    async with db.transaction() as conn:
        await conn.execute("UPDATE operator SET time_zone = $2 WHERE id = $1", home.shop.operator_id, zone)
        await set_fare_rule(
            conn,
            operator_id=home.shop.operator_id,
            merchant_id=home.shop.merchant_id,
            currency="CNY",
            cap_per_day_minor=cap,
            transfer_within_s=transfer_s,
            actor_id=home.payer_id,
            now=await database_now(conn),
        )
    return home


async def _ride(home: Household, batcher: Batcher, fare: int, *items: Item) -> Charge:
    return await home.buy(batcher, fare, at_gate=True, items=items)


@pytest.mark.parametrize("transfer_s", [None, 3600])
async def test_a_cheaper_ride_goes_on_saying_what_was_ridden(db: Database, transfer_s: int | None) -> None:
    """3.00 each and 8.00 a day: the third ride costs 2.00; a transfer nothing. Both are rides still."""
    bikes = limit(150, items=["bike"])
    home, batcher = await _line(db, terms(bikes, conditions=[ONLY_RIDES]), transfer_s=transfer_s), Batcher(db)
    basket = (Item("ride", 250), Item("bike", 50))
    rides = [await _ride(home, batcher, 300, *basket) for _ in range(4)]
    assert [ride.state for ride in rides] == ["held"] * 4, [ride.refusal for ride in rides]
    assert [ride.amount_minor for ride in rides] == ([300, 300, 200, 0] if transfer_s is None else [300, 0, 0, 0])
    assert {ride.items for ride in rides} == {basket}
    assert await home.usage(home.spenders[0].mandate_id) == ([(150, 3)] if transfer_s is None else [(50, 1)])
    tobacco = await _ride(home, batcher, 300, Item("tobacco", 300))
    assert tobacco.refusal is not None
    assert [reason["code"] for reason in tobacco.refusal["reasons"]] == ["ITEM"]
    await batcher.close()


async def test_a_floor_looks_at_the_plain_fare(db: Database) -> None:
    """At least 2.00: a ride for 3.00 that is capped to 1.00 passes; one for 1.50 never does."""
    floor = {"metric": "amount", "window": "per_payment", "at_least": 200, "filter": {}}
    home, batcher = await _line(db, terms(floor, {**floor, "filter": {"items": ["ride"]}}), cap=700), Batcher(db)
    for amount in (300, 300, 100):
        ride = await _ride(home, batcher, 300, Item("ride", 250), Item("bike", 50))
        assert (ride.state, ride.amount_minor) == ("held", amount), ride.refusal
    other = await home.add_spender(terms(floor))
    refused = await home.buy(batcher, 150, other, at_gate=True)
    assert refused.refusal is not None
    assert [reason["code"] for reason in refused.refusal["reasons"]] == ["PER_PAYMENT_MIN"]
    await batcher.close()


async def test_a_capped_ride_uses_what_it_costs(db: Database) -> None:
    """A limit of 7.50 a day and a cap of 8.00: what is refused is what it would cost, and takes nothing of the cap."""
    home, batcher = await _line(db, terms(limit(750))), Batcher(db)
    for amount in (300, 300):
        assert (await _ride(home, batcher, 300)).amount_minor == amount
    refused = await _ride(home, batcher, 300)
    assert refused.refusal is not None
    assert (refused.amount_minor, refused.fare_minor, refused.refusal["possible_now_minor"]) == (200, 300, 150)
    small = await _ride(home, batcher, 150)
    assert (small.state, small.amount_minor) == ("held", 150)
    assert await home.usage(home.spenders[0].mandate_id) == [(750, 3)]
    await batcher.close()


async def test_the_cap_is_of_the_operators_day(db: Database) -> None:
    """The bus is at home in Berlin, the family in Shanghai: its midnight is their 07:00."""
    home, batcher = await _line(db, terms(limit(5_000)), cap=300, zone="Europe/Berlin"), Batcher(db)
    assert (await _ride(home, batcher, 300)).amount_minor == 300
    await _clock(db, datetime(2026, 3, 2, 16, 30, tzinfo=UTC))  # 00:30 of the next day in Shanghai
    assert (await _ride(home, batcher, 300)).amount_minor == 0
    await _clock(db, datetime(2026, 3, 2, 22, 59, tzinfo=UTC))
    assert (await _ride(home, batcher, 300)).amount_minor == 0
    await _clock(db, datetime(2026, 3, 2, 23, 1, tzinfo=UTC))
    assert (await _ride(home, batcher, 300)).amount_minor == 300
    await batcher.close()


async def test_a_day_of_25_hours_has_one_cap(db: Database) -> None:
    """On 25 October 2026 Berlin's clocks go back: 24 hours and 40 minutes lie between its first ride and its last."""
    home, batcher = await _line(db, terms(limit(5_000)), cap=300, zone="Europe/Berlin"), Batcher(db)
    begins = datetime(2026, 10, 24, 22, tzinfo=UTC)
    for after, costs in (
        (timedelta(minutes=-1), 300),
        (timedelta(minutes=10), 300),
        (timedelta(hours=24, minutes=50), 0),
        (timedelta(hours=25, minutes=1), 300),
    ):
        await _clock(db, begins + after)
        assert (await _ride(home, batcher, 300)).amount_minor == costs, after
    await batcher.close()


async def test_a_transfer_reaches_back_over_midnight(db: Database) -> None:
    home, batcher = await _line(db, terms(limit(5_000)), cap=None, transfer_s=3600), Batcher(db)
    for minutes, costs in ((-10, 300), (40, 0), (51, 300)):
        await _clock(db, datetime(2026, 3, 3, 16, tzinfo=UTC) + timedelta(minutes=minutes))
        assert (await _ride(home, batcher, 300)).amount_minor == costs, minutes
    await batcher.close()
