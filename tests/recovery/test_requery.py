"""The re-query itself: what keeps it closed, what does not, one order apart from the other, one run at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from typing import Any

import pytest

from kinpay.charges.charge import ChargeState
from kinpay.charges.reconcile import reconcile_debits
from kinpay.cli.backing_up import _report
from kinpay.primitives.errors import Conflict
from kinpay.providers.contract import NotKnown, StatementLine
from kinpay.providers.sandbox_bank.adapter import SandboxBank
from kinpay.recovery import gap
from kinpay.recovery.gap import ask_again
from kinpay.recovery.lost_debit import book_lost_debit
from tests.charges.bank import PUBLIC_URL, AtBank
from tests.charges.household import limit, terms
from tests.recovery.lost import Lost, Snapshots, refund

DAY = terms(limit(5_000))


@pytest.fixture
def late_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that has a day's statement on the next day."""
    whole = SandboxBank.statement

    async def statement(self: SandboxBank, day: date) -> AsyncIterator[StatementLine]:
        if day >= datetime.now(UTC).date():
            raise NotKnown("no statement yet")
        async for line in whole(self, day):
            yield line

    monkeypatch.setattr(SandboxBank, "statement", statement)


async def _nobody_listens(lost: Lost) -> None:
    async with lost.db.transaction() as conn:
        await conn.execute('UPDATE provider_account SET config = config || \'{"base_url": "http://127.0.0.1:9"}\'')


@pytest.mark.usefixtures("late_statements")
async def test_a_provider_whose_statements_come_on_the_next_day_opens_on_the_next_day(
    at_bank: AtBank, snapshots: Snapshots
) -> None:
    await at_bank.family(DAY)
    async with snapshots.taken() as lost:
        asked = await lost.ask()
        assert (len(asked.silent), asked.opened) == (1, False)
        async with lost.db.transaction() as conn:
            await conn.execute(
                "UPDATE restoration SET point_at = point_at - interval '1 day', restored_at = restored_at - interval '1 day'"
            )
        asked = await lost.ask()
        assert (asked.silent, asked.opened) == ([], True), "after the restore nobody was debited"


@pytest.mark.usefixtures("late_statements")
async def test_nothing_is_sent_before_every_statement_was_read(at_bank: AtBank, snapshots: Snapshots) -> None:
    """The fallback that was lost stands in a statement that is not there yet."""
    family = await at_bank.family(DAY, balances=(500, 100_000))
    await at_bank.control.misbehave("debit", "drop_after_commit")
    unknown = await at_bank.buy(family, 1400)
    async with snapshots.taken() as lost:
        await at_bank.make_due()
        await reconcile_debits(at_bank.db, at_bank.providers)
        asked = await lost.ask()
        assert asked.silent
        assert (await lost.charge(unknown.id)).state is ChargeState.SUBMITTED
        assert await lost.at_bank() == ([1400], [])


async def test_one_that_cannot_be_booked_holds_up_no_other(
    at_bank: AtBank, snapshots: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = await at_bank.family(DAY)
    async with snapshots.taken() as lost:
        keys = [key for _ in range(2) for key in await at_bank.debit_keys((await at_bank.buy(family, 500)).id)]
        book = book_lost_debit

        async def poisoned(conn: Any, known: Any, *, account_id: str) -> Any:
            if known.debit.key == keys[0]:
                await conn.execute("SELECT 1/0")
            return await book(conn, known, account_id=account_id)

        with monkeypatch.context() as patched:
            patched.setattr(gap, "book_lost_debit", poisoned)
            asked = await lost.ask()
        assert asked.objections == {f"debit {keys[0]}": "error_DivisionByZeroError"}
        assert (asked.booked, asked.opened) == ([f"debit {keys[1]}"], False)
        assert await lost.rows("SELECT key, state FROM recon_break ORDER BY state") == [
            (keys[0], "open"),
            (keys[1], "resolved"),
        ]
        assert (await lost.ask()).opened
        await lost.agrees_with_bank()


async def test_two_at_once_are_one_and_another_that_says_so(at_bank: AtBank, snapshots: Snapshots) -> None:
    family = await at_bank.family(DAY)
    bought = await at_bank.buy(family, 1000, delivered=True)
    async with snapshots.taken() as lost:
        for _ in range(3):
            await refund(at_bank, bought.id, 100)
        done = await asyncio.gather(lost.ask(), lost.ask(), return_exceptions=True)
        assert sorted(type(one).__name__ for one in done) == ["Asked", "Conflict"]
        await lost.agrees_with_bank()
        async with gap._one_at_a_time(lost.db):
            with pytest.raises(Conflict):
                await lost.ask()
            assert await ask_again(lost.outside, lost.providers, public_url=PUBLIC_URL) == 0
        await lost.ask()


async def test_one_that_was_opened_anyway_says_that_it_is_open(
    at_bank: AtBank, snapshots: Snapshots, capsys: pytest.CaptureFixture[str]
) -> None:
    await at_bank.family(DAY)
    async with snapshots.taken() as lost:
        await _nobody_listens(lost)
        assert _report(await lost.ask()) == 1
        assert "it stays closed" in capsys.readouterr().out
        assert _report(await lost.ask(open_anyway="the bank is closed for a week")) == 0
        assert _report(await lost.ask()) == 0
        assert "it was open already" in capsys.readouterr().out


async def test_orders_are_asked_for_several_at_once(
    at_bank: AtBank, snapshots: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = await at_bank.family(terms(limit(500_000)))
    running = most = 0
    look_up = SandboxBank.look_up_debit

    async def counted(self: SandboxBank, key: str) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            return await look_up(self, key)
        finally:
            running -= 1

    monkeypatch.setattr(SandboxBank, "look_up_debit", counted)
    async with snapshots.taken() as lost:
        for _ in range(10):
            await at_bank.buy(family, 10)
        asked = await lost.ask()
        assert (len(asked.booked), asked.opened) == (10, True)
        assert most == 8
        await lost.agrees_with_bank()
