"""Tills that repeat what was lost while its end at the provider was not known yet, and what is given back of it."""

from __future__ import annotations

import pytest

from kinpay.charges.charge import ChargeState
from kinpay.charges.reconcile import reconcile_debits, reconcile_refunds
from kinpay.charges.repetition import recovered_charge
from kinpay.charges.submit import capture_charge
from kinpay.mandates.bind_spender import bind_spender_at_provider
from kinpay.primitives.errors import ChargedBefore, KeyReused
from kinpay.primitives.ids import new_id
from kinpay.recovery.gap import ask_again
from tests.charges.bank import PUBLIC_URL, AtBank, BankFamily
from tests.charges.household import limit, terms
from tests.recovery.lost import Snapshots, batcher_on, close_day, daily, refund, refund_again

DAY = terms(limit(5_000))
MARK = "0badcafe"


def _marked() -> str:
    return new_id()[:-8] + MARK


async def test_a_debit_that_was_pending_while_its_till_repeated_goes_back(at_bank: AtBank, snapshots: Snapshots) -> None:
    family = await at_bank.family(DAY)
    async with snapshots.taken() as lost, batcher_on(lost.outside) as batcher:
        await at_bank.control.misbehave("debit", "pending")
        bought = (await at_bank.batcher.authorize(family.asking(600, charge_id=_marked()))).charge
        await at_bank.capture(bought.id)
        (key,) = await at_bank.debit_keys(bought.id)
        assert (await lost.ask()).opened, "no statement tells what has not ended"
        again = (await batcher.authorize(family.asking(600, charge_id=_marked()))).charge
        actor_id = at_bank.shop.terminal_id
        await capture_charge(lost.outside, lost.providers, again.id, amount_minor=None, delivered=True, actor_id=actor_id)
        await at_bank.control.finish_debit(key, "succeeded", client_id=at_bank.client_id)
        assert await ask_again(lost.outside, lost.providers, public_url=PUBLIC_URL) == 1
        await lost.work()
        assert await lost.at_bank() == ([600, 600], [600])
        assert await lost.charges() == [("succeeded", 600)]
        assert await lost.rows("SELECT count(*) FROM outbox WHERE topic = 'charge.debited_twice'") == [(1,)]
        await lost.agrees_with_bank()


async def test_a_refund_that_was_pending_while_its_till_repeated_is_for_somebody_to_look_at(
    at_bank: AtBank, snapshots: Snapshots
) -> None:
    """The money is out: nothing of ours brings it back."""
    family = await at_bank.family(DAY)
    bought = await at_bank.buy(family, 1000, delivered=True)
    async with snapshots.taken() as lost:
        await at_bank.control.misbehave("refund", "pending")
        key = await refund(at_bank, bought.id, 400, mark=MARK)
        assert (await lost.ask()).opened
        assert len(await refund_again(lost, bought.id, 400, mark=MARK)) == 1
        await at_bank.control.finish_refund(key, "succeeded", client_id=at_bank.client_id)
        assert await ask_again(lost.outside, lost.providers, public_url=PUBLIC_URL) == 1
        breaks = await lost.rows("SELECT key, state, note FROM recon_break")
        assert [(row[0], row[1]) for row in breaks] == [(key, "open")]
        assert "given back twice for one request" in breaks[0][2]
        await lost.agrees_with_bank()


async def _two_payers(at_bank: AtBank, balance_minor: int) -> tuple[BankFamily, BankFamily, str]:
    """A family whose payer has so much, the same one as its second payer sees it, and the second one's mandate."""
    family = await at_bank.family(DAY, balances=(balance_minor,))
    made = await family.another_payer()
    other = BankFamily(at_bank.db, at_bank.shop, made.circle_id, made.payer_id, made.time_zone)
    other.spenders = list(family.spenders)
    await at_bank.sign(other, balance_minor=100_000)
    mandate_id = await other.grant(family.spenders[0].id, DAY)
    await bind_spender_at_provider(at_bank.db, at_bank.providers, other.agreements[0], family.spenders[0].id)
    return family, other, mandate_id


async def test_a_pending_debit_of_one_payer_goes_back_if_another_one_has_paid_for_the_repetition(
    at_bank: AtBank, snapshots: Snapshots
) -> None:
    family, other, _ = await _two_payers(at_bank, 700)
    async with snapshots.taken() as lost, batcher_on(lost.outside) as batcher:
        await at_bank.control.misbehave("debit", "pending")
        bought = (await at_bank.batcher.authorize(family.asking(600, charge_id=_marked()))).charge
        await at_bank.capture(bought.id)
        (key,) = await at_bank.debit_keys(bought.id)
        assert (await lost.ask()).opened
        again = (await batcher.authorize(family.asking(600, charge_id=_marked()))).charge
        actor_id = at_bank.shop.terminal_id
        await capture_charge(lost.outside, lost.providers, again.id, amount_minor=None, delivered=False, actor_id=actor_id)
        assert (await lost.charge(again.id)).payer_id == other.payer_id
        await at_bank.control.finish_debit(key, "succeeded", client_id=at_bank.client_id)
        assert await ask_again(lost.outside, lost.providers, public_url=PUBLIC_URL) == 1
        await lost.work()
        assert await lost.at_bank() == ([600, 600], [600])
        assert await at_bank.balance(family.logins[0]) == 700
        await lost.agrees_with_bank()


@pytest.mark.parametrize("sent", [True, False], ids=["sent before the point", "captured after it"])
async def test_a_fallback_to_another_payer_that_was_lost_is_not_made_once_more(
    at_bank: AtBank, snapshots: Snapshots, sent: bool
) -> None:
    family, other, mandate_id = await _two_payers(at_bank, 100)
    held = await family.buy(at_bank.batcher, 1400)
    await at_bank.control.misbehave("debit", "drop_after_commit")
    if sent:
        assert (await at_bank.capture(held.id)).state is ChargeState.SUBMITTED
    async with snapshots.taken() as lost:
        if not sent:
            await at_bank.capture(held.id)
        await at_bank.make_due()
        await reconcile_debits(at_bank.db, at_bank.providers)
        assert (await family.charge(held.id)).payer_id == other.payer_id
        asked = await lost.ask()
        assert (asked.objections, asked.opened) == ({}, True)
        await lost.work()
        again = await lost.charge(held.id)
        assert (again.state, again.payer_id, again.mandate_id) == (ChargeState.SUCCEEDED, other.payer_id, mandate_id)
        here = BankFamily(lost.db, at_bank.shop, "", "", "")
        assert await here.usage(mandate_id) == [(1400, 1)]
        assert await here.usage(family.spenders[0].mandate_id) == [(0, 0)]
        assert await lost.at_bank() == ([1400], [])
        await lost.agrees_with_bank()


async def test_nothing_of_a_circle_is_sent_while_something_of_it_does_not_fit(at_bank: AtBank, snapshots: Snapshots) -> None:
    """The first debit of a charge was refused, the second one cannot be booked: asking for the first would send a third."""
    family = await at_bank.family(DAY, balances=(500, 100_000))
    await at_bank.control.misbehave("debit", "drop_after_commit")
    unknown = await at_bank.buy(family, 1400)
    async with snapshots.taken() as lost:
        await at_bank.make_due()
        await reconcile_debits(at_bank.db, at_bank.providers)
        async with lost.db.transaction() as conn:  # as if the second one had been signed after the point
            await conn.execute("UPDATE agreement SET provider_ref = 'ag_unknown' WHERE id = $1", family.agreements[1])
        asked = await lost.ask()
        assert (list(asked.objections.values()), asked.opened) == (["agreement_unknown"], False)
        assert (await lost.charge(unknown.id)).state is ChargeState.SUBMITTED
        assert await lost.rows("SELECT count(*) FROM debit") == [(1,)]
        assert await lost.at_bank() == ([1400], [])


async def test_a_refund_of_a_days_debit_is_booked_on_its_charge_and_repeated_sends_nothing(
    at_bank: AtBank, snapshots: Snapshots
) -> None:
    family = await at_bank.family(DAY)
    await daily(at_bank)
    first = await at_bank.buy(family, 300, delivered=True)
    second = await at_bank.buy(family, 300, delivered=True)
    await close_day(at_bank.db, at_bank.providers, family)
    async with snapshots.taken() as lost:
        await refund(at_bank, second.id, 200, mark=MARK)
        asked = await lost.ask()
        assert (asked.doubts, asked.opened) == ({}, True)
        assert [(await lost.charge(one.id)).refunded_minor for one in (first, second)] == [0, 200]
        assert await refund_again(lost, second.id, 200, mark=MARK) == []
        assert await lost.at_bank() == ([600], [200])
        await lost.agrees_with_bank()


async def test_a_refund_whose_id_shows_no_charge_is_guessed_and_somebody_has_to_look(
    at_bank: AtBank, snapshots: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those were made before ids showed it."""
    family = await at_bank.family(DAY)
    await daily(at_bank)
    bought = [await at_bank.buy(family, 300, delivered=True) for _ in range(2)]
    await close_day(at_bank.db, at_bank.providers, family)
    async with snapshots.taken() as lost:
        tails = {one.id[-4:] for one in bought}
        shown = next(tail for tail in ("0000", "1111", "2222") if tail not in tails)
        monkeypatch.setattr("kinpay.charges.refund.id_under", lambda owner, mark: new_id()[:20] + shown + mark)
        key = await refund(at_bank, bought[1].id, 200, mark=MARK)
        asked = await lost.ask()
        assert (asked.doubts, asked.opened) == ({f"refund {key}": "of which charge is not known"}, True)
        assert await lost.rows("SELECT state FROM recon_break") == [("open",)]
        for one in bought:
            assert await refund_again(lost, one.id, 200, mark=MARK) == [], "whichever it was, it is not sent twice"
        assert await lost.at_bank() == ([600], [200])
        await lost.agrees_with_bank()


async def test_a_key_that_gave_back_another_amount_is_reused(at_bank: AtBank, snapshots: Snapshots) -> None:
    family = await at_bank.family(DAY)
    bought = await at_bank.buy(family, 1000, delivered=True)
    async with snapshots.taken() as lost:
        await refund(at_bank, bought.id, 400, mark=MARK)
        assert (await lost.ask()).opened
        with pytest.raises(KeyReused):
            await refund_again(lost, bought.id, 100, mark=MARK)
        await lost.agrees_with_bank()


async def test_what_was_held_and_captured_in_part_and_lost_is_the_answer_to_its_request(
    at_bank: AtBank, snapshots: Snapshots
) -> None:
    family = await at_bank.family(DAY)
    async with snapshots.taken() as lost, batcher_on(lost.outside) as batcher:
        bought = (await at_bank.batcher.authorize(family.asking(1000, charge_id=_marked()))).charge
        await at_bank.capture(bought.id, amount_minor=735, delivered=True)
        assert (await lost.ask()).opened
        repeated = family.asking(1000, charge_id=_marked())
        with pytest.raises(ChargedBefore):
            await batcher.authorize(repeated)
        async with lost.outside.connection() as conn:
            found = await recovered_charge(conn, repeated)
        assert found is not None
        assert (found.id, found.captured_minor) == (bought.id, 735)
        await lost.agrees_with_bank()


async def test_a_hold_whose_capture_was_pending_and_repeated_is_debited_once(at_bank: AtBank, snapshots: Snapshots) -> None:
    family = await at_bank.family(DAY)
    held = await family.buy(at_bank.batcher, 1000)
    async with snapshots.taken() as lost:
        await at_bank.control.misbehave("debit", "pending")
        await at_bank.capture(held.id, amount_minor=735, delivered=True)
        (key,) = await at_bank.debit_keys(held.id)
        assert (await lost.ask()).opened
        actor_id = at_bank.shop.terminal_id
        await capture_charge(lost.outside, lost.providers, held.id, amount_minor=735, delivered=True, actor_id=actor_id)
        await at_bank.control.finish_debit(key, "succeeded", client_id=at_bank.client_id)
        assert await ask_again(lost.outside, lost.providers, public_url=PUBLIC_URL) == 1
        await reconcile_refunds(lost.outside, lost.providers)
        assert await lost.at_bank() == ([735, 735], [735])
        await lost.agrees_with_bank()
