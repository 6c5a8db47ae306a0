"""Days' debits that were lost: whichever charges they were for, on whichever agreement, nobody is debited for them again."""

from __future__ import annotations

import pytest

from kinpay.charges.charge import ChargeState
from kinpay.charges.daily import retry_days
from kinpay.charges.reconcile import reconcile_debits
from kinpay.charges.refund import refund_charge
from kinpay.charges.submit import capture_charge
from kinpay.primitives.errors import ChargedBefore, WrongState
from kinpay.primitives.ids import new_id
from kinpay.recovery.unknown_seller import NAME
from tests.charges.bank import AtBank
from tests.charges.household import limit, terms
from tests.recovery.lost import Snapshots, batcher_on, close_day, daily

DAY = terms(limit(5_000))


async def test_it_covers_what_was_due_here_and_what_was_lost_of_the_day_with_its_merchant(
    at_bank: AtBank, snapshots: Snapshots
) -> None:
    family = await at_bank.family(DAY)
    await daily(at_bank)
    first = await at_bank.buy(family, 300)
    assert first.state is ChargeState.DUE
    async with snapshots.taken() as lost:
        second = await at_bank.buy(family, 200)
        await close_day(at_bank.db, at_bank.providers, family)
        asked = await lost.ask()
        assert (asked.objections, asked.doubts, asked.opened) == ({}, {}, True)
        again = await lost.charge(second.id)
        assert (again.state, again.captured_minor, again.merchant_id) == (ChargeState.SUCCEEDED, 200, second.merchant_id)
        assert (await lost.charge(first.id)).state is ChargeState.SUCCEEDED
        assert await lost.rows("SELECT state, resolution FROM recon_break") == [("resolved", "settled")]
        await lost.agrees_with_bank()


async def test_of_many_charges_only_marks_fit_and_the_repetition_of_a_lost_one_is_refused(
    at_bank: AtBank, snapshots: Snapshots
) -> None:
    """Whose goods the lost ones were, and how much each was, nobody can say; that they were paid is known."""
    family = await at_bank.family(terms(limit(500_000)))
    await daily(at_bank)
    here = [await at_bank.buy(family, 10 + number) for number in range(12)]
    async with snapshots.taken() as lost, batcher_on(lost.outside) as batcher:
        gone = [
            (await at_bank.batcher.authorize(family.asking(100 * number, charge_id=f"{new_id()[:-8]}0badcaf{number}"))).charge
            for number in (1, 2)
        ]
        for charge in gone:
            await at_bank.capture(charge.id, delivered=True)
        (key,) = await close_day(at_bank.db, at_bank.providers, family)
        asked = await lost.ask()
        assert (asked.doubts, asked.opened) == ({f"debit {key}": "seller not known"}, True)
        assert {(await lost.charge(charge.id)).state for charge in here} == {ChargeState.SUCCEEDED}
        rows = await lost.rows(
            "SELECT c.captured_minor FROM charge c JOIN merchant m ON m.id = c.merchant_id WHERE m.name = $1", NAME
        )
        assert sorted(rows) == [(150,), (150,)], "together they were 300"
        assert await lost.rows("SELECT state, resolution FROM recon_break") == [("open", None)], "somebody has to find out"
        for number in (1, 2):
            with pytest.raises(ChargedBefore):
                await batcher.authorize(family.asking(100 * number, charge_id=f"{new_id()[:-8]}0badcaf{number}"))
        await lost.agrees_with_bank()


async def test_a_day_of_very_many_charges_is_booked_if_all_are_here_and_else_keeps_it_closed(
    at_bank: AtBank, snapshots: Snapshots
) -> None:
    family, other = [await at_bank.family(terms(limit(500_000))) for _ in range(2)]
    await daily(at_bank)
    for number in range(35):
        await at_bank.buy(family, 10 + number)
        await at_bank.buy(other, 10 + number)
    async with snapshots.taken() as lost:
        await close_day(at_bank.db, at_bank.providers, family)
        await at_bank.buy(other, 100)
        (key,) = await close_day(at_bank.db, at_bank.providers, other)
        asked = await lost.ask()
        assert (asked.objections, asked.opened) == ({f"debit {key}": "day_differs"}, False)
        states = dict(await lost.rows("SELECT circle_id, string_agg(DISTINCT state, ' ') FROM charge GROUP BY 1"))
        assert states == {family.circle_id: "succeeded", other.circle_id: "due"}


async def test_a_day_that_was_owed_and_paid_afterwards_is_paid(at_bank: AtBank, snapshots: Snapshots) -> None:
    family = await at_bank.family(DAY, balances=(100,))
    await daily(at_bank)
    first = await at_bank.buy(family, 300, delivered=True)
    await close_day(at_bank.db, at_bank.providers, family)
    assert (await family.charge(first.id)).state is ChargeState.ARREARS
    async with snapshots.taken() as lost:
        await at_bank.control.change_customer(family.logins[0], balance_minor=5000)
        await at_bank.make_due()
        await retry_days(at_bank.db, at_bank.providers)
        assert (await lost.ask()).opened
        await lost.work()
        assert await lost.at_bank() == ([300], [])
        assert await lost.charges() == [("succeeded", 300)]
        await lost.agrees_with_bank()


@pytest.mark.parametrize("frozen", [False, True], ids=["due at the point", "its debit unknown at the point"])
async def test_a_day_that_was_refused_and_paid_on_another_agreement_is_paid(
    at_bank: AtBank, snapshots: Snapshots, frozen: bool
) -> None:
    family = await at_bank.family(DAY, balances=(100, 100_000))
    await daily(at_bank)
    first = await at_bank.buy(family, 300, delivered=True)
    keys = await close_day(at_bank.db, at_bank.providers, family, send=False) if frozen else []
    async with snapshots.taken() as lost:
        keys = keys or await close_day(at_bank.db, at_bank.providers, family)
        await at_bank.make_due()
        await _refuse(at_bank, keys)
        await at_bank.make_due()
        await retry_days(at_bank.db, at_bank.providers)
        assert (await family.charge(first.id)).state is ChargeState.SUCCEEDED
        assert (await lost.ask()).opened
        await at_bank.control.change_customer(family.logins[0], balance_minor=5000)
        await close_day(lost.outside, lost.providers, family)
        await lost.work()
        assert await lost.at_bank() == ([300], [])
        assert await lost.charges() == [("succeeded", 300)]
        await lost.agrees_with_bank()


async def _refuse(house: AtBank, keys: list[str]) -> None:
    await reconcile_debits(house.db, house.providers)
    async with house.db.connection() as conn:
        states = [row[0] for row in await conn.fetch("SELECT state FROM debit WHERE id = ANY($1)", keys)]
    assert states == ["failed"]


async def test_what_was_held_and_collected_and_debited_afterwards_is_paid(at_bank: AtBank, snapshots: Snapshots) -> None:
    family = await at_bank.family(DAY)
    await daily(at_bank)
    held = await family.buy(at_bank.batcher, 300)
    async with snapshots.taken() as lost:
        await at_bank.capture(held.id, amount_minor=250, delivered=True)
        await close_day(at_bank.db, at_bank.providers, family)
        assert (await lost.ask()).opened
        with pytest.raises(WrongState):
            await capture_charge(
                lost.outside, lost.providers, held.id, amount_minor=250, delivered=True, actor_id=at_bank.shop.terminal_id
            )
        await close_day(lost.outside, lost.providers, family)
        assert await lost.at_bank() == ([250], [])
        assert await lost.charges() == [("succeeded", 250)]
        await lost.agrees_with_bank()


async def test_what_was_taken_off_the_day_is_not_made_up_by_the_lost_one(at_bank: AtBank, snapshots: Snapshots) -> None:
    family = await at_bank.family(DAY)
    await daily(at_bank)
    first = await at_bank.buy(family, 300, delivered=True)
    async with snapshots.taken() as lost:
        async with at_bank.db.transaction() as conn:
            await refund_charge(conn, first.id, amount_minor=100, actor_id=at_bank.shop.terminal_id)
        second = await at_bank.buy(family, 200, delivered=True)
        await close_day(at_bank.db, at_bank.providers, family)
        assert (await lost.ask()).opened
        assert [(await lost.charge(one.id)).captured_minor for one in (first, second)] == [200, 200]
        await lost.agrees_with_bank()


async def test_a_till_that_repeats_a_lost_purchase_of_a_day_makes_no_second_one(at_bank: AtBank, snapshots: Snapshots) -> None:
    family = await at_bank.family(DAY)
    other = await family.add_spender(DAY)
    await daily(at_bank)
    async with snapshots.taken() as lost, batcher_on(lost.outside) as batcher:
        request = family.asking(600, charge_id=new_id()[:-8] + "0badcafe")
        bought = (await at_bank.batcher.authorize(request)).charge
        await at_bank.capture(bought.id, delivered=True)
        hers = (await at_bank.batcher.authorize(family.asking(70, other))).charge
        await at_bank.capture(hers.id, delivered=True)
        await close_day(at_bank.db, at_bank.providers, family)
        asked = await lost.ask()
        assert (asked.opened, asked.doubts) == (True, {})
        again = [await lost.charge(one.id) for one in (bought, hers)]
        assert [(one.captured_minor, one.spender_id) for one in again] == [(600, request.order.spender_id), (70, other.id)]
        with pytest.raises(ChargedBefore):
            await batcher.authorize(family.asking(600, charge_id=new_id()[:-8] + "0badcafe"))
        await lost.agrees_with_bank()


async def test_a_debit_from_before_descriptions_told_charges_is_booked_only_if_just_one_choice_fits(
    at_bank: AtBank, snapshots: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinpay.charges.books.describe_day", lambda day, parts: f"kinpay {day}")
    family, other = await at_bank.family(DAY), await at_bank.family(DAY)
    await daily(at_bank)
    await at_bank.buy(family, 300, delivered=True)
    for amount_minor in (200, 200):
        await at_bank.buy(other, amount_minor, delivered=True)
    async with snapshots.taken() as lost:
        await close_day(at_bank.db, at_bank.providers, family)
        assert (await lost.ask()).opened
        assert await lost.rows("SELECT state FROM charge WHERE circle_id = $1", family.circle_id) == [("succeeded",)]
    async with snapshots.taken() as lost:
        async with at_bank.db.transaction() as conn:
            await conn.execute("UPDATE agreement SET per_debit_minor = 200 WHERE id = $1", other.agreements[0])
        keys = await close_day(at_bank.db, at_bank.providers, other)
        asked = await lost.ask()
        assert asked.objections == {f"debit {key}": "day_differs" for key in keys}
        assert not asked.opened
