"""Whoever captures, gives up or gives back is in the log, not only in a message that is forgotten once it was read."""

from __future__ import annotations

from collections import deque
from typing import Any

import httpx
from fastapi import FastAPI

from kinpay.charges.batch import Batcher
from kinpay.charges.reconcile import commit_retry
from kinpay.charges.refund import refund_charge
from kinpay.charges.routes import router
from kinpay.charges.submit import capture_charge
from kinpay.charges.void import ask_void
from kinpay.database.pool import Database
from kinpay.mandates.change_terms import change_funding
from kinpay.primitives.actor import Actor, ActorKind, Scope
from kinpay.primitives.ids import new_id
from kinpay.primitives.server_keys import ServerKeys
from tests.charges.household import found, limit, proof_of, shop_of, terms
from tests.charges.scripted import ScriptedBank
from tests.notifications.till import Till


async def _named(db: Database, charge_id: str) -> list[tuple[str, str | None]]:
    """Every event of the charge and of its refunds, with whoever is named in it."""
    async with db.connection() as conn:
        rows = await conn.fetch(
            "SELECT kind, actor_id FROM audit_event WHERE subject_id = $1"
            " OR subject_id IN (SELECT id FROM refund WHERE charge_id = $1) ORDER BY seq",
            charge_id,
        )
    return [(row["kind"], row["actor_id"]) for row in rows]


async def test_a_refund_a_capture_and_a_void_name_who_asked(db: Database) -> None:
    batcher, bank = Batcher(db), ScriptedBank(steps=deque())
    till = Till(db, batcher, await shop_of(db))
    (home,) = await found(db, till.shop, terms(limit(5_000)))
    back_office = new_id()
    paid, given_up = await home.buy(batcher, 100), await home.buy(batcher, 40)
    await capture_charge(db, bank, paid.id, amount_minor=None, delivered=False, actor_id=till.shop.terminal_id)
    async with db.transaction() as conn:
        (refund_id,) = await refund_charge(conn, paid.id, amount_minor=30, actor_id=back_office)
        await ask_void(conn, given_up.id, actor_id=till.shop.terminal_id)
    await till.says_of_refund(refund_id)
    named = dict(await _named(db, paid.id))
    assert named["charge.submitted"] == till.shop.terminal_id
    assert named["charge.refund_asked"] == named["refund.submitted"] == back_office
    assert named["refund.succeeded"] is None, "that is the provider's word"
    assert dict(await _named(db, given_up.id))["charge.voided"] == till.shop.terminal_id
    await batcher.close()


async def test_what_is_taken_off_a_days_debit_names_who_asked(db: Database) -> None:
    batcher, bank = Batcher(db), ScriptedBank(steps=deque())
    till = Till(db, batcher, await shop_of(db))
    (home,) = await found(db, till.shop, terms(limit(5_000)))
    async with db.transaction() as conn:
        await change_funding(
            conn,
            mandate_id=home.spenders[0].mandate_id,
            payer_id=home.payer_id,
            agreement_ids=list(home.agreements),
            proof_id=await proof_of(conn, home.payer_id),
            if_version=None,
            debited="daily",
        )
    back_office = new_id()
    due = await home.buy(batcher, 100)
    await capture_charge(db, bank, due.id, amount_minor=None, delivered=False, actor_id=till.shop.terminal_id)
    async with db.transaction() as conn:
        await refund_charge(conn, due.id, amount_minor=30, actor_id=back_office)
        await refund_charge(conn, due.id, amount_minor=70, actor_id=back_office)
    named = dict(await _named(db, due.id))
    assert (named["charge.collected"], named["charge.reduced"], named["charge.voided"]) == (
        till.shop.terminal_id,
        back_office,
        back_office,
    )
    await batcher.close()


async def test_a_payer_who_has_it_tried_again_is_named(db: Database) -> None:
    batcher, bank = Batcher(db), ScriptedBank(steps=deque(["fails"]))
    till = Till(db, batcher, await shop_of(db))
    (home,) = await found(db, till.shop, terms(limit(5_000)))
    owed = await home.buy(batcher, 100)
    await capture_charge(db, bank, owed.id, amount_minor=None, delivered=True, actor_id=till.shop.terminal_id)
    async with db.transaction() as conn:
        assert await commit_retry(conn, owed.id, actor_id=home.payer_id) is not None
    assert dict(await _named(db, owed.id))["charge.retried"] == home.payer_id
    await batcher.close()


class _As:
    """Whoever asks is `actor`."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.actor: Actor | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope.setdefault("state", {})["actor"] = self.actor
        await self._app(scope, receive, send)


async def test_nobody_of_the_staff_reads_a_familys_charge_without_a_trace(db: Database, keys: ServerKeys) -> None:
    batcher, bank = Batcher(db), ScriptedBank(steps=deque())
    till = Till(db, batcher, await shop_of(db))
    (home,) = await found(db, till.shop, terms(limit(5_000)))
    bought = await home.buy(batcher, 100)
    app = FastAPI()
    app.include_router(router(db, keys=keys, adapters=bank))
    asking = _As(app)
    operator_id, staff = till.shop.operator_id, new_id()
    key = Actor(ActorKind.API_KEY, new_id(), operator_id, scopes=frozenset(Scope), merchant_id=till.shop.merchant_id)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(asking), base_url="http://kinpay.test") as http:
        for actor, reads in (
            (Actor(ActorKind.PERSON, home.payer_id, operator_id, frozenset({"owner"})), []),
            (Actor(ActorKind.TERMINAL, till.shop.terminal_id, operator_id), []),
            (key, []),
            (Actor(ActorKind.PERSON, staff, operator_id, frozenset({"support"})), [staff]),
        ):
            asking.actor = actor
            assert (await http.get(f"/v1/charges/{bought.id}")).status_code == 200
            assert [who for kind, who in await _named(db, bought.id) if kind == "staff.read"] == reads, actor.kind
    await batcher.close()
