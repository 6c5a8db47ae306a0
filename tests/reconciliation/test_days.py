"""A provider's day against our books: exactly the planted breaks are named, and each comes to an end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime

import pytest

from kinpay.charges.charge import ChargeState
from kinpay.database.pool import Database, database_now
from kinpay.primitives.errors import Busy, Conflict, NotFound, WrongState
from kinpay.primitives.ids import new_id
from kinpay.providers.contract import FailureCause, StatementLine
from kinpay.reconciliation.breaks import Resolution, What
from kinpay.reconciliation.days import ready_at
from kinpay.reconciliation.reconcile_day import reconcile_day, take_statement
from kinpay.reconciliation.resolve import assign_break, days_of, resolve_break
from tests.charges.bank import AtBank, at_bank, bank, control, ear
from tests.charges.household import limit, terms
from tests.conftest import set_clock
from tests.reconciliation.planted import nothing, plant, reconcile
from tests.reconciliation.telling import breaks, line, take
from tests.statements.conftest import Home, home, wall

__all__ = ["at_bank", "bank", "control", "ear", "home"]


@pytest.mark.books_broken  # debits out of nowhere
async def test_exactly_the_planted_breaks_are_named(db: Database) -> None:
    async with db.transaction() as conn:
        planted = await plant(conn, lines=2_000, breaks=7)
    assert await reconcile(db, planted) == planted.breaks
    async with db.connection() as conn:
        row = await conn.fetchrow("SELECT lines, matched, breaks FROM provider_statement ORDER BY lines DESC LIMIT 1")
    assert row["lines"] == len(planted.lines)
    assert row["matched"] == row["lines"] - 7 * 4, "what is missing is no line"
    assert row["breaks"] == 7 * 5


async def test_around_midnight_nothing_is_missing_before_both_days_were_told(home: Home) -> None:
    """Eight in the morning in Shanghai is midnight of the provider's day: its clock decides in which statement the line is."""
    await home.at("2026-03-10 07:59:58")
    charge = await home.till.pay(home.family, 700)
    key = await home.value("SELECT debit_id FROM charge_debit WHERE charge_id = $1", charge.id)
    await take(home, date(2026, 3, 9))
    assert await breaks(home) == [], "the next day may still tell it"
    await take(home, date(2026, 3, 10), line(key, 700, wall("2026-03-10 08:00:01")))
    assert await breaks(home, state=None) == []


async def test_what_no_statement_tells_is_missing_and_appears_if_it_comes_after_all(home: Home) -> None:
    await home.at("2026-03-10 12:00")
    charge = await home.till.pay(home.family, 700)
    key = await home.value("SELECT debit_id FROM charge_debit WHERE charge_id = $1", charge.id)
    await take(home, date(2026, 3, 10))
    (found,) = await breaks(home)
    assert (found.what, found.key, found.theirs) == (What.MISSING, key, None)
    assert found.ours is not None
    assert found.ours["amount_minor"] == 700
    await take(home, date(2026, 3, 12), line(key, 700, wall("2026-03-12 12:00")))
    assert await breaks(home) == []
    (ended,) = await breaks(home, state="resolved")
    assert (ended.resolution, ended.resolved_by) == (Resolution.APPEARED, None)


async def test_a_day_is_reconciled_once_and_a_statement_cut_short_is_not_kept(home: Home) -> None:
    await home.at("2026-03-12 12:00")

    async def cut() -> AsyncIterator[StatementLine]:
        yield line(new_id(), 5, wall("2026-03-10 12:00"))
        raise ConnectionError

    account = home.till.shop.provider_account_id
    with pytest.raises(Busy):
        await take_statement(home.db, cut(), provider_account_id=account, day=date(2026, 3, 10))
    assert await home.value("SELECT count(*) FROM provider_line") == 0
    await take(home, date(2026, 3, 10))
    with pytest.raises(Conflict):
        await take(home, date(2026, 3, 10))
    with pytest.raises(NotFound):
        await take_statement(home.db, nothing(), provider_account_id=new_id(), day=date(2026, 3, 10))


async def test_a_break_has_an_owner_and_a_resolution(home: Home) -> None:
    await take(home, date(2026, 3, 10), line("f" * 32, 99, wall("2026-03-10 12:00")))
    (found,) = await breaks(home)
    operator_id, staff = home.till.shop.operator_id, home.family.payer_id
    async with home.db.transaction() as conn:
        now = await database_now(conn)
        with pytest.raises(NotFound):
            await assign_break(conn, operator_id=operator_id, break_id=found.id, owner_id=staff, actor_id=staff, now=now)
        await conn.execute("INSERT INTO staff VALUES ($1, $2, 'support', $3)", operator_id, staff, now)
        mine = await assign_break(conn, operator_id=operator_id, break_id=found.id, owner_id=staff, actor_id=staff, now=now)
        assert mine.owner_id == staff
        with pytest.raises(NotFound):
            await assign_break(conn, operator_id=new_id(), break_id=found.id, owner_id=staff, actor_id=staff, now=now)
        ended = await resolve_break(
            conn,
            operator_id=operator_id,
            break_id=found.id,
            resolution=Resolution.EXPLAINED,
            note="another system's order",
            actor_id=staff,
            now=now,
        )
        assert (ended.state, ended.resolution, ended.resolved_by) == ("resolved", Resolution.EXPLAINED, staff)
        with pytest.raises(WrongState):
            await resolve_break(
                conn,
                operator_id=operator_id,
                break_id=found.id,
                resolution=Resolution.WRITTEN_OFF,
                note="again",
                actor_id=staff,
                now=now,
            )
        (day,) = await days_of(conn, operator_id, before=None, limit=10)
        assert (day["lines"], day["matched"], day["breaks"], day["open"]) == (1, 0, 1, 0)


async def test_a_debt_held_for_refused_differs_from_a_statement_that_has_it(home: Home) -> None:
    await home.at("2026-03-10 12:00")
    charge = await home.till.ask(home.family, 900)
    debit_id = await home.till.capture(charge, delivered=True)
    assert debit_id is not None
    await home.till.says(debit_id, failure=FailureCause.FUNDS)
    await take(home, date(2026, 3, 10), line(debit_id, 900, wall("2026-03-10 12:00:05")))
    (found,) = await breaks(home)
    assert (found.what, (found.ours or {})["state"]) == (What.DIFFERING, "failed")
    await home.till.says(debit_id)
    await take(home, date(2026, 3, 11))
    assert [one.resolution for one in await breaks(home, state="resolved")] == [Resolution.SETTLED]


async def test_the_banks_own_statement_agrees_and_what_we_did_not_know_is_asked_for(at_bank: AtBank) -> None:
    """A real bank: paid, given back, and paid with an answer that never came; its signed statement tells all three."""
    family = await at_bank.family(terms(limit(50_000)))
    await at_bank.buy(family, 1400)
    await at_bank.control.misbehave("debit", "drop_after_commit")
    lost = await at_bank.buy(family, 300)
    assert lost.state is ChargeState.SUBMITTED
    today = datetime.now(UTC).date()
    account_id = at_bank.shop.provider_account_id
    async with at_bank.db.connection() as conn:
        await set_clock(conn, ready_at(today))
    done = await reconcile_day(at_bank.db, at_bank.providers, provider_account_id=account_id, day=today)
    assert done.lines >= 2
    assert (await family.charge(lost.id)).state is ChargeState.SUCCEEDED, "the statement had it, so the bank was asked"
    async with at_bank.db.connection() as conn:
        rows = await conn.fetch(
            "SELECT what, state, resolution FROM recon_break WHERE key = ANY($1)",
            await at_bank.debit_keys(lost.id),
        )
    assert [tuple(row) for row in rows] == [("differing", "resolved", "settled")]
    with pytest.raises(Conflict):
        await reconcile_day(at_bank.db, at_bank.providers, provider_account_id=account_id, day=today)
