"""Charges at the real sandbox bank: paid once, refused, pending, unknown, given up and given back, by the bank's own books."""

from __future__ import annotations

import asyncio
from typing import Any, get_args

import pytest

from kinpay.charges.charge import ChargeState
from kinpay.charges.reconcile import reconcile_debits, reconcile_refunds, retry_arrears
from kinpay.charges.refund import refund_charge, send_refund
from kinpay_sandbox.remote import FaultKind, Form
from tests.charges.bank import AtBank, at_bank, bank, control, ear
from tests.charges.household import limit, terms, void_charge

__all__ = ["at_bank", "bank", "control", "ear"]

DAY = terms(limit(50_000))


async def _usage(house: AtBank, family: Any) -> list[tuple[int, int]]:
    return await family.usage(family.spenders[0].mandate_id)


async def test_a_capture_debits_once_and_names_the_spender(at_bank: AtBank) -> None:
    family = await at_bank.family(DAY)
    charge = await at_bank.buy(family, 1400)
    assert charge.state is ChargeState.SUCCEEDED
    (debit,) = await at_bank.debits_of(charge.id)
    assert (debit["amount_minor"], debit["state"]) == (1400, "succeeded")
    assert debit["spender_ref"] == family.spenders[0].id
    assert await at_bank.balance(family.logins[0]) == 100_000 - 1400
    assert await _usage(at_bank, family) == [(1400, 1)]


async def test_a_partial_capture_debits_the_part(at_bank: AtBank) -> None:
    family = await at_bank.family(DAY)
    held = await family.buy(at_bank.batcher, 1000)
    charge = await at_bank.capture(held.id, amount_minor=735, delivered=True)
    assert (charge.state, charge.captured_minor) == (ChargeState.SUCCEEDED, 735)
    assert await at_bank.balance(family.logins[0]) == 100_000 - 735
    assert await _usage(at_bank, family) == [(735, 1)]


async def test_a_refusal_falls_back_to_the_next_agreement(at_bank: AtBank) -> None:
    family = await at_bank.family(DAY, balances=(500, 100_000))
    charge = await at_bank.buy(family, 1400)
    assert (charge.state, charge.agreement_id) == (ChargeState.SUCCEEDED, family.agreements[1])
    first, second = await at_bank.debits_of(charge.id)
    assert (first["state"], first["failure_code"]) == ("failed", "insufficient_funds")
    assert second["state"] == "succeeded"
    assert [await at_bank.balance(login) for login in family.logins] == [500, 100_000 - 1400]
    assert await _usage(at_bank, family) == [(1400, 1)]


async def test_refused_everywhere_before_delivery_is_declined_and_released(at_bank: AtBank) -> None:
    family = await at_bank.family(DAY, balances=(500, 600))
    charge = await at_bank.buy(family, 1400)
    assert charge.state is ChargeState.DECLINED
    assert [debit["state"] for debit in await at_bank.debits_of(charge.id)] == ["failed", "failed"]
    assert await _usage(at_bank, family) == [(0, 0)]


async def test_refused_after_delivery_is_owed_blocks_and_is_paid_later(at_bank: AtBank) -> None:
    family = await at_bank.family(DAY, balances=(500,))
    charge = await at_bank.buy(family, 1400, delivered=True)
    assert charge.state is ChargeState.ARREARS
    blocked = await family.buy(at_bank.batcher, 10)
    assert blocked.refusal is not None
    assert blocked.refusal["reasons"][0]["code"] == "MANDATE_ARREARS"
    await at_bank.make_due()
    assert await retry_arrears(at_bank.db, at_bank.providers) == 1
    assert (await family.charge(charge.id)).state is ChargeState.ARREARS, "still nothing there"
    await at_bank.control.change_customer(family.logins[0], balance_minor=2000)
    await at_bank.make_due()
    assert await retry_arrears(at_bank.db, at_bank.providers) == 1
    assert (await family.charge(charge.id)).state is ChargeState.SUCCEEDED
    assert await at_bank.balance(family.logins[0]) == 600
    assert [debit["state"] for debit in await at_bank.debits_of(charge.id)] == ["failed", "failed", "succeeded"]
    assert (await family.buy(at_bank.batcher, 10)).state is ChargeState.HELD
    assert await _usage(at_bank, family) == [(1410, 2)]


UNKNOWN: list[tuple[FaultKind, dict[str, Any]]] = [
    ("hang_before_commit", {"seconds": 1.0}),
    ("hang_after_commit", {"seconds": 1.0}),
    ("drop_before_commit", {}),
    ("drop_after_commit", {}),
    *(("garbage", {"form": form}) for form in get_args(Form)),
    ("garbage", {"form": "html", "commit": False}),
]


async def test_what_is_not_known_is_asked_for_and_paid_once(at_bank: AtBank) -> None:
    family, left = await at_bank.family(DAY), 100_000
    for number, (kind, more) in enumerate(UNKNOWN, start=1):
        await at_bank.control.misbehave("debit", kind, **more)
        charge = await at_bank.buy(family, 1400)
        assert charge.state is ChargeState.SUBMITTED, f"unknown is not failed ({kind} {more})"
        assert await _usage(at_bank, family) == [(1400 * number, number)], "it stays reserved"
        if kind == "hang_before_commit":
            await asyncio.sleep(more["seconds"])
        await at_bank.make_due()
        assert await reconcile_debits(at_bank.db, at_bank.providers) == 1
        assert (await family.charge(charge.id)).state is ChargeState.SUCCEEDED, (kind, more)
        (debit,) = await at_bank.debits_of(charge.id)
        assert (debit["state"], debit["amount_minor"]) == ("succeeded", 1400)
        left -= 1400
        assert await at_bank.balance(family.logins[0]) == left
        assert await reconcile_debits(at_bank.db, at_bank.providers) == 0


async def test_asking_while_the_first_request_still_hangs_pays_once(at_bank: AtBank) -> None:
    """The bank does not know the key yet; sent again under it, both arrive, and one of them counts."""
    family = await at_bank.family(DAY)
    await at_bank.control.misbehave("debit", "hang_before_commit", seconds=1.2)
    charge = await at_bank.buy(family, 1400)
    await at_bank.make_due()
    await reconcile_debits(at_bank.db, at_bank.providers)
    assert (await family.charge(charge.id)).state is ChargeState.SUCCEEDED
    await asyncio.sleep(1.2)
    assert len(await at_bank.debits_of(charge.id)) == 1
    assert await at_bank.balance(family.logins[0]) == 100_000 - 1400


async def test_queries_that_tell_nothing_change_nothing(at_bank: AtBank) -> None:
    family = await at_bank.family(DAY)
    await at_bank.control.misbehave("debit", "drop_after_commit")
    for form in get_args(Form):
        await at_bank.control.misbehave("get_debit", "garbage", form=form)
    charge = await at_bank.buy(family, 1400)
    for _ in get_args(Form):
        await at_bank.make_due()
        await reconcile_debits(at_bank.db, at_bank.providers)
        assert (await family.charge(charge.id)).state is ChargeState.SUBMITTED
    await at_bank.make_due()
    await reconcile_debits(at_bank.db, at_bank.providers)
    assert (await family.charge(charge.id)).state is ChargeState.SUCCEEDED
    assert await at_bank.balance(family.logins[0]) == 100_000 - 1400


@pytest.mark.parametrize("by", ["event", "query", "twice"])
async def test_pending_is_finished_by_event_or_query(at_bank: AtBank, by: str) -> None:
    for paid in (True, False):
        family = await at_bank.family(DAY)
        await at_bank.hear()
        await at_bank.control.misbehave("debit", "pending")
        charge = await at_bank.buy(family, 1400)
        assert charge.state is ChargeState.SUBMITTED
        (key,) = await at_bank.debit_keys(charge.id)
        if by == "query":
            await at_bank.control.send_events("hold")
        elif by == "twice":
            await at_bank.control.send_events("duplicate", copies=3)
        await at_bank.control.finish_debit(key, "succeeded" if paid else "failed", code=None if paid else "risk")
        if by == "query":
            await at_bank.make_due()
            await reconcile_debits(at_bank.db, at_bank.providers)
            await at_bank.control.release_events()
        await at_bank.hear("debit.succeeded" if paid else "debit.failed")
        assert (await family.charge(charge.id)).state is (ChargeState.SUCCEEDED if paid else ChargeState.DECLINED)
        assert await at_bank.balance(family.logins[0]) == 100_000 - (1400 if paid else 0)
        assert await _usage(at_bank, family) == ([(1400, 1)] if paid else [(0, 0)])


async def test_a_pending_refusal_falls_back_when_it_is_heard(at_bank: AtBank) -> None:
    family = await at_bank.family(DAY, balances=(100_000, 100_000))
    await at_bank.hear()
    await at_bank.control.misbehave("debit", "pending")
    charge = await at_bank.buy(family, 1400)
    (key,) = await at_bank.debit_keys(charge.id)
    await at_bank.control.finish_debit(key, "failed", code="insufficient_funds")
    await at_bank.hear("debit.failed")
    assert (await family.charge(charge.id)).state is ChargeState.SUCCEEDED
    assert [await at_bank.balance(login) for login in family.logins] == [100_000, 100_000 - 1400]


async def test_a_submitted_charge_that_is_given_up_is_closed_at_the_bank(at_bank: AtBank) -> None:
    family = await at_bank.family(DAY)
    await at_bank.control.misbehave("debit", "pending")
    charge = await at_bank.buy(family, 1400)
    voided = await void_charge(at_bank.db, at_bank.providers, charge.id, actor_id=at_bank.shop.terminal_id)
    assert voided.state is ChargeState.VOIDED
    (debit,) = await at_bank.debits_of(charge.id)
    assert debit["state"] == "cancelled"
    assert await at_bank.balance(family.logins[0]) == 100_000
    assert await _usage(at_bank, family) == [(0, 0)]


async def test_giving_up_what_never_arrived_closes_its_key(at_bank: AtBank) -> None:
    family = await at_bank.family(DAY)
    await at_bank.control.misbehave("debit", "drop_before_commit")
    charge = await at_bank.buy(family, 1400)
    voided = await void_charge(at_bank.db, at_bank.providers, charge.id, actor_id=at_bank.shop.terminal_id)
    assert voided.state is ChargeState.VOIDED
    assert await at_bank.balance(family.logins[0]) == 100_000


async def test_giving_up_what_was_paid_gives_it_back(at_bank: AtBank) -> None:
    """The answer was lost, the till gives up, and the bank says: too late."""
    family = await at_bank.family(DAY)
    await at_bank.control.misbehave("debit", "drop_after_commit")
    charge = await at_bank.buy(family, 1400)
    given_up = await void_charge(at_bank.db, at_bank.providers, charge.id, actor_id=at_bank.shop.terminal_id)
    assert (given_up.state, given_up.refunded_minor) == (ChargeState.SUCCEEDED, 1400)
    assert await reconcile_refunds(at_bank.db, at_bank.providers) == 1
    assert await at_bank.balance(family.logins[0]) == 100_000
    assert await _usage(at_bank, family) == [(0, 1)]


async def test_debit_and_cancel_racing_leave_one_truth(at_bank: AtBank) -> None:
    family = await at_bank.family(DAY)
    held = await family.buy(at_bank.batcher, 1400)
    await at_bank.control.misbehave("debit", "hang_before_commit", seconds=0.4)
    sending = asyncio.create_task(at_bank.capture(held.id))
    await asyncio.sleep(0.2)
    await void_charge(at_bank.db, at_bank.providers, held.id, actor_id=at_bank.shop.terminal_id)
    await sending
    charge = await family.charge(held.id)
    assert charge.state is ChargeState.VOIDED
    assert await at_bank.balance(family.logins[0]) == 100_000
    assert await _usage(at_bank, family) == [(0, 0)]


async def test_a_cancel_that_is_lost_is_asked_for_again(at_bank: AtBank) -> None:
    family = await at_bank.family(DAY)
    await at_bank.control.misbehave("debit", "pending")
    await at_bank.control.misbehave("cancel", "drop_after_commit")
    charge = await at_bank.buy(family, 1400)
    asked = await void_charge(at_bank.db, at_bank.providers, charge.id, actor_id=at_bank.shop.terminal_id)
    assert (asked.state, asked.void_requested) == (ChargeState.SUBMITTED, True)
    await at_bank.make_due()
    await reconcile_debits(at_bank.db, at_bank.providers)
    assert (await family.charge(charge.id)).state is ChargeState.VOIDED
    assert await at_bank.balance(family.logins[0]) == 100_000


async def _refund(house: AtBank, charge_id: str, amount_minor: int) -> str:
    async with house.db.transaction() as conn:
        (refund_id,) = await refund_charge(conn, charge_id, amount_minor=amount_minor, actor_id=house.shop.terminal_id)
    await send_refund(house.db, house.providers, refund_id)
    return refund_id


async def _state_of(house: AtBank, refund_id: str) -> str:
    async with house.db.connection() as conn:
        return str(await conn.fetchval("SELECT state FROM refund WHERE id = $1", refund_id))


async def test_refunds_in_parts(at_bank: AtBank) -> None:
    family = await at_bank.family(DAY)
    charge = await at_bank.buy(family, 1400)
    for part, left in ((400, 99_000), (1, 99_001), (999, 100_000)):
        assert await _state_of(at_bank, await _refund(at_bank, charge.id, part)) == "succeeded"
        assert await at_bank.balance(family.logins[0]) == left
    assert await _usage(at_bank, family) == [(0, 1)], "the amount comes back, the count never"
    assert (await family.charge(charge.id)).refunded_minor == 1400


async def test_a_refund_that_is_not_known_is_paid_once(at_bank: AtBank) -> None:
    family = await at_bank.family(DAY)
    charge = await at_bank.buy(family, 1400)
    kinds: list[FaultKind] = ["drop_before_commit", "drop_after_commit", "garbage", "pending"]
    for number, kind in enumerate(kinds, start=1):
        await at_bank.control.misbehave("refund", kind, **({"form": "truncated"} if kind == "garbage" else {}))
        refund_id = await _refund(at_bank, charge.id, 200)
        assert await _state_of(at_bank, refund_id) == "submitted"
        if kind == "pending":
            await at_bank.control.finish_refund(refund_id, "succeeded")
        await at_bank.make_due()
        assert await reconcile_refunds(at_bank.db, at_bank.providers) == 1
        assert await _state_of(at_bank, refund_id) == "succeeded"
        assert await at_bank.balance(family.logins[0]) == 100_000 - 1400 + 200 * number
        assert len(await at_bank.control.refunds(at_bank.client_id)) == number


async def test_a_refund_that_the_bank_refuses_counts_again(at_bank: AtBank) -> None:
    family = await at_bank.family(DAY)
    charge = await at_bank.buy(family, 1400)
    await at_bank.control.misbehave("refund", "refuse", code="account_frozen")
    assert await _state_of(at_bank, await _refund(at_bank, charge.id, 500)) == "failed"
    assert (await family.charge(charge.id)).refunded_minor == 0
    assert await _usage(at_bank, family) == [(1400, 1)]
    assert await _state_of(at_bank, await _refund(at_bank, charge.id, 1400)) == "succeeded"


async def test_an_agreement_that_ends_at_the_bank_voids_what_is_held(at_bank: AtBank) -> None:
    family = await at_bank.family(DAY)
    held = await family.buy(at_bank.batcher, 1400)
    async with at_bank.db.connection() as conn:
        ref = await conn.fetchval("SELECT provider_ref FROM agreement WHERE id = $1", family.agreements[0])
    await at_bank.control.end_agreement(ref)
    await at_bank.hear("agreement.ended")
    charge = await at_bank.capture(held.id)
    assert charge.state is ChargeState.VOIDED
    refused = await family.buy(at_bank.batcher, 10)
    assert refused.refusal is not None
    assert refused.refusal["reasons"][0]["code"] == "MANDATE_SUSPENDED"
    assert await at_bank.debits_of(held.id) == []


async def test_an_agreement_that_ended_quietly_is_found_by_its_refusal(at_bank: AtBank) -> None:
    family = await at_bank.family(DAY)
    async with at_bank.db.connection() as conn:
        ref = await conn.fetchval("SELECT provider_ref FROM agreement WHERE id = $1", family.agreements[0])
    await at_bank.control.end_agreement(ref, quietly=True)
    charge = await at_bank.buy(family, 1400)
    assert charge.state is ChargeState.DECLINED
    assert await _usage(at_bank, family) == [(0, 0)]
