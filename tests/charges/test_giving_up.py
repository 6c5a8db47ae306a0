"""Giving a charge up, and what is due by time: said twice, overtaken by the debit, or beside something that goes wrong."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import httpx
import pytest
from fastapi import FastAPI, Request, Response

from kinpay.charges.batch import Batcher
from kinpay.charges.charge import ChargeState
from kinpay.charges.reconcile import reconcile_debits, reconcile_refunds
from kinpay.charges.routes import router
from kinpay.charges.submit import capture_charge
from kinpay.charges.void import ask_void, void_run_out
from kinpay.database.pool import Database, database_now
from kinpay.primitives.actor import Actor, ActorKind
from kinpay.primitives.errors import KeyReused, WrongState
from kinpay.primitives.server_keys import ServerKeys
from kinpay.providers.contract import DebitRequest, DebitState, ProviderDebit
from tests.charges.household import Household, found, limit, shop_of, terms, void_charge
from tests.charges.scripted import ScriptedBank
from tests.conftest import set_clock

Ask = Callable[[str, str], Awaitable[httpx.Response]]
"""(path, key) → the answer."""


async def _capture(home: Household, bank: ScriptedBank, amount_minor: int) -> str:
    charge = await home.buy(Batcher(home.db), amount_minor)
    await capture_charge(home.db, bank, charge.id, amount_minor=None, delivered=False, actor_id=home.shop.terminal_id)
    return charge.id


async def _make_due(db: Database) -> None:
    """An hour later."""
    async with db.connection() as conn:
        await set_clock(conn, await database_now(conn) + timedelta(hours=1))


async def test_a_void_said_again_after_its_money_went_back_is_no_conflict(db: Database) -> None:
    (home,) = await found(db, await shop_of(db), terms(limit(100)))
    bank = ScriptedBank(steps=deque(["pends"]), cancel_steps=deque(["lost_before"]))
    charge_id = await _capture(home, bank, 40)
    assert (await void_charge(db, bank, charge_id, actor_id=home.shop.terminal_id)).state is ChargeState.SUBMITTED
    (key,) = bank.keys(DebitState.PENDING)
    bank.finish(key, paid=True)
    await _make_due(db)
    await reconcile_debits(db, bank)
    await reconcile_refunds(db, bank)
    assert bank.kept_minor(key) == 0
    again = await void_charge(db, bank, charge_id, actor_id=home.shop.terminal_id)
    assert (again.state, again.refunded_minor) == (ChargeState.SUCCEEDED, 40)


async def test_what_was_paid_and_never_given_up_is_no_void(db: Database) -> None:
    (home,) = await found(db, await shop_of(db), terms(limit(100)))
    charge_id = await _capture(home, ScriptedBank(), 40)
    with pytest.raises(WrongState):
        async with db.transaction() as conn:
            await ask_void(conn, charge_id, actor_id=home.shop.terminal_id)


async def test_what_never_arrived_and_is_closed_for_good_is_asked_of_no_other_agreement(db: Database) -> None:
    """By then the till has given up: nobody hands anything over for the other agreement's money."""
    (home,) = await found(db, await shop_of(db), terms(limit(100)))
    await home.add_agreement()
    await home.grant(home.spenders[0].id, terms(limit(100)))
    bank = ScriptedBank(steps=deque(["lost_before"]))
    charge_id = await _capture(home, bank, 40)
    await _make_due(db)
    await reconcile_debits(db, bank)
    assert (await home.charge(charge_id)).state is ChargeState.DECLINED
    assert bank.keys(DebitState.SUCCEEDED) == []
    assert await home.usage(home.spenders[0].mandate_id) == [(0, 0)]


@dataclass
class Sulking(ScriptedBank):
    """Breaks down, in a way that no adapter should, over one of its debits."""

    over: set[str] = field(default_factory=set)

    async def get_debit(self, request: DebitRequest) -> ProviderDebit:
        if request.key in self.over:
            raise RuntimeError("not in the contract")
        return await super().get_debit(request)


async def test_a_debit_that_cannot_be_asked_about_keeps_no_other_waiting(db: Database) -> None:
    (home,) = await found(db, await shop_of(db), terms(limit(100)))
    bank = Sulking(steps=deque(["pends"] * 3))
    charges = [await _capture(home, bank, 10) for _ in range(3)]
    keys = bank.keys(DebitState.PENDING)
    bank.over = {keys[0]}
    for key in keys:
        bank.finish(key, paid=True)
    await _make_due(db)
    await reconcile_debits(db, bank)
    assert [(await home.charge(charge_id)).state for charge_id in charges] == [
        ChargeState.SUBMITTED,
        ChargeState.SUCCEEDED,
        ChargeState.SUCCEEDED,
    ]


@pytest.mark.books_broken  # its usage is spoilt by hand
async def test_a_hold_that_cannot_be_let_go_keeps_no_other(db: Database) -> None:
    spoilt, sound = await found(db, await shop_of(db), terms(limit(100)), count=2)
    batcher = Batcher(db)
    stuck, gone = await spoilt.buy(batcher, 10, hold_s=5), await sound.buy(batcher, 10, hold_s=5)
    async with db.transaction() as conn:
        await conn.execute("SET LOCAL session_replication_role = 'replica'")  # the watch in our tests would have seen it
        await conn.execute("UPDATE usage SET amount_minor = 0 WHERE circle_id = $1", spoilt.circle_id)
        await conn.execute("UPDATE charge SET hold_expires_at = kinpay_now() - interval '1 second' WHERE id = $1", stuck.id)
        await conn.execute("UPDATE charge SET hold_expires_at = kinpay_now() WHERE id = $1", gone.id)
    await void_run_out(db)
    assert (await spoilt.charge(stuck.id)).state is ChargeState.HELD
    assert (await sound.charge(gone.id)).state is ChargeState.VOIDED


async def test_a_void_and_a_retry_are_said_once_under_a_key(db: Database, keys: ServerKeys) -> None:
    home, other = await found(db, await shop_of(db), terms(limit(100)), count=2)
    bank = ScriptedBank(steps=deque(["fails", "fails", "pays"]))
    batcher = Batcher(db)
    first, second, owed = await home.buy(batcher, 10), await home.buy(batcher, 10), await other.buy(batcher, 10)
    till = Actor(ActorKind.TERMINAL, home.shop.terminal_id, home.shop.operator_id)
    payer = Actor(ActorKind.PERSON, other.payer_id, home.shop.operator_id)
    async with _asking(db, keys, bank, till) as ask:
        assert (await ask(f"/v1/charges/{first.id}/void", "one")).json()["state"] == "voided"
        again = await ask(f"/v1/charges/{first.id}/void", "one")
        assert (again.json()["state"], again.headers["idempotency-replayed"]) == ("voided", "true")
        with pytest.raises(KeyReused):
            await ask(f"/v1/charges/{second.id}/void", "one")
        assert (await home.charge(second.id)).state is ChargeState.HELD
        assert (await ask(f"/v1/charges/{owed.id}/capture", "two")).json()["state"] == "arrears"
    async with _asking(db, keys, bank, payer) as ask:
        for _ in range(2):  # The second is the same request once more: it must not try a third debit.
            assert (await ask(f"/v1/charges/{owed.id}/retry", "three")).json()["state"] == "arrears"
        assert (await ask(f"/v1/charges/{owed.id}/retry", "four")).json()["state"] == "succeeded"


@asynccontextmanager
async def _asking(db: Database, keys: ServerKeys, bank: ScriptedBank, actor: Actor) -> AsyncIterator[Ask]:
    """Asks the routes of charges as `actor`."""
    app = FastAPI()
    app.include_router(router(db, keys=keys, adapters=bank))

    @app.middleware("http")
    async def known(request: Request, following: Callable[[Request], Awaitable[Response]]) -> Response:
        request.state.actor = actor
        return await following(request)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://kinpay") as client:

        async def ask(path: str, key: str) -> httpx.Response:
            return await client.post(path, json={}, headers={"Idempotency-Key": key})

        yield ask
