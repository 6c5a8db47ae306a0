"""What is owed is tried on the mandate's agreements in turn: none is left out, none gets more than its provider takes."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest

from kinpay.charges.batch import Batcher
from kinpay.charges.charge import ChargeState
from kinpay.charges.daily import close_days, retry_days
from kinpay.charges.reconcile import retry_arrears
from kinpay.charges.submit import capture_charge
from kinpay.database.pool import Database
from kinpay.mandates.change_terms import change_funding
from tests.charges.household import Household, found, limit, proof_of, shop_of, terms
from tests.charges.scripted import ScriptedBank
from tests.conftest import set_clock

MORNING = datetime(2026, 3, 2, 1, tzinfo=UTC)
Debited = Literal["each_charge", "daily"]


async def clock(db: Database, moment: datetime) -> None:
    async with db.connection() as conn:
        await set_clock(conn, moment)


async def household(db: Database, *caps: int | None, debited: Debited) -> tuple[Household, dict[str, str]]:
    """A payer whose mandate is funded by an agreement without a cap and one for each of `caps`; their names, `A`, `B` …"""
    await clock(db, MORNING)
    (home,) = await found(db, await shop_of(db), terms(limit(5_000)))
    agreements = [home.agreements[0], *[await home.add_agreement(per_debit_minor=cap) for cap in caps]]
    async with db.transaction() as conn:
        await change_funding(
            conn,
            mandate_id=home.spenders[0].mandate_id,
            payer_id=home.payer_id,
            agreement_ids=agreements,
            proof_id=await proof_of(conn, home.payer_id),
            if_version=None,
            debited=debited,
        )
    return home, dict(zip(agreements, "ABCDE", strict=False))


async def deliver(home: Household, bank: ScriptedBank, amount_minor: int) -> str:
    """A charge whose goods are handed over before anybody is debited."""
    batcher = Batcher(home.db)
    charge = await home.buy(batcher, amount_minor)
    await batcher.close()
    await capture_charge(home.db, bank, charge.id, amount_minor=None, delivered=True, actor_id=home.shop.terminal_id)
    return charge.id


async def tries(home: Household, bank: ScriptedBank, names: dict[str, str], *, times: int) -> str:
    """Lets so many retries come; the agreements that were asked, the first time included."""
    now = MORNING + timedelta(days=1)
    await clock(home.db, now)
    await close_days(home.db, bank)
    for _ in range(times):
        now += timedelta(days=8)
        await clock(home.db, now)
        await retry_days(home.db, bank)
        await retry_arrears(home.db, bank)
    async with home.db.connection() as conn:
        rows = await conn.fetch("SELECT agreement_id FROM debit ORDER BY created_at, id")
    return "".join(names[row["agreement_id"]] for row in rows)


@pytest.mark.parametrize("debited", ["each_charge", "daily"])
async def test_every_agreement_has_its_turn(db: Database, debited: Debited) -> None:
    home, names = await household(db, None, None, debited=debited)
    bank = ScriptedBank(steps=deque(["fails"] * 30))
    await deliver(home, bank, 70)
    assert await tries(home, bank, names, times=6) == "ABCABCA"


@pytest.mark.parametrize("debited", ["each_charge", "daily"])
async def test_what_is_above_an_agreements_cap_is_never_sent_to_it(db: Database, debited: Debited) -> None:
    home, names = await household(db, 50, None, debited=debited)
    bank = ScriptedBank(steps=deque(["fails"] * 3))
    charge_id = await deliver(home, bank, 80)
    assert await tries(home, bank, names, times=3) == "ACAC"
    assert (await home.charge(charge_id)).state is ChargeState.SUCCEEDED


async def test_a_day_with_charges_of_either_size_goes_where_each_fits(db: Database) -> None:
    home, names = await household(db, 50, debited="daily")
    bank = ScriptedBank(steps=deque(["fails"]))
    for amount in (30, 80, 15, 10):
        await deliver(home, bank, amount)
    assert sorted(await tries(home, bank, names, times=1)) == ["A", "A", "B", "B"]
    async with db.connection() as conn:
        rows = await conn.fetch("SELECT agreement_id, amount_minor FROM debit WHERE kind = 'arrears'")
    assert sorted((names[row["agreement_id"]], row["amount_minor"]) for row in rows) == [("A", 80), ("B", 10), ("B", 45)]
