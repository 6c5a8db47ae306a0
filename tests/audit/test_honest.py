"""An honest past has no findings, whatever happened in it."""

from __future__ import annotations

import random
import time

import pytest

from kinpay.audit.check import check
from kinpay.charges.reconcile import retry_owed
from kinpay.database.pool import Database
from kinpay.providers.contract import DebitState, Misconfigured, Provider
from tests.audit import story as stories


async def test_a_new_house_adds_up(db: Database) -> None:
    async with db.connection() as conn:
        assert await check(conn) == []


async def test_every_way_a_charge_can_go_adds_up(db: Database) -> None:
    await stories.tell(db)
    async with db.connection() as conn:
        states = {row[0] for row in await conn.fetch("SELECT state FROM charge")}
        assert [str(finding) for finding in await check(conn)] == []
    assert states == {"held", "refused", "succeeded", "voided", "submitted", "declined", "arrears"}


async def test_what_is_owed_is_tried_again_and_booked_once(db: Database) -> None:
    story = await stories.begin(db, families=1)
    charge_id = await story.ask(story.families[0], 100)
    first = await story.capture(charge_id, delivered=True)
    await story.settle(first, DebitState.FAILED)
    async with db.connection() as conn:
        assert [str(finding) for finding in await check(conn)] == []
    await story.settle(first)
    async with db.connection() as conn:
        assert await conn.fetchval("SELECT count(*) FROM entry WHERE kind = 'capture'") == 1
        assert [str(finding) for finding in await check(conn)] == []


@pytest.mark.parametrize("seed", range(3))
async def test_a_random_past_adds_up(db: Database, seed: int) -> None:
    story = await stories.begin(db, families=3)
    await stories.wander(story, random.Random(seed), 60)
    async with db.connection() as conn:
        begun = time.perf_counter()
        assert [str(finding) for finding in await check(conn)] == []
        taken = time.perf_counter() - begun
    assert taken < 2, "an audit after every test has to be quick"


class Away:
    """Providers that cannot be reached, so that a debit stays unknown."""

    async def adapter(self, account_id: str) -> Provider:
        """Nobody."""
        raise Misconfigured(account_id)


@pytest.mark.parametrize(
    ("refunded", "state"),
    [(0, DebitState.SUCCEEDED), (0, DebitState.FAILED), (100, DebitState.SUCCEEDED), (500, DebitState.SUCCEEDED)],
)
async def test_a_debit_too_many_goes_back(db: Database, refunded: int, state: DebitState) -> None:
    story = await stories.begin(db, families=1)
    charge_id = await story.ask(story.families[0], 500)
    first = await story.capture(charge_id, delivered=True)
    await story.settle(first, DebitState.FAILED)
    await retry_owed(db, Away(), charge_id)
    async with db.connection() as conn:
        second = await conn.fetchval("SELECT id FROM debit WHERE state = 'submitted'")
        assert [str(finding) for finding in await check(conn)] == []
    await story.settle(first)  # Held for failed, and yet it happened.
    if refunded:
        await story.refund(charge_id, refunded)
    await story.settle(second)
    async with db.connection() as conn:
        surplus = await conn.fetchval("SELECT id FROM refund WHERE reason = 'surplus'")
        assert [str(finding) for finding in await check(conn)] == []
    await story.settle_refund(surplus, state)
    async with db.connection() as conn:
        assert [str(finding) for finding in await check(conn)] == []
