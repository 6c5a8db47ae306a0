"""Times of caution against a payer in a hurry: what bound goes on to bind, whatever is written after it.

The second opinion reckons what binds besides from what was written and when; so does the audit after each test.
"""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from kinpay.audit.check import check
from kinpay.charges.batch import Batcher
from kinpay.database.pool import Database
from kinpay.database.sql import Sql
from kinpay.mandates import cooling
from kinpay.mandates.change_terms import Changed, change_terms
from kinpay.mandates.look import look_at_mandate
from kinpay.mandates.terms import Terms
from tests.charges.household import Household, found, limit, proof_of, shop_of, terms
from tests.charges.oracle import Allowed, Asked, Funding, Made, World, against, passes, possible_now
from tests.charges.patience import Written, besides
from tests.conftest import set_clock

MORNING = datetime(2026, 3, 2, 1, tzinfo=UTC)
"""09:00 in Shanghai."""
ZONE = "Asia/Shanghai"


def cautious(a_day: int, hours: int, *caution: int) -> dict[str, Any]:
    """A limit a day, a time of caution, and perhaps its limit a day."""
    return {**terms(limit(a_day)), "cooling": {"hours": hours, "limits": [limit(most) for most in caution]}}


async def _clock(db: Database, hours: float) -> None:
    async with db.connection() as conn:
        await set_clock(conn, MORNING + timedelta(hours=hours))


async def _home(db: Database, written: dict[str, Any]) -> Household:
    """One spender, whose mandate was granted in the morning."""
    await _clock(db, 0)
    (home,) = await found(db, await shop_of(db))
    home.spenders.clear()
    await home.add_spender(written)
    return home


async def _change(home: Household, written: dict[str, Any]) -> Changed:
    async with home.db.transaction() as conn:
        return await change_terms(
            conn,
            mandate_id=home.spenders[0].mandate_id,
            payer_id=home.payer_id,
            terms=Terms.model_validate(written),
            proof_id=await proof_of(conn, home.payer_id),
            if_version=None,
        )


async def _codes(home: Household, batcher: Batcher, amount_minor: int) -> list[str]:
    """Why a payment is refused; empty if it is not."""
    charge = await home.buy(batcher, amount_minor)
    return [] if charge.refusal is None else [reason["code"] for reason in charge.refusal["reasons"]]


async def test_a_caution_refuses_and_ends(db: Database) -> None:
    home, batcher = await _home(db, cautious(30, 24, 15)), Batcher(db)
    for hours, amount, codes in (
        (0.5, 16, ["COOLING_DAY_AMOUNT"]),
        (0.6, 15, []),
        (23.9, 16, ["COOLING_DAY_AMOUNT"]),
        (24.01, 30, []),
    ):
        await _clock(db, hours)
        assert await _codes(home, batcher, amount) == codes, f"{hours} hours after the grant"
    await batcher.close()


@pytest.mark.parametrize(
    "hurried",
    [terms(limit(30)), cautious(30, 24), cautious(30, 1, 15), cautious(30, 24, 29)],
    ids=["dropped", "its limits dropped", "shortened", "loosened"],
)
async def test_a_caution_cannot_be_taken_back_before_its_end(db: Database, hurried: dict[str, Any]) -> None:
    home, batcher = await _home(db, cautious(30, 24, 15)), Batcher(db)
    await _clock(db, 1)
    assert (await _change(home, hurried)).cools_until is not None
    await _clock(db, 2)
    assert "COOLING_DAY_AMOUNT" in await _codes(home, batcher, 16)
    async with db.transaction() as conn:
        look = await look_at_mandate(conn, home.spenders[0].mandate_id, person_id=home.payer_id)
    assert min(one.remaining or 0 for beside in look.cooling for one in beside.limits) == 15
    await _clock(db, 26)
    assert await _codes(home, batcher, 30) == []
    await batcher.close()


async def test_dropping_the_cooling_time_does_not_hurry_the_next_raise(db: Database) -> None:
    home, batcher = await _home(db, cautious(1, 24)), Batcher(db)
    await _change(home, terms(limit(1)))
    await _clock(db, 24 - 1 / 60)
    raised = await _change(home, terms(limit(1000)))
    assert raised.cools_until is not None
    assert raised.cools_until - MORNING > timedelta(hours=47)
    await _clock(db, 24 + 1 / 60)
    assert await _codes(home, batcher, 500) == ["COOLING_DAY_AMOUNT"]
    assert (await _change(home, terms(limit(2000)))).cools_until is None, "that there is none has cooled down itself"
    assert await _codes(home, batcher, 500) == ["COOLING_DAY_AMOUNT"]
    await _clock(db, 48)
    assert await _codes(home, batcher, 2000) == []
    await batcher.close()


@pytest.mark.parametrize("seed", range(6))
async def test_the_second_opinion_reckons_the_cooling_by_itself(db: Database, seed: int) -> None:
    dice = random.Random(seed)

    def drawn() -> dict[str, Any]:
        a_day = dice.choice((10, 20, 40))
        if dice.random() < 0.3:
            return terms(limit(a_day))
        return cautious(a_day, dice.choice((1, 6, 24, 60)), *([dice.choice((5, 15))] if dice.random() < 0.6 else []))

    home, batcher, hours = await _home(db, drawn()), Batcher(db), 0.0
    made: list[Made] = []
    refused = 0
    for _ in range(45):
        hours += dice.choice((0.1, 0.7, 3.1, 8.3, 16.9))
        await _clock(db, hours)
        if dice.random() < 0.35:
            await _change(home, drawn())
        asked = Asked(dice.choice((1, 2, 4, 7, 12, 45)), "CNY", home.shop.merchant_id, home.shop.mcc, home.spenders[0].id, None)
        charge = await home.buy(batcher, asked.amount)
        world = await _world(home, made)
        (mandate,) = world.mandates
        assert (charge.refusal is None) is (passes(world, asked, charge.decided_at) is not None), f"{hours} hours on"
        if charge.refusal is None:
            made.append(Made(asked, charge.decided_at, mandate.id, mandate.payer))
            continue
        refused += 1
        said = {one.code for one in against(world, asked, mandate, charge.decided_at)}
        assert {reason["code"] for reason in charge.refusal["reasons"]} == said
        greatest = possible_now(world, asked, charge.decided_at)
        assert charge.refusal["possible_now_minor"] == greatest
        async with db.transaction() as conn:
            look = await look_at_mandate(conn, mandate.id, person_id=home.payer_id)
        limits = [*look.limits, *(one for beside in look.cooling for one in beside.limits)]
        assert min(one.remaining or 0 for one in limits) == greatest, "what is shown is what passes"
    assert refused > 5 < len(made)
    await batcher.close()


async def _world(home: Household, made: list[Made]) -> World:
    """What was written and when, for the second opinion."""
    spender = home.spenders[0]
    async with home.db.connection() as conn:
        rows = await conn.fetch(
            "SELECT terms, since FROM mandate_version WHERE mandate_id = $1 ORDER BY version", spender.mandate_id
        )
        granted = await conn.fetchval("SELECT active_at FROM mandate WHERE id = $1", spender.mandate_id)
    written = [Written(row["terms"], row["since"]) for row in rows]
    funding = [Funding(agreement_id, True, "CNY", None) for agreement_id in home.agreements]
    mandate = Allowed(
        spender.mandate_id, home.payer_id, spender.id, "active", False, written[-1].terms, funding, besides(written, granted)
    )
    return World(ZONE, spender_active={spender.id: True}, mandates=[mandate], history=made, anchor=date(2026, 3, 2))


@pytest.mark.books_broken
@pytest.mark.parametrize("forgotten", ["CAUTIONS", "RAISED"])
async def test_the_audit_finds_what_was_let_through_in_a_hurry(
    db: Database, monkeypatch: pytest.MonkeyPatch, forgotten: str
) -> None:
    """The program forgets what an earlier version still has to say; the auditor does not."""
    nothing = Sql(
        "SELECT id AS mandate_id, NULL AS terms, NULL AS until FROM mandate WHERE circle_id = ANY(:circles) AND false"
    )
    home, batcher = await _home(db, cautious(20, 24, 15) if forgotten == "CAUTIONS" else cautious(20, 24)), Batcher(db)
    await _change(home, terms(limit(30)))
    monkeypatch.setattr(cooling, forgotten, nothing)
    assert await _codes(home, batcher, 18 if forgotten == "CAUTIONS" else 25) == []
    await batcher.close()
    async with db.connection() as conn:
        found_out = [str(finding) for finding in await check(conn, overdue_after=None)]
    assert any("I5 no_overspend" in said for said in found_out), found_out


@pytest.mark.books_broken
async def test_the_audit_finds_a_raise_that_was_hurried(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a raise were judged by the terms that it raises alone."""
    home = await _home(db, cautious(1, 24))
    await _change(home, cautious(1, 1))
    alone = "SELECT (terms -> 'cooling' ->> 'hours')::integer FROM mandate_version WHERE mandate_id = :mandate_id"
    monkeypatch.setattr(cooling, "PATIENCE", Sql(f"{alone} AND version = :version AND :now::timestamptz IS NOT NULL"))
    await _change(home, cautious(1000, 1))
    async with home.db.connection() as conn:
        found_out = [str(finding) for finding in await check(conn, overdue_after=None)]
    assert any("cools down until" in said for said in found_out), found_out
