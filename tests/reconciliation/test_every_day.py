"""No day is given up: what a late statement does not tell is missing, and a day that nobody read is told of."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from kinpay.charges.store import read_charges
from kinpay.cli.doctor.database import judge_work
from kinpay.cli.doctor.found import Verdict
from kinpay.database.pool import Database, database_now
from kinpay.primitives.errors import Invalid
from kinpay.providers.contract import NotExecuted, Provider
from kinpay.reconciliation.breaks import What
from kinpay.reconciliation.days import due_days, ready_at
from kinpay.reconciliation.reconcile_day import reconcile_day, reconcile_due
from kinpay.server.backlog import Backlog
from tests.charges.bank import AtBank, at_bank, bank, control, ear
from tests.charges.household import limit, terms
from tests.conftest import set_clock
from tests.reconciliation.telling import breaks, line, pay, take
from tests.statements.conftest import Home, home, wall

__all__ = ["at_bank", "bank", "control", "ear", "home"]

MARCH = [date(2026, 3, day) for day in range(1, 32)]


async def test_a_day_that_is_not_over_for_two_hours_is_refused(at_bank: AtBank) -> None:
    family = await at_bank.family(terms(limit(50_000)))
    await at_bank.buy(family, 1400)
    today, account_id = datetime.now(UTC).date(), at_bank.shop.provider_account_id
    for moment in (None, ready_at(today) - timedelta(minutes=1)):
        if moment is not None:
            async with at_bank.db.connection() as conn:
                await set_clock(conn, moment)
        with pytest.raises(Invalid) as refused:
            await reconcile_day(at_bank.db, at_bank.providers, provider_account_id=account_id, day=today)
        assert refused.value.detail["reason"] == "day_not_over"
    await at_bank.buy(family, 500)
    async with at_bank.db.connection() as conn:
        await set_clock(conn, ready_at(today))
    done = await reconcile_day(at_bank.db, at_bank.providers, provider_account_id=account_id, day=today)
    assert (done.lines, done.matched) == (2, 2), "what was bought later the same day is in it"


async def test_what_a_late_statement_does_not_tell_is_missing_when_it_has_come(home: Home) -> None:
    key = await pay(home, "2026-03-05 12:00")
    for day in MARCH[:4] + MARCH[5:15]:
        await take(home, day)
    assert await breaks(home) == [], "the fifth may still tell it"
    await take(home, date(2026, 3, 5))
    (found,) = await breaks(home)
    assert (found.what, found.key, found.day) == (What.MISSING, key, date(2026, 3, 5))


async def test_what_took_days_to_be_finished_waits_for_each_of_them(home: Home) -> None:
    await home.at("2026-03-05 12:00")
    charge = await home.till.ask(home.family, 700, capture=True)
    key = await home.till.capture(charge)
    assert key is not None
    await home.at("2026-03-09 12:00")
    await home.till.says(key)
    for day in (4, 6, 7, 8, 9, 10, 11, 12):
        await take(home, date(2026, 3, day))
    assert await breaks(home) == []
    await take(home, date(2026, 3, 5))
    (found,) = await breaks(home)
    assert (found.what, found.key) == (What.MISSING, key)


async def test_a_late_statement_that_tells_it_leaves_nothing_behind(home: Home) -> None:
    key = await pay(home, "2026-03-05 12:00")
    await take(home, date(2026, 3, 4))
    await take(home, date(2026, 3, 6))
    assert await home.value("SELECT count(*) FROM recon_untold") == 1
    await take(home, date(2026, 3, 5), line(key, 700, wall("2026-03-05 12:00")))
    assert await home.value("SELECT count(*) FROM recon_untold") == 0
    assert await breaks(home, state=None) == []


async def test_a_refund_that_no_statement_tells_is_missing(home: Home) -> None:
    key = await pay(home, "2026-03-05 12:00")
    charge_id = await home.value("SELECT charge_id FROM charge_debit WHERE debit_id = $1", key)
    async with home.db.connection() as conn:
        charge = (await read_charges(conn, [charge_id]))[charge_id]
    await home.at("2026-03-06 12:00")
    await home.till.refund(charge, 300)
    await take(home, date(2026, 3, 5), line(key, 700, wall("2026-03-05 12:00")))
    assert await breaks(home) == []
    await take(home, date(2026, 3, 6))
    (found,) = await breaks(home)
    assert (found.what, found.kind, (found.ours or {})["debit_key"]) == (What.MISSING, "refund", key)


class Away:
    """Providers that cannot be reached; counts how often they were asked for."""

    asked = 0

    async def adapter(self, provider_account_id: str) -> Provider:
        """Nobody."""
        Away.asked += 1
        raise NotExecuted(provider_account_id)


async def _due(db: Database) -> list[date]:
    async with db.connection() as conn:
        return [row["day"] for row in await due_days(conn, now=await database_now(conn))]


async def test_a_statement_is_asked_for_without_end_and_a_day_that_never_comes_is_told_of(home: Home) -> None:
    await home.at("2026-03-04 12:00")
    assert await _due(home.db) == [date(2026, 2, 28), *MARCH[:3]], "the account was opened at eight minutes to the first"
    for day in [date(2026, 2, 28), MARCH[0], *MARCH[2:20]]:
        await take(home, day)
    await home.at("2026-05-21 12:00")
    assert (await _due(home.db))[0] == date(2026, 3, 2), "two months later"
    Away.asked = 0
    assert await reconcile_due(home.db, Away()) == 50
    assert Away.asked == 50
    reason = "SELECT reason FROM recon_unread WHERE day = '2026-03-02'"
    assert await home.value(reason) == "NotExecuted"
    assert date(2026, 3, 2) not in await _due(home.db), "the others' turn, before it is asked for again"
    await home.at("2026-05-21 12:30")
    assert date(2026, 3, 2) in await _due(home.db)
    numbers = await Backlog(home.db).read()
    assert numbers is not None
    overdue = wall("2026-05-21 12:30") - ready_at(date(2026, 3, 2))
    assert numbers["statement_overdue_s"] == pytest.approx(overdue.total_seconds(), abs=60)
    (said,) = [found for found in judge_work(quiet(numbers)) if found.about == "statements"]
    assert said.verdict is Verdict.WARNING
    for day in [MARCH[1], *MARCH[20:], *(date(2026, 4, 1) + timedelta(days=n) for n in range(50))]:
        await take(home, day)
    later = await Backlog(home.db).read()
    assert later is not None
    assert later["statement_overdue_s"] == 0
    assert await home.value("SELECT count(*) FROM recon_unread WHERE day = '2026-03-02'") == 0


def quiet(numbers: Any) -> dict[str, Any]:
    """The numbers as the doctor gets them."""
    return dict(numbers)


async def test_an_account_that_is_switched_off_is_read_until_all_could_be_told(home: Home) -> None:
    key = await pay(home, "2026-03-05 12:00")
    async with home.db.transaction() as conn:
        await conn.execute("UPDATE provider_account SET enabled = false")
    await home.at("2026-03-20 12:00")
    assert await _due(home.db) == [date(2026, 2, 28), *MARCH[:6]]
    numbers = await Backlog(home.db).read()
    assert numbers is not None
    assert (numbers["statement_overdue_s"] or 0) > 86_400
    for day in [date(2026, 2, 28), *MARCH[:4], MARCH[5]]:
        await take(home, day)
    assert await _due(home.db) == [date(2026, 3, 5)]
    await take(home, date(2026, 3, 5), line(key, 700, wall("2026-03-05 12:00")))
    assert await _due(home.db) == []
    numbers = await Backlog(home.db).read()
    assert numbers is not None
    assert numbers["statement_overdue_s"] is None
