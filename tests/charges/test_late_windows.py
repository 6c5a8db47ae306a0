"""Money that comes late, or by another agreement, is counted in the windows of the charge's own moment, whatever changed since.

The books are checked after every test: each usage row is the sum over its charges, and every charge is in a window.
"""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime

import pytest

from kinpay.charges.batch import Batcher
from kinpay.charges.charge import ChargeState
from kinpay.charges.settle import settle_debit
from kinpay.charges.submit import capture_charge
from kinpay.database.pool import Database
from kinpay.mandates.zone import change_time_zone
from kinpay.providers.contract import DebitState
from tests.charges.household import Household, found, limit, proof_of, shop_of, terms
from tests.charges.scripted import ScriptedBank
from tests.conftest import set_clock

NOON = datetime(2026, 3, 4, 4, tzinfo=UTC)
"""Noon of a Wednesday in Shanghai."""


async def _move(home: Household, time_zone: str) -> None:
    async with home.db.transaction() as conn:
        proof_id = await proof_of(conn, home.payer_id)
        await change_time_zone(conn, circle_id=home.circle_id, payer_id=home.payer_id, time_zone=time_zone, proof_id=proof_id)


async def _capture(home: Household, bank: ScriptedBank, charge_id: str) -> ChargeState:
    charge = await capture_charge(home.db, bank, charge_id, amount_minor=None, delivered=False, actor_id=home.shop.terminal_id)
    return charge.state


async def _learn(db: Database, bank: ScriptedBank, key: str) -> str | None:
    async with db.transaction() as conn:
        return (await settle_debit(conn, key, bank.seen(key))).next_debit_id


async def test_late_money_counts_for_limits_that_were_made_meanwhile(db: Database) -> None:
    (home,) = await found(db, await shop_of(db), terms(limit(100)))
    batcher, bank = Batcher(db), ScriptedBank(steps=deque(["fails"]))
    charge = await home.buy(batcher, 40)
    assert await _capture(home, bank, charge.id) is ChargeState.DECLINED
    pool_id = await home.add_pool(terms(limit(100), limit(500, "month")))
    (key,) = bank.keys(DebitState.FAILED)
    bank.finish(key, paid=True)
    await _learn(db, bank, key)
    assert (await home.charge(charge.id)).state is ChargeState.SUCCEEDED
    assert await home.usage(pool_id) == [(0, 1)], "the payment counts; its amount is given back"
    assert await home.usage(pool_id, "month") == [(0, 1)]


@pytest.mark.parametrize("time_zone", ["Europe/Berlin", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Singapore"])
async def test_nothing_falls_back_after_a_change_of_zone(db: Database, time_zone: str) -> None:
    async with db.connection() as conn:
        await set_clock(conn, NOON)
    (home,) = await found(db, await shop_of(db), terms(limit(100), limit(300, "week"), limit(1000, "month")))
    await home.add_agreement()
    await home.grant(home.spenders[0].id, terms(limit(100), limit(300, "week"), limit(1000, "month")))
    batcher, bank = Batcher(db), ScriptedBank(steps=deque(["pends"]))
    other, charge = await home.buy(batcher, 50), await home.buy(batcher, 40)
    assert await _capture(home, bank, charge.id) is ChargeState.SUBMITTED
    await _move(home, time_zone)
    (key,) = bank.keys(DebitState.PENDING)
    bank.finish(key, paid=False)
    assert await _learn(db, bank, key) is None
    assert (await home.charge(charge.id)).state is ChargeState.DECLINED
    assert (await home.charge(other.id)).state is ChargeState.HELD


@pytest.mark.parametrize("time_zone", ["Europe/Berlin", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Singapore"])
async def test_late_money_after_a_change_of_zone_counts_in_every_window_around_its_charge(db: Database, time_zone: str) -> None:
    async with db.connection() as conn:
        await set_clock(conn, NOON)
    (home,) = await found(db, await shop_of(db), terms(limit(100), limit(1000, "month")))
    batcher, bank = Batcher(db), ScriptedBank(steps=deque(["fails"]))
    charge = await home.buy(batcher, 40)
    assert await _capture(home, bank, charge.id) is ChargeState.DECLINED
    await _move(home, time_zone)
    (key,) = bank.keys(DebitState.FAILED)
    bank.finish(key, paid=True)
    await _learn(db, bank, key)
    assert (await home.buy(batcher, 60)).state is ChargeState.HELD
