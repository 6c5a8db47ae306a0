"""A charge debited twice gives the second debit back, whatever was refunded before and whatever the provider says of it."""

from __future__ import annotations

import pytest

from kinpay.audit.check import check
from kinpay.charges.reconcile import retry_owed
from kinpay.database.pool import Database
from kinpay.providers.contract import DebitState, Misconfigured, Provider
from tests.audit import story as stories


class Away:
    """No provider can be reached."""

    async def adapter(self, provider_account_id: str) -> Provider:
        """Raises: Misconfigured, always."""
        raise Misconfigured("away")


@pytest.mark.parametrize("refunded_before_minor", [0, 100, 500])
@pytest.mark.parametrize("outcome", [DebitState.SUCCEEDED, DebitState.FAILED])
async def test_a_surplus_goes_back_and_the_books_hold(db: Database, outcome: DebitState, refunded_before_minor: int) -> None:
    """Owed, tried again, and then both debits turn out to have happened."""
    story = await stories.begin(db, families=1)
    charge_id = await story.ask(story.families[0], 500)
    first = await story.capture(charge_id, delivered=True)
    await story.settle(first, DebitState.FAILED)
    await retry_owed(db, Away(), charge_id)
    async with db.connection() as conn:
        second = await conn.fetchval("SELECT id FROM debit WHERE state = 'submitted'")
    await story.settle(first)
    if refunded_before_minor:
        await story.refund(charge_id, refunded_before_minor)
    await story.settle(second)
    async with db.connection() as conn:
        surplus = await conn.fetchval("SELECT id FROM refund WHERE reason = 'surplus'")
    await story.settle_refund(surplus, outcome)
    async with db.connection() as conn:
        assert [str(finding) for finding in await check(conn, overdue_after=None)] == []
        refunded = await conn.fetchval("SELECT refunded_minor FROM charge WHERE id = $1", charge_id)
    assert refunded == refunded_before_minor
