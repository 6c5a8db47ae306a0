"""What happened after the restored point is asked of the bank and booked: each way in which something can have been lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kinpay.charges.charge import ChargeState
from kinpay.charges.reconcile import reconcile_debits, retry_arrears
from kinpay.charges.refund import refund_charge
from kinpay.charges.repetition import recovered_charge
from kinpay.charges.request import Charge
from kinpay.charges.submit import capture_charge
from kinpay.database.audit import Event, record
from kinpay.database.pool import database_now
from kinpay.mandates.agreement import AgreementState
from kinpay.people.freeze import freeze
from kinpay.people.lock import rules_changed
from kinpay.primitives.actor import Actor, ActorKind
from kinpay.primitives.errors import ChargedBefore, KeyReused, Restored
from kinpay.primitives.ids import new_id
from kinpay.recovery.gap import ask_again, ask_for_gap
from tests.charges.bank import PUBLIC_URL, AtBank, BankFamily
from tests.charges.household import limit, terms
from tests.recovery.lost import Lost, Snapshots, batcher_on, refund

DAY = terms(limit(5_000))


async def _charge(lost: Lost, charge_id: str) -> Charge:
    return await BankFamily(lost.db, lost.house.shop, "", "", "").charge(charge_id)


async def test_a_lost_charge_is_there_again_under_its_id_at_its_moment_with_its_merchant(
    at_bank: AtBank, snapshots: Snapshots
) -> None:
    family = await at_bank.family(DAY)
    await at_bank.buy(family, 100)
    async with snapshots.taken() as lost:
        bought = await at_bank.buy(family, 1400)
        assert not await lost.rows("SELECT 1 FROM charge WHERE id = $1", bought.id)
        asked = await lost.ask()
        assert (len(asked.booked), asked.objections, asked.silent, asked.opened) == (1, {}, [], True)
        again = await _charge(lost, bought.id)
        assert (again.state, again.late, again.debited_minor) == (ChargeState.SUCCEEDED, True, 1400)
        assert (again.merchant_id, again.terminal_id) == (bought.merchant_id, bought.terminal_id)
        assert (again.spender_id, again.mandate_id) == (bought.spender_id, bought.mandate_id)
        assert int(again.decided_at.timestamp() * 1000) == int(bought.id[:12], 16), "its id was made then"
        mandate = family.spenders[0].mandate_id
        assert await BankFamily(lost.db, at_bank.shop, "", "", "").usage(mandate) == [(1500, 2)], "the limit counts it"
        breaks = await lost.rows("SELECT what, state, resolution FROM recon_break")
        assert breaks == [("orphan", "resolved", "settled")]
        await lost.agrees_with_bank()
        told = await lost.rows("SELECT body ->> 'circle_id' FROM outbox WHERE topic = 'notice.circle_restored'")
        assert len(told) == 1, "payers are told that what they changed since may be lost"
        once_more = await lost.ask()
        assert (once_more.booked, once_more.opened) == ([], False), "asked twice is booked once"


async def test_without_asking_the_bank_knows_more_than_we_do(at_bank: AtBank, snapshots: Snapshots) -> None:
    """The check itself: it has to be red where the statements were not read."""
    family = await at_bank.family(DAY)
    async with snapshots.taken() as lost:
        await at_bank.buy(family, 1400)
        await ask_for_gap(lost.db, lost.providers, public_url=PUBLIC_URL, skip=frozenset({"statements"}))
        with pytest.raises(AssertionError, match="debit"):
            await lost.agrees_with_bank()


async def test_nothing_moves_money_while_it_is_closed_and_a_payer_may_still_freeze(
    at_bank: AtBank, snapshots: Snapshots
) -> None:
    family = await at_bank.family(DAY)
    held = await family.buy(at_bank.batcher, 300)
    paid = await at_bank.buy(family, 200)
    async with snapshots.taken() as lost, batcher_on(lost.outside) as batcher:
        with pytest.raises(Restored):
            await family.buy(batcher, 10)
        terminal_id = at_bank.shop.terminal_id
        with pytest.raises(Restored):
            await capture_charge(lost.outside, lost.providers, held.id, amount_minor=None, delivered=True, actor_id=terminal_id)
        with pytest.raises(Restored):
            await refund(_outside(at_bank, lost), paid.id, 50)
        async with lost.outside.transaction() as conn:
            payer = Actor(ActorKind.PERSON, family.payer_id, at_bank.shop.operator_id)
            await freeze(conn, payer, circle_id=family.circle_id)
        assert (await lost.ask()).opened
        refused = await family.buy(batcher, 10)
        assert refused.refusal is not None, "what was frozen meanwhile stays so"


def _outside(house: AtBank, lost: Lost) -> AtBank:
    return AtBank(
        lost.outside, house.keys, house.shop, house.control, house.base_url, house.client_id, lost.providers,
        house.callbacks, house.batcher, house.ear,
    )  # fmt: skip


async def test_what_was_held_and_captured_in_part_afterwards_is_the_same_charge(at_bank: AtBank, snapshots: Snapshots) -> None:
    family = await at_bank.family(DAY)
    held = await family.buy(at_bank.batcher, 1000)
    async with snapshots.taken() as lost:
        await at_bank.capture(held.id, amount_minor=735, delivered=True)
        assert (await lost.ask()).opened
        again = await _charge(lost, held.id)
        assert (again.state, again.captured_minor, again.late) == (ChargeState.SUCCEEDED, 735, False)
        await lost.agrees_with_bank()


async def test_refunds_of_known_and_of_lost_debits_are_booked_under_their_own_keys(
    at_bank: AtBank, snapshots: Snapshots
) -> None:
    family = await at_bank.family(DAY)
    before = await at_bank.buy(family, 1000)
    async with snapshots.taken() as lost:
        after = await at_bank.buy(family, 500)
        known = await refund(at_bank, before.id, 400, mark="0badcafe")
        await refund(at_bank, after.id, 500)
        asked = await lost.ask()
        assert (len(asked.booked), asked.opened) == (3, True)
        assert [(await _charge(lost, one.id)).refunded_minor for one in (before, after)] == [400, 500]
        usage = await BankFamily(lost.db, at_bank.shop, "", "", "").usage(family.spenders[0].mandate_id)
        assert usage == [(600, 2)]
        async with lost.db.transaction() as conn:
            from_same_key = await _refund_again(conn, before.id, at_bank)
        assert from_same_key == [], "the till repeats its request: nothing more goes back"
        assert known.endswith("0badcafe")
        await lost.agrees_with_bank()


async def _refund_again(conn: Any, charge_id: str, house: AtBank) -> list[str]:
    return await refund_charge(
        conn,
        charge_id,
        amount_minor=400,
        actor_id=house.shop.terminal_id,
        mark="0badcafe",
    )


async def test_a_fallback_that_was_lost_is_not_made_once_more(at_bank: AtBank, snapshots: Snapshots) -> None:
    """The first agreement refused and the answer was lost; the second one paid, and that was lost with the database."""
    family = await at_bank.family(DAY, balances=(500, 100_000))
    await at_bank.control.misbehave("debit", "drop_after_commit")
    unknown = await at_bank.buy(family, 1400)
    assert unknown.state is ChargeState.SUBMITTED
    async with snapshots.taken() as lost, snapshots.taken() as wrong:
        await at_bank.make_due()
        await reconcile_debits(at_bank.db, at_bank.providers)
        assert (await family.charge(unknown.id)).state is ChargeState.SUCCEEDED
        assert (await lost.ask()).opened
        again = await _charge(lost, unknown.id)
        assert (again.state, again.agreement_id) == (ChargeState.SUCCEEDED, family.agreements[1])
        await lost.agrees_with_bank()
        assert await at_bank.balance(family.logins[1]) == 100_000 - 1400
        skip = frozenset({"statements"})
        await ask_for_gap(wrong.db, wrong.providers, public_url=PUBLIC_URL, skip=skip)
        assert await at_bank.balance(family.logins[1]) == 100_000 - 2800, "which is why the statements come first"


async def test_what_was_owed_and_paid_afterwards_is_paid(at_bank: AtBank, snapshots: Snapshots) -> None:
    family = await at_bank.family(DAY, balances=(500,))
    owed = await at_bank.buy(family, 1400, delivered=True)
    assert owed.state is ChargeState.ARREARS
    async with snapshots.taken() as lost:
        await at_bank.control.change_customer(family.logins[0], balance_minor=2000)
        await at_bank.make_due()
        await retry_arrears(at_bank.db, at_bank.providers)
        assert (await lost.ask()).opened
        assert (await _charge(lost, owed.id)).state is ChargeState.SUCCEEDED
        await lost.agrees_with_bank()


async def test_what_was_lost_is_counted_and_not_held_against_a_limit_of_today(at_bank: AtBank, snapshots: Snapshots) -> None:
    family = await at_bank.family(DAY)
    await at_bank.buy(family, 800)
    async with snapshots.taken() as lost, batcher_on(lost.outside) as batcher:
        await at_bank.buy(family, 900)
        here = replace(family, db=lost.outside)
        await here.lower(family.spenders[0].mandate_id, terms(limit(1_000)))
        assert (await lost.ask()).opened
        assert await here.usage(family.spenders[0].mandate_id) == [(1700, 2)]
        refused = await here.buy(batcher, 1)
        assert refused.refusal is not None
        await lost.agrees_with_bank()


async def test_an_agreement_that_is_not_known_keeps_it_closed_until_somebody_has_resolved_it(
    at_bank: AtBank, snapshots: Snapshots
) -> None:
    family = await at_bank.family(DAY)
    async with at_bank.db.transaction() as conn:
        await conn.execute(
            "INSERT INTO staff SELECT $1, id, 'owner', kinpay_now() FROM person LIMIT 1", at_bank.shop.operator_id
        )
    async with snapshots.taken() as lost:
        await at_bank.sign(family, balance_minor=9_000)
        mandate = family.spenders[0].mandate_id
        async with at_bank.db.transaction() as conn:
            now = await database_now(conn)
            await conn.execute(
                "INSERT INTO settlement_rule SELECT mandate_id, circle_id, version + 1, $2, shares, debited, $3"
                " FROM settlement_rule WHERE mandate_id = $1",
                mandate, [family.agreements[1]], now,
            )  # fmt: skip
            await rules_changed(conn, family.circle_id)
            event = Event("mandate.funding_changed", mandate, {"agreements": [family.agreements[1]]})
            await record(conn, family.circle_id, event, now=now)
        bought = await at_bank.buy(family, 700)
        (key,) = await at_bank.debit_keys(bought.id)
        asked = await lost.ask()
        assert asked.objections == {f"debit {key}": "agreement_unknown"}
        assert not asked.opened
        named = await lost.rows("SELECT key, state, owner_id IS NOT NULL FROM recon_break")
        assert named == [(key, "open", True)]
        async with lost.db.transaction() as conn:
            await conn.execute(
                "UPDATE recon_break SET state = 'resolved', resolution = 'given_back', resolved_at = kinpay_now()"
            )
        assert (await lost.ask()).opened


async def test_an_agreement_that_was_ended_afterwards_is_learned_of(at_bank: AtBank, snapshots: Snapshots) -> None:
    family = await at_bank.family(DAY)
    async with snapshots.taken() as lost:
        async with at_bank.db.connection() as conn:
            ref = await conn.fetchval("SELECT provider_ref FROM agreement WHERE id = $1", family.agreements[0])
        await at_bank.control.end_agreement(ref, quietly=True)
        assert (await lost.ask()).opened
        assert await lost.rows("SELECT state FROM agreement") == [(AgreementState.ENDED.value,)]
        async with batcher_on(lost.outside) as batcher:
            assert (await family.buy(batcher, 1)).refusal is not None


async def test_the_same_request_after_the_restore_makes_no_second_charge(at_bank: AtBank, snapshots: Snapshots) -> None:
    """By the mark of its key, which its lost charge bears in its id; see the campaign for the whole way through HTTP."""
    family = await at_bank.family(DAY)
    async with snapshots.taken() as lost, batcher_on(lost.outside) as batcher:
        request = family.asking(600, charge_id=new_id()[:-8] + "0badcafe")
        bought = (await at_bank.batcher.authorize(request)).charge
        await at_bank.capture(bought.id)
        assert (await lost.ask()).opened
        repeated = family.asking(600, charge_id=new_id()[:-8] + "0badcafe")
        with pytest.raises(ChargedBefore):
            await batcher.authorize(repeated)
        async with lost.outside.connection() as conn:
            found = await recovered_charge(conn, repeated)
            assert found is not None
            assert found.id == bought.id
            with pytest.raises(KeyReused):
                await recovered_charge(conn, family.asking(601, charge_id=repeated.charge_id, capture=True))
            with pytest.raises(KeyReused):
                await recovered_charge(conn, family.asking(599, charge_id=repeated.charge_id))
        assert (await family.buy(batcher, 600)).refusal is None, "another request is another charge"


async def test_a_lost_debit_that_was_still_pending_is_found_when_it_has_ended(at_bank: AtBank, snapshots: Snapshots) -> None:
    family = await at_bank.family(DAY)
    async with snapshots.taken() as lost:
        await at_bank.control.misbehave("debit", "pending")
        bought = await at_bank.buy(family, 600)
        assert bought.state is ChargeState.SUBMITTED
        asked = await lost.ask()
        assert (asked.booked, asked.opened) == ([], True), "no statement tells what has not ended"
        (key,) = await at_bank.debit_keys(bought.id)
        await at_bank.control.finish_debit(key, "succeeded", client_id=at_bank.client_id)
        assert await ask_again(lost.outside, lost.providers, public_url=PUBLIC_URL) == 1
        assert (await _charge(lost, bought.id)).state is ChargeState.SUCCEEDED
        await lost.agrees_with_bank()


async def test_a_silent_provider_keeps_it_closed_and_an_operator_may_open_it_with_a_reason(
    at_bank: AtBank, snapshots: Snapshots
) -> None:
    await at_bank.family(DAY)
    async with snapshots.taken() as lost:
        async with lost.db.transaction() as conn:  # nobody listens there
            await conn.execute('UPDATE provider_account SET config = config || \'{"base_url": "http://127.0.0.1:9"}\'')
        asked = await lost.ask()
        assert asked.silent
        assert not asked.opened
        asked = await lost.ask(open_anyway="the bank is closed for a week; read later")
        assert asked.opened
        assert await lost.rows("SELECT opened_with FROM restoration") == [("the bank is closed for a week; read later",)]
