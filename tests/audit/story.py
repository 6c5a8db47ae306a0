"""An honest past: charges in every state that there is, made by the program itself; providers' words are scripted values."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from kinpay.charges.batch import Batcher
from kinpay.charges.books import READ_DEBIT
from kinpay.charges.order import Item
from kinpay.charges.refund import refund_charge, settle_refund
from kinpay.charges.request import Authorized
from kinpay.charges.settle import settle_debit
from kinpay.charges.submit import commit_debit
from kinpay.charges.void import ask_void
from kinpay.database.pool import Database
from kinpay.primitives.money import Money
from kinpay.providers.contract import DebitState, Failure, FailureCause, ProviderDebit, ProviderRefund
from tests.charges.seeds import Family, Shop, asking, found_families, open_shop

TERMS: dict[str, Any] = {
    "currency": "CNY",
    "limits": [
        {"metric": "amount", "window": "per_payment", "at_most": 5_000, "filter": {}},
        {"metric": "amount", "window": "day", "at_most": 20_000, "filter": {}},
        {"metric": "count", "window": "week", "at_most": 60, "filter": {}},
        {"metric": "amount", "window": "month", "at_most": 60_000, "filter": {"mccs": ["5812"]}},
    ],
    "conditions": [{"kind": "mccs", "deny": ["7995"]}],
}


@dataclass(slots=True)
class Story:
    """What happened so far."""

    db: Database
    shop: Shop
    families: list[Family]
    batcher: Batcher
    charges: list[str] = field(default_factory=list)

    async def ask(self, family: Family, amount_minor: int, **changed: Any) -> str:
        """One authorisation; returns the charge's id."""
        answered: Authorized = await self.batcher.authorize(asking(self.shop, family, amount_minor=amount_minor, **changed))
        self.charges.append(answered.charge.id)
        return answered.charge.id

    async def capture(self, charge_id: str, amount_minor: int | None = None, *, delivered: bool = False) -> str:
        """Commits the debit; returns its id."""
        async with self.db.transaction() as conn:
            debit_id = await commit_debit(
                conn, charge_id, amount_minor=amount_minor, delivered=delivered, actor_id=self.shop.terminal_id
            )
        assert debit_id is not None
        return debit_id

    async def settle(self, debit_id: str, state: DebitState = DebitState.SUCCEEDED) -> str | None:
        """What the provider says of a debit; returns the fallback's debit, if there is one."""
        failure = Failure(cause=FailureCause.OTHER, code="no_funds") if state is DebitState.FAILED else None
        async with self.db.transaction() as conn:
            row = await READ_DEBIT.row(conn, debit_id=debit_id)
            assert row is not None
            amount = Money(row["amount_minor"], row["currency"])
            seen = ProviderDebit(
                key=debit_id, provider_ref="p" + debit_id, amount=amount, state=state, failure=failure, finished_at=None
            )
            return (await settle_debit(conn, debit_id, seen)).next_debit_id

    async def refund(self, charge_id: str, amount_minor: int, state: DebitState = DebitState.SUCCEEDED) -> list[str]:
        """Refunds a part, and what the provider says of that."""
        async with self.db.transaction() as conn:
            refunds = await refund_charge(conn, charge_id, amount_minor=amount_minor, actor_id=self.shop.terminal_id)
        for refund_id in refunds:
            await self.settle_refund(refund_id, state)
        return refunds

    async def settle_refund(self, refund_id: str, state: DebitState = DebitState.SUCCEEDED) -> None:
        """What the provider says of a refund."""
        if state is DebitState.PENDING:
            return
        failure = Failure(cause=FailureCause.OTHER, code="closed") if state is DebitState.FAILED else None
        async with self.db.transaction() as conn:
            amount = await conn.fetchval("SELECT amount_minor FROM refund WHERE id = $1", refund_id)
            seen = ProviderRefund(
                key=refund_id,
                debit_key=await conn.fetchval("SELECT debit_id FROM refund WHERE id = $1", refund_id),
                provider_ref="r" + refund_id,
                amount=Money(amount, "CNY"),
                state=state,
                failure=failure,
            )
            await settle_refund(conn, refund_id, seen)

    async def void(self, charge_id: str) -> str | None:
        """Gives a charge up; returns the debit that has to be stopped at the provider."""
        async with self.db.transaction() as conn:
            return await ask_void(conn, charge_id, actor_id=self.shop.terminal_id)


async def begin(db: Database, *, families: int = 2, terms: dict[str, Any] = TERMS, now: datetime | None = None) -> Story:
    """A shop and some families."""
    now = now or datetime.now(UTC)
    async with db.transaction() as conn:
        shop = await open_shop(conn, now)
        found = await found_families(conn, shop, now, count=families, terms=terms)
    return Story(db, shop, found, Batcher(db))


async def tell(db: Database) -> Story:
    """Every way a charge can go, each at least once."""
    story = await begin(db)
    one, other = story.families
    await story.ask(one, 100)  # held
    await story.ask(one, 9_000)  # refused
    paid = await story.ask(one, 1_000)
    await story.settle(await story.capture(paid))
    await story.refund(paid, 300)
    await story.refund(paid, 200, DebitState.FAILED)
    await story.refund(paid, 100, DebitState.PENDING)
    part = await story.ask(one, 1_200)
    await story.settle(await story.capture(part, 700))
    await story.void(await story.ask(one, 50))
    await story.capture(await story.ask(other, 60))  # submitted, not known yet
    await story.settle(await story.capture(await story.ask(other, 70)), DebitState.FAILED)  # declined
    await story.settle(await story.capture(await story.ask(one, 80), delivered=True), DebitState.FAILED)  # owed
    late = await story.ask(other, 90)
    debit = await story.capture(late)
    await story.settle(debit, DebitState.FAILED)
    await story.settle(debit)  # late truth, refunded
    unwanted = await story.ask(other, 110)
    stopped = await story.capture(unwanted)
    await story.void(unwanted)
    await story.settle(stopped, DebitState.FAILED)  # voided at the provider
    crossed = await story.ask(other, 120)
    stopped = await story.capture(crossed)
    await story.void(crossed)
    await story.settle(stopped)  # void asked, and yet debited: given back
    return story


async def wander(story: Story, dice: random.Random, steps: int) -> None:
    """A random honest past."""
    for _ in range(steps):
        amount = dice.randint(1, 900)
        charge_id = await story.ask(dice.choice(story.families), amount, items=_items(dice, amount))
        async with story.db.connection() as conn:
            state = await conn.fetchval("SELECT state FROM charge WHERE id = $1", charge_id)
        if state != "held":
            continue
        fate = dice.random()
        if fate < 0.15:
            continue
        if fate < 0.3:
            await story.void(charge_id)
            continue
        part = dice.randint(1, amount) if dice.random() < 0.3 else None
        debit = await story.capture(charge_id, part, delivered=dice.random() < 0.2)
        if fate < 0.4:
            continue
        await story.settle(debit, DebitState.FAILED if fate < 0.5 else DebitState.SUCCEEDED)
        if fate > 0.8:
            await story.refund(charge_id, 1, dice.choice([DebitState.SUCCEEDED, DebitState.FAILED, DebitState.PENDING]))


def _items(dice: random.Random, amount_minor: int) -> tuple[Item, ...]:
    """What the till tells of the basket, if it does."""
    sweets = dice.randint(0, amount_minor)
    if dice.random() < 0.5 or sweets in (0, amount_minor):
        return ()
    return (Item("sweets", sweets), Item("milk", amount_minor - sweets, 2))
