"""What a reservation takes, and what giving up gives back, of everything that is counted."""

from __future__ import annotations

from collections import deque

import pytest

from kinpay.charges.batch import Batcher
from kinpay.charges.charge import ChargeState
from kinpay.charges.reconcile import reconcile_refunds
from kinpay.charges.refund import refund_charge, send_refund
from kinpay.charges.request import Charge
from kinpay.charges.settle import settle_debit
from kinpay.charges.submit import capture_charge, commit_debit
from kinpay.database.pool import Database
from kinpay.providers.contract import DebitState
from tests.charges.household import Household, found, limit, shop_of, terms, void_charge
from tests.charges.scripted import ScriptedBank, Step


async def test_an_ended_pool_goes_on_counting_and_lets_its_charges_go(db: Database) -> None:
    (home,) = await found(db, await shop_of(db), terms(limit(100)))
    batcher, bank = Batcher(db), ScriptedBank()
    pool_id = await home.add_pool(terms(limit(50)))
    before = await home.buy(batcher, 30)
    assert (await home.buy(batcher, 30)).state is ChargeState.REFUSED
    await home.end_pool(pool_id)
    after = await home.buy(batcher, 30)
    assert after.state is ChargeState.HELD
    assert await home.usage(pool_id) == [(60, 2)]
    for charge in (after, before):
        assert (await void_charge(db, bank, charge.id, actor_id=home.shop.terminal_id)).state is ChargeState.VOIDED
    assert await home.usage(pool_id) == [(0, 0)]


async def test_a_card_binds_beside_the_mandate(db: Database) -> None:
    (home,) = await found(db, await shop_of(db), terms(limit(100)))
    batcher = Batcher(db)
    card_id = await home.add_card(home.spenders[0].id, terms(limit(20), limit(2, metric="count")))
    assert (await home.buy(batcher, 15, card=True)).state is ChargeState.HELD
    refused = await home.buy(batcher, 6, card=True)
    assert refused.refusal is not None
    assert [reason["code"] for reason in refused.refusal["reasons"]] == ["CARD_DAY_AMOUNT"]
    assert refused.refusal["possible_now_minor"] == 5
    assert (await home.buy(batcher, 6)).state is ChargeState.HELD, "the phone has no cap of its own"
    assert await home.usage(card_id) == [(15, 1)]
    assert await home.usage(home.spenders[0].mandate_id) == [(21, 2)]


async def test_partial_capture_gives_back_the_difference_and_keeps_the_count(db: Database) -> None:
    (home,) = await found(db, await shop_of(db), terms(limit(100), limit(100, "month", mccs=["5812"])))
    mandate_id, batcher = home.spenders[0].mandate_id, Batcher(db)
    charge = await home.buy(batcher, 60)
    async with db.transaction() as conn:
        await commit_debit(conn, charge.id, amount_minor=45, delivered=True, actor_id=home.shop.terminal_id)
    assert await home.usage(mandate_id) == [(45, 1)]
    assert await home.usage(mandate_id, "month") == [(45, 1)]
    assert (await home.charge(charge.id)).captured_minor == 45


async def test_a_second_debit_that_cannot_be_given_back_touches_neither_limit_nor_merchant(db: Database) -> None:
    """Fallback, then late truth: the payer was debited twice. The provider refuses to return the second debit."""
    (home,) = await found(db, await shop_of(db), terms(limit(100)))
    await home.add_agreement()
    await home.grant(home.spenders[0].id, terms(limit(100)))
    batcher, bank = Batcher(db), ScriptedBank()
    charge = await home.buy(batcher, 40)
    bank.steps = deque(["fails", "pays"])
    charge = await capture_charge(db, bank, charge.id, amount_minor=None, delivered=False, actor_id=home.shop.terminal_id)
    assert charge.state is ChargeState.SUCCEEDED
    async with db.transaction() as conn:
        (asked,) = await refund_charge(conn, charge.id, amount_minor=30, actor_id=home.shop.terminal_id)
    await send_refund(db, bank, asked)
    (first,) = bank.keys(DebitState.FAILED)
    bank.finish(first, paid=True)
    async with db.transaction() as conn:
        await settle_debit(conn, first, bank.seen(first))
    bank.refund_steps = deque(["fails"])
    assert await reconcile_refunds(db, bank) == 1
    charge = await home.charge(charge.id)
    assert (charge.captured_minor, charge.refunded_minor) == (40, 30)
    assert await home.usage(home.spenders[0].mandate_id) == [(10, 1)]
    async with db.connection() as conn:
        told = [row[0] for row in await conn.fetch("SELECT topic FROM outbox WHERE subject_id = $1", charge.id)]
        failed = await conn.fetchval("SELECT count(*) FROM outbox WHERE topic = 'refund.failed'")
    assert "charge.debited_twice" in told
    assert failed == 1


async def _late_after_another_payer_took_over(
    db: Database, second_step: Step
) -> tuple[Household, str, str, Charge, ScriptedBank]:
    """The first payer's agreement was refused, the second payer's took over; then the first turns out to have paid."""
    (home,) = await found(db, await shop_of(db), terms(limit(100)))
    other = await home.another_payer()
    await other.add_agreement()
    second_mandate = await other.grant(home.spenders[0].id, terms(limit(100)))
    bank = ScriptedBank(steps=deque(["fails", second_step]))
    held = await home.buy(Batcher(db), 40)
    charge = await capture_charge(db, bank, held.id, amount_minor=None, delivered=False, actor_id=home.shop.terminal_id)
    first = min(bank.debits)
    bank.finish(first, paid=True)
    async with db.transaction() as conn:
        await settle_debit(conn, first, bank.seen(first))
    await reconcile_refunds(db, bank)
    return home, other.payer_id, second_mandate, charge, bank


@pytest.mark.parametrize("second_step", ["pays", "pends", "fails"])
async def test_late_money_of_a_payer_who_was_replaced_goes_back_to_them(db: Database, second_step: Step) -> None:
    home, other_id, second_mandate, before, bank = await _late_after_another_payer_took_over(db, second_step)
    states = {"pays": ChargeState.SUCCEEDED, "pends": ChargeState.SUBMITTED, "fails": ChargeState.DECLINED}
    charge = await home.charge(before.id)
    assert (charge.state, charge.payer_id, charge.refunded_minor) == (states[second_step], other_id, 0)
    first, second = sorted(bank.debits)
    assert bank.kept_minor(first) == 0
    assert await home.usage(home.spenders[0].mandate_id) == [(0, 0)]
    assert await home.usage(second_mandate) == ([(0, 0)] if second_step == "fails" else [(40, 1)])
    if second_step == "pends":
        bank.finish(second, paid=True)
        async with db.transaction() as conn:
            await settle_debit(conn, second, bank.seen(second))
        assert (await home.charge(charge.id)).state is ChargeState.SUCCEEDED
        assert bank.kept_minor(second) == 40
