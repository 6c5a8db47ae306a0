"""Many at once against a real database: limits hold exactly, one key is one charge, nobody waits for a stranger's lock."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest
import pytest_asyncio

from kinpay.charges.batch import Batcher
from kinpay.charges.charge import ChargeState
from kinpay.charges.request import Authorized, AuthorizeRequest
from kinpay.charges.submit import commit_debit
from kinpay.database.pool import Database, database_now
from kinpay.mandates.end_mandate import end_mandate, pause_mandate
from kinpay.people.lock import lock_circle
from kinpay.primitives.errors import KeyReused
from tests.charges.household import Household, found, limit, shop_of, terms, void_charge
from tests.charges.lossy import LossyWire
from tests.charges.scripted import ScriptedBank


@pytest_asyncio.fixture
async def second_db(database_url: str) -> AsyncIterator[Database]:
    """A second pool, as another process would have."""
    database = await Database.open(database_url, max_connections=6)
    yield database
    await database.close()


@pytest_asyncio.fixture
async def batchers(db: Database, second_db: Database) -> AsyncIterator[list[Batcher]]:
    """Two batchers that know nothing of each other."""
    pair = [Batcher(db), Batcher(second_db)]
    yield pair
    for batcher in pair:
        await batcher.close()


async def _all(batchers: Sequence[Batcher], requests: Sequence[AuthorizeRequest]) -> list[Authorized]:
    """Every request at once, dealt out to the batchers in turn; small waits let batches of many shapes form."""

    async def one(number: int, request: AuthorizeRequest) -> Authorized:
        await asyncio.sleep((number * 7 % 13) / 1000)
        return await batchers[number % len(batchers)].authorize(request)

    return await asyncio.gather(*(one(number, request) for number, request in enumerate(requests)))


def _states(verdicts: Sequence[Authorized]) -> Counter[str]:
    return Counter(verdict.charge.state.value for verdict in verdicts)


async def test_an_amount_limit_is_filled_exactly(db: Database, batchers: list[Batcher]) -> None:
    (home,) = await found(db, await shop_of(db), terms(limit(37 * 30)))
    verdicts = await _all(batchers, [home.asking(30) for _ in range(200)])
    assert _states(verdicts) == {"held": 37, "refused": 163}
    assert await home.usage(home.spenders[0].mandate_id) == [(37 * 30, 37)]


async def test_a_count_limit_is_filled_exactly(db: Database, batchers: list[Batcher]) -> None:
    (home,) = await found(db, await shop_of(db), terms(limit(41, "week", "count")))
    verdicts = await _all(batchers, [home.asking(1 + number) for number in range(200)])
    assert _states(verdicts) == {"held": 41, "refused": 159}
    held = sum(verdict.charge.amount_minor for verdict in verdicts if verdict.charge.state is ChargeState.HELD)
    assert await home.usage(home.spenders[0].mandate_id, "week") == [(held, 41)]


async def test_a_pool_is_filled_exactly_by_two_spenders(db: Database, batchers: list[Batcher]) -> None:
    """S4.2: 80.00 are left; 60.00 and 50.00 at the same instant, again and again: one of them fits, once."""
    (home,) = await found(db, await shop_of(db), terms(limit(310_000, "month")))
    daughter = await home.add_spender(terms(limit(80_000, "month"), limit(20_000, "month", mccs=["7994"])))
    await home.add_pool(terms(limit(500_000, "month")))
    used = await home.buy(batchers[0], 292_000)
    assert used.state is ChargeState.HELD
    assert (await home.buy(batchers[1], 70_000, daughter)).state is ChargeState.HELD
    await home.add_pool(terms(limit(370_000, "month")))
    tries = [home.asking(6_000) if number % 2 else home.asking(5_000, daughter) for number in range(100)]
    verdicts = await _all(batchers, tries)
    assert _states(verdicts) == {"held": 1, "refused": 99}
    for verdict in verdicts:
        if verdict.charge.refusal is not None:
            assert {reason["code"] for reason in verdict.charge.refusal["reasons"]} == {"POOL_MONTH_AMOUNT"}
    left = 8_000 - next(v.charge.amount_minor for v in verdicts if v.charge.state is ChargeState.HELD)
    assert (await home.buy(batchers[0], left, daughter)).state is ChargeState.HELD
    assert (await home.buy(batchers[1], 1)).state is ChargeState.REFUSED


async def test_one_key_many_times_is_one_charge(db: Database, batchers: list[Batcher]) -> None:
    (home,) = await found(db, await shop_of(db), terms(limit(1000)))
    verdicts = await _all(batchers, [home.asking(10, key="the one key") for _ in range(64)])
    assert len({verdict.charge.id for verdict in verdicts}) == 1
    assert sum(verdict.fresh for verdict in verdicts) == 1
    assert await home.usage(home.spenders[0].mandate_id) == [(10, 1)]


async def test_one_key_in_two_circles_is_one_charge(db: Database, batchers: list[Batcher]) -> None:
    """Uniqueness is not keyed by circle; the circles' locks do not help here."""
    one, other = await found(db, await shop_of(db), terms(limit(1000)), count=2)
    keys = [f"key {number}" for number in range(20)]
    requests = [home.asking(10, key=key) for key in keys for home in (one, other)]
    verdicts = await asyncio.gather(
        *(batchers[number % 2].authorize(request) for number, request in enumerate(requests)), return_exceptions=True
    )
    for first, second in zip(verdicts[::2], verdicts[1::2], strict=True):
        assert sorted(type(verdict).__name__ for verdict in (first, second)) == ["Authorized", "KeyReused"]
    assert all(isinstance(verdict, Authorized | KeyReused) for verdict in verdicts)


async def test_a_busy_circle_holds_up_nobody_else(db: Database, second_db: Database) -> None:
    busy, *free = await found(db, await shop_of(db), terms(limit(1000)), count=9)
    batcher, released = Batcher(db), asyncio.Event()

    async def hold() -> None:
        async with second_db.transaction() as conn:
            await lock_circle(conn, busy.circle_id)
            locked.set()
            await asyncio.sleep(2)
            released.set()

    locked = asyncio.Event()
    holder = asyncio.create_task(hold())
    await locked.wait()
    # More of them than the pool has connections: they must not sit on all of these while they wait.
    waiting = [asyncio.create_task(batcher.authorize(busy.asking(10))) for _ in range(40)]
    await asyncio.sleep(0.3)
    slowest = 0.0
    for _ in range(5):
        began = time.monotonic()
        verdicts = await asyncio.gather(*(batcher.authorize(home.asking(10)) for home in free))
        slowest = max(slowest, time.monotonic() - began)
        assert _states(verdicts) == {"held": len(free)}
    assert not released.is_set()
    assert slowest < 1, "others waited for a circle that is not theirs"
    assert _states(await asyncio.gather(*waiting)) == {"held": 40}
    assert released.is_set()
    await holder
    await batcher.close()


async def test_the_clock_is_read_when_the_lock_is_held(db: Database, second_db: Database) -> None:
    """Whoever waited for a circle is decided at the moment it was had, not when the waiting began."""
    (home,) = await found(db, await shop_of(db), terms(limit(1000)))
    batcher = Batcher(db)
    async with second_db.transaction() as conn:
        await lock_circle(conn, home.circle_id)
        waiting = asyncio.create_task(batcher.authorize(home.asking(10)))
        await asyncio.sleep(0.7)
        held_until = await database_now(conn)
    charge = (await waiting).charge
    assert charge.decided_at >= held_until
    assert charge.hold_expires_at == charge.decided_at + timedelta(seconds=60)


@pytest.mark.parametrize("how", ["lower", "revoke", "pause"])
async def test_nothing_is_approved_under_an_old_version(db: Database, batchers: list[Batcher], how: str) -> None:
    (home,) = await found(db, await shop_of(db), terms(limit(10**9)))
    mandate_id, stop = home.spenders[0].mandate_id, asyncio.Event()
    verdicts: list[Authorized] = []

    async def spend(batcher: Batcher) -> None:
        while not stop.is_set():
            verdicts.extend(await asyncio.gather(*(batcher.authorize(home.asking(20)) for _ in range(8))))

    spenders = [asyncio.create_task(spend(batcher)) for batcher in batchers]
    await asyncio.sleep(0.15)
    if how == "lower":
        await home.lower(mandate_id, terms(limit(10)))
    else:
        change = end_mandate if how == "revoke" else pause_mandate
        who = {"person_id": home.payer_id} if how == "revoke" else {"payer_id": home.payer_id}
        async with db.transaction() as conn:
            await change(conn, mandate_id=mandate_id, **who)
    async with db.connection() as conn:
        changed_at = await database_now(conn)
    await asyncio.sleep(0.15)
    stop.set()
    await asyncio.gather(*spenders)
    held = [verdict.charge for verdict in verdicts if verdict.charge.state is ChargeState.HELD]
    assert held
    assert len(held) < len(verdicts), "some were asked for afterwards"
    assert all(charge.decided_at < changed_at and charge.mandate_version == 1 for charge in held)
    if how != "lower":
        async with db.transaction() as conn:
            assert await commit_debit(conn, held[0].id, amount_minor=None, delivered=False, actor_id=home.payer_id) is None
        assert (await home.charge(held[0].id)).state is ChargeState.VOIDED


async def test_orders_and_releases_mixed_leave_the_sum_right(db: Database, batchers: list[Batcher]) -> None:
    (home,) = await found(db, await shop_of(db), terms(limit(300), limit(12, metric="count")))
    bank = ScriptedBank()

    async def buy_and_give_up(number: int) -> bool:
        charge = (await batchers[number % 2].authorize(home.asking(30))).charge
        if charge.state is ChargeState.HELD and number % 3:
            await void_charge(db, bank, charge.id, actor_id=home.shop.terminal_id)
            return False
        return charge.state is ChargeState.HELD

    kept = sum(await asyncio.gather(*(buy_and_give_up(number) for number in range(60))))
    assert kept <= 10
    assert await home.usage(home.spenders[0].mandate_id) == [(30 * kept, kept)]


async def test_a_lost_acknowledgement_finds_its_own_charge(db: Database, database_url: str) -> None:
    homes: list[Household] = await found(db, await shop_of(db), terms(limit(20)), count=4)
    wire = LossyWire(database_url)
    lossy_db = await Database.open(await wire.open(), max_connections=3)
    try:
        batcher = Batcher(lossy_db)
        await batcher.authorize(homes[0].asking(1))
        wire.swallow = 2
        requests = [home.asking(10) for home in homes] + [homes[0].asking(15)]
        verdicts = await asyncio.gather(*(batcher.authorize(request) for request in requests))
        assert wire.swallowed >= 1
        assert [verdict.fresh for verdict in verdicts] == [True] * 5
        assert [verdict.charge.id for verdict in verdicts] == [request.charge_id for request in requests]
        assert _states(verdicts) == {"held": 4, "refused": 1}
        again = await batcher.authorize(homes[1].asking(10, key=requests[1].key.key))
        assert (again.fresh, again.charge.id) == (False, requests[1].charge_id)
        await batcher.close()
    finally:
        await lossy_db.close()
        await wire.close()
    assert await homes[0].usage(homes[0].spenders[0].mandate_id) == [(11, 2)]
    for home in homes[1:]:
        assert await home.usage(home.spenders[0].mandate_id) == [(10, 1)]
