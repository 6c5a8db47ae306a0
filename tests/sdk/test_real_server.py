"""Both clients against a real server and a real bank: lost answers, answers that are not known yet, refusals, one surface."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kinpay_client import Merchant, Person, Problem, SyncMerchant, SyncPerson, SyncTerminal, Terminal, Unreachable, new_key
from kinpay_client.drive import AsyncClosing, SyncClosing
from tests.sdk.losing import LosingWire
from tests.sdk.shop import Asking, Shop, surface


@asynccontextmanager
async def clients(shop: Shop, kind: str, url: str) -> AsyncIterator[tuple[Asking, Asking]]:
    """The till and the spender, as clients of that kind by way of `url`."""
    kept, token = shop.till.terminal.to_json().replace(shop.house.world.url, url), shop.spender.token
    if kind == "async":
        async with Terminal.from_json(kept) as terminal, Person(url, token) as person:
            yield Asking(terminal), Asking(person)
    else:
        with SyncTerminal.from_json(kept) as waiting, SyncPerson(url, token) as somebody:
            yield Asking(waiting), Asking(somebody)


async def debited(shop: Shop, amount_minor: int) -> int:
    """How often the bank debited exactly that."""
    return sum(one["amount_minor"] == amount_minor for one in await shop.house.bank_debits())


async def test_a_lost_answer_is_asked_for_again_and_the_payer_is_debited_once(shop: Shop, kind: str) -> None:
    amount = {"async": 611, "sync": 613}[kind]
    async with LosingWire(shop.house.world.url) as wire, clients(shop, kind, wire.url) as (till, _):
        await till.session()
        wire.lose = ["/v1/charges"] * 3
        charge = await till.charge({"code": await shop.spender.pay_code(shop.circle_id)}, amount, "CNY")
        assert (charge.state, charge.replayed, len(wire.lost)) == ("succeeded", True, 3)
        assert all(charge.id.encode() in answer for answer in wire.lost), "each lost answer told of the same charge"
        assert wire.asked.count("POST /v1/charges HTTP/1.1") == 4
        wire.lose = [f"/v1/charges/{charge.id}/refunds"]
        refunded = await till.refund(charge.id, 11)
        assert (refunded.refunded_minor, len(wire.lost)) == (11, 4)
    assert await debited(shop, amount) == 1


async def test_a_spenders_payment_survives_lost_answers_too(shop: Shop, kind: str) -> None:
    amount = {"async": 617, "sync": 619}[kind]
    async with LosingWire(shop.house.world.url) as wire, clients(shop, kind, wire.url) as (till, spender):
        shown = await till.payment_code(amount, "CNY", emv={"country": "CN", "city": "Hangzhou"})
        offer = await spender.read_payment_code(shown.emv_code)
        assert (offer.amount.amount_minor, offer.terminal.merchant) == (amount, "Canteen")
        wire.lose = ["/v1/charges"]
        paid = await spender.pay(shown.emv_code, shop.circle_id)
        assert (paid.state, paid.payer_id, paid.replayed) == ("succeeded", shop.payer.id, True)
        assert (await till.payment_code_state(shown.payment_code_id)).charge_id == paid.id
        assert paid.id in [one.id for one in (await spender.charges(shop.circle_id)).charges]
    assert await debited(shop, amount) == 1


async def test_when_nothing_comes_through_it_says_so_and_the_same_key_finds_the_charge(shop: Shop, kind: str) -> None:
    amount, key = {"async": 621, "sync": 623}[kind], new_key()
    code = await shop.spender.pay_code(shop.circle_id)
    async with LosingWire(shop.house.world.url) as wire, clients(shop, kind, wire.url) as (till, _):
        await till.session()
        wire.lose = ["/v1/charges"] * 7
        with pytest.raises(Unreachable):
            await till.charge({"code": code}, amount, "CNY", key=key)
        found = await till.charge({"code": code}, amount, "CNY", key=key)
        assert (found.state, found.replayed) == ("succeeded", True)
    assert await debited(shop, amount) == 1


async def test_what_has_no_key_and_may_have_been_done_is_not_asked_again(shop: Shop, kind: str) -> None:
    async with LosingWire(shop.house.world.url) as wire, clients(shop, kind, wire.url) as (till, spender):
        shown = await till.function_code()
        wire.lose = ["/v1/scans"]
        with pytest.raises(Unreachable):
            await spender.scan(shown.code)
        assert wire.asked.count("POST /v1/scans HTTP/1.1") == 1


async def test_an_answer_that_is_not_known_yet_is_waited_for(shop: Shop, kind: str) -> None:
    amount = {"async": 627, "sync": 629}[kind]
    await shop.house.world.control.misbehave("debit", "hang_after_commit", seconds=8)
    async with clients(shop, kind, shop.house.world.url) as (till, _):
        charge = await till.charge({"code": await shop.spender.pay_code(shop.circle_id)}, amount, "CNY")
        assert (charge.status, charge.state, charge.is_known) == (202, "submitted", False)
        done = await till.settled(charge, within_s=40)
        assert (done.state, done.succeeded, done.id) == ("succeeded", True, charge.id)
    assert await debited(shop, amount) == 1


async def test_a_refusal_is_a_charge_and_a_problem_is_not(shop: Shop, kind: str) -> None:
    async with clients(shop, kind, shop.house.world.url) as (till, _):
        code = await shop.spender.pay_code(shop.circle_id)
        refused = await till.charge({"code": code}, 5_001, "CNY")
        assert ([one.code for one in refused.refusal.reasons], refused.refusal.possible_now_minor) == (["PER_PAYMENT"], 5_000)
        with pytest.raises(Problem) as used:
            await till.charge({"code": code}, 1, "CNY")
        assert (used.value.status, used.value.code) == (409, "check-code-used")
        with pytest.raises(Problem) as wrong:
            await till.charge({"code": code}, 0, "CNY")
        assert wrong.value.code == "invalid-request"
        assert wrong.value.detail


async def test_many_charges_at_once_share_one_session(shop: Shop, kind: str) -> None:
    """As many tasks, or as many threads, on a till that has no session yet."""
    codes = [await shop.spender.pay_code(shop.circle_id) for _ in range(8)]
    async with LosingWire(shop.house.world.url) as wire, clients(shop, kind, wire.url) as (till, _):
        done = await asyncio.gather(*(till.charge({"code": code}, 5, "CNY") for code in codes))
        assert [one.state for one in done] == ["succeeded"] * 8
        assert wire.asked.count("POST /v1/terminals/sessions HTTP/1.1") == 1


@pytest.mark.parametrize(
    ("one", "other"), [(Terminal, SyncTerminal), (Person, SyncPerson), (Merchant, SyncMerchant), (AsyncClosing, SyncClosing)]
)
def test_both_clients_have_one_surface(one: type, other: type) -> None:
    assert surface(one) == surface(other)
    assert surface(one)
