"""Days as one debit: what is fixed when, what happens to it when the provider refuses, is silent, or says otherwise later."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinpay.charges.batch import Batcher
from kinpay.charges.charge import ChargeState
from kinpay.charges.daily import close_days, debit_the_last, pack, retry_days
from kinpay.charges.reconcile import reconcile_debits, reconcile_refunds
from kinpay.charges.refund import refund_charge
from kinpay.charges.request import Charge
from kinpay.charges.submit import book_debit, capture_charge
from kinpay.database.pool import Database
from kinpay.mandates.change_terms import change_funding
from kinpay.primitives.errors import Invalid
from kinpay.providers.contract import DebitState
from kinpay.terminals.fare import FareRule, Ridden, cost_of
from tests.charges.campaign import campaign
from tests.charges.household import Household, found, limit, net_of, proof_of, shop_of, terms
from tests.charges.scripted import ScriptedBank
from tests.conftest import set_clock

MORNING = datetime(2026, 3, 2, 1, tzinfo=UTC)
"""09:00 in Shanghai, where the operator is, too."""


async def _clock(db: Database, moment: datetime) -> None:
    async with db.connection() as conn:
        await set_clock(conn, moment)


async def _household(db: Database, *, per_debit_minor: int | None = None) -> Household:
    """A payer who is debited once a day."""
    await _clock(db, MORNING)
    (home,) = await found(db, await shop_of(db), terms(limit(5_000)))
    agreements = list(home.agreements)
    if per_debit_minor is not None:
        agreements = [await home.add_agreement(per_debit_minor=per_debit_minor)]
    async with db.transaction() as conn:
        await change_funding(
            conn,
            mandate_id=home.spenders[0].mandate_id,
            payer_id=home.payer_id,
            agreement_ids=agreements,
            proof_id=await proof_of(conn, home.payer_id),
            if_version=None,
            debited="daily",
        )
    return home


async def _buy(home: Household, bank: ScriptedBank, *amounts: int) -> list[str]:
    """Charges that are collected at once; their ids."""
    batcher, ids = Batcher(home.db), []
    for amount in amounts:
        charge = await home.buy(batcher, amount)
        await capture_charge(home.db, bank, charge.id, amount_minor=None, delivered=False, actor_id=home.shop.terminal_id)
        ids.append(charge.id)
    await batcher.close()
    return ids


async def _states(home: Household, ids: list[str]) -> list[ChargeState]:
    return [(await home.charge(charge_id)).state for charge_id in ids]


def _paid(bank: ScriptedBank) -> list[int]:
    return sorted(bank.debits[key].minor for key in bank.keys(DebitState.SUCCEEDED))


async def test_a_day_is_debited_once_when_it_is_over(db: Database) -> None:
    home, bank = await _household(db), ScriptedBank()
    ids = await _buy(home, bank, 30, 40, 50)
    assert await _states(home, ids) == [ChargeState.DUE] * 3
    assert await home.usage(home.spenders[0].mandate_id) == [(120, 3)]
    await _clock(db, MORNING + timedelta(hours=14, minutes=59))
    assert await close_days(db, bank) == 0, "23:59 in the operator's zone"
    await _clock(db, MORNING + timedelta(hours=15))
    assert await close_days(db, bank) == 1
    assert await close_days(db, bank) == 0
    assert _paid(bank) == [120]
    assert await _states(home, ids) == [ChargeState.SUCCEEDED] * 3


async def test_what_was_frozen_is_never_cut_anew_while_it_is_unknown(db: Database) -> None:
    home, bank = await _household(db), ScriptedBank(steps=deque(["lost_after_paying"]))
    ids = await _buy(home, bank, 30, 40)
    await _clock(db, MORNING + timedelta(days=1))
    await close_days(db, bank)
    assert await _states(home, ids) == [ChargeState.SUBMITTED] * 2, "unknown is not failed"
    with pytest.raises(Exception, match="wrong-state"):
        async with db.transaction() as conn:
            await refund_charge(conn, ids[0], amount_minor=30, actor_id=home.shop.terminal_id)
    await _buy(home, bank, 5)
    await _clock(db, MORNING + timedelta(days=1, minutes=5))
    await reconcile_debits(db, bank)
    assert await _states(home, ids) == [ChargeState.SUCCEEDED] * 2
    assert _paid(bank) == [70]
    assert all(order.received == 1 for order in bank.debits.values())


async def test_a_worker_that_died_before_it_sent_is_made_up_for_under_the_same_key(db: Database) -> None:
    home, bank = await _household(db), ScriptedBank(steps=deque(["unreached"]))
    ids = await _buy(home, bank, 30, 40)
    await _clock(db, MORNING + timedelta(days=1))
    await close_days(db, bank)
    await _clock(db, MORNING + timedelta(days=1, minutes=5))
    await reconcile_debits(db, bank)
    assert _paid(bank) == [70]
    assert await _states(home, ids) == [ChargeState.SUCCEEDED] * 2


async def test_a_day_above_the_providers_cap_is_split(db: Database) -> None:
    home, bank = await _household(db, per_debit_minor=100), ScriptedBank()
    await _buy(home, bank, 60, 30, 50, 100, 10)
    await _clock(db, MORNING + timedelta(days=1))
    await close_days(db, bank)
    assert _paid(bank) == [10, 50, 90, 100]


async def test_a_refused_day_is_owed_as_a_whole_and_paid_as_a_whole(db: Database) -> None:
    home, bank = await _household(db), ScriptedBank(steps=deque(["fails", "fails"]))
    ids = await _buy(home, bank, 30, 40)
    await _clock(db, MORNING + timedelta(days=1))
    await close_days(db, bank)
    assert await _states(home, ids) == [ChargeState.ARREARS] * 2
    refused = await home.buy(Batcher(db), 10)
    assert refused.refusal is not None
    assert refused.refusal["reasons"][0]["code"] == "MANDATE_ARREARS"
    assert await retry_days(db, bank) == 0, "not before an hour has passed"
    await _clock(db, MORNING + timedelta(days=1, hours=1, seconds=5))
    assert await retry_days(db, bank) == 1
    assert await _states(home, ids) == [ChargeState.ARREARS] * 2
    await _clock(db, MORNING + timedelta(days=1, hours=8))
    assert await retry_days(db, bank) == 1
    assert await _states(home, ids) == [ChargeState.SUCCEEDED] * 2
    assert _paid(bank) == [70]
    assert (await home.buy(Batcher(db), 10)).state is ChargeState.HELD


async def test_late_truth_after_a_retry_gives_the_surplus_back_charge_by_charge(db: Database) -> None:
    home, bank = await _household(db), ScriptedBank(steps=deque(["fails"]))
    ids = await _buy(home, bank, 30, 40)
    await _clock(db, MORNING + timedelta(days=1))
    await close_days(db, bank)
    (first,) = bank.keys(DebitState.FAILED)
    await _clock(db, MORNING + timedelta(days=1, hours=2))
    await retry_days(db, bank)
    bank.debits[first].state, bank.debits[first].failure = DebitState.SUCCEEDED, None
    await book_debit(db, first, bank.seen(first))
    await reconcile_refunds(db, bank)
    await _clock(db, MORNING + timedelta(days=1, hours=3))
    await reconcile_refunds(db, bank)
    assert bank.kept_minor(first) == 0
    assert await _states(home, ids) == [ChargeState.SUCCEEDED] * 2


async def test_one_charge_of_a_day_can_be_given_back_and_no_more_than_it(db: Database) -> None:
    home, bank = await _household(db), ScriptedBank()
    ids = await _buy(home, bank, 30, 40)
    await _clock(db, MORNING + timedelta(days=1))
    await close_days(db, bank)
    async with db.transaction() as conn:
        await refund_charge(conn, ids[0], amount_minor=20, actor_id=home.shop.terminal_id)
    with pytest.raises(Invalid):
        async with db.transaction() as conn:
            await refund_charge(conn, ids[0], amount_minor=11, actor_id=home.shop.terminal_id)
    await _clock(db, MORNING + timedelta(days=1, minutes=5))
    await reconcile_refunds(db, bank)
    assert [net_of(await home.charge(charge_id)) for charge_id in ids] == [10, 40]
    (debit,) = bank.keys(DebitState.SUCCEEDED)
    assert bank.kept_minor(debit) == 50


async def test_what_is_due_is_debited_before_its_agreement_ends(db: Database) -> None:
    home, bank = await _household(db), ScriptedBank()
    ids = await _buy(home, bank, 30)
    await debit_the_last(db, bank, home.agreements[0])
    assert await _states(home, ids) == [ChargeState.SUCCEEDED]
    assert _paid(bank) == [30]


async def test_capturing_less_releases_the_difference(db: Database) -> None:
    home, bank = await _household(db), ScriptedBank()
    charge = await home.buy(Batcher(db), 50)
    await capture_charge(db, bank, charge.id, amount_minor=20, delivered=True, actor_id=home.shop.terminal_id)
    assert await home.usage(home.spenders[0].mandate_id) == [(20, 1)]
    async with db.transaction() as conn:
        await refund_charge(conn, charge.id, amount_minor=20, actor_id=home.shop.terminal_id)
    assert await _states(home, [charge.id]) == [ChargeState.VOIDED]
    assert await home.usage(home.spenders[0].mandate_id) == [(0, 0)]
    await _clock(db, MORNING + timedelta(days=1))
    assert await close_days(db, bank) == 0


def _charge(amount: int) -> Charge:
    known: dict[str, Any] = dict.fromkeys(Charge.__struct_fields__)
    return Charge(**{**known, "amount_minor": amount, "captured_minor": amount, "refunded_minor": 0, "items": ()})


@campaign(100)
@given(st.lists(st.integers(1, 50), max_size=20), st.one_of(st.none(), st.integers(50, 120)))
def test_packing_keeps_all_in_order_and_below_the_cap(amounts: list[int], cap: int | None) -> None:
    parts = list(pack([_charge(amount) for amount in amounts], cap))
    assert [charge.amount_minor for part in parts for charge in part] == amounts
    assert all(parts)
    if cap is None:
        assert len(parts) <= 1
        return
    sums = [sum(charge.debited_minor for charge in part) for part in parts]
    assert all(one <= cap for one in sums)
    following = [part[0].debited_minor for part in parts[1:]]
    assert all(one + first > cap for one, first in zip(sums, following, strict=False)), (
        "no more debits than needed in this order"
    )


RULE = FareRule(merchant_id="b" * 32, version=1, currency="CNY", cap_per_day_minor=800, transfer_within_s=3600)


@campaign(150)
@given(st.lists(st.tuples(st.integers(1, 7200), st.sampled_from((100, 200, 350))), max_size=15))
def test_rides_of_a_day_never_cost_more_than_the_cap_and_transfers_are_free(rides: list[tuple[int, int]]) -> None:
    """Against a plain reading of the rule: a ride is free if some paid ride began less than an hour before it."""
    now, ridden, paid = MORNING, Ridden(), []
    for pause_s, fare in rides:
        now += timedelta(seconds=pause_s)
        cost = cost_of(fare, RULE, ridden, now=now)
        free = any(now - at < timedelta(hours=1) for at, _ in paid)
        expected = 0 if free else min(fare, 800 - sum(minor for _, minor in paid))
        assert cost == expected
        ridden = ridden.then(cost, now)
        if cost:
            paid.append((now, cost))
    assert sum(minor for _, minor in paid) <= 800
