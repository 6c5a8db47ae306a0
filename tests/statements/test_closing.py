"""Months that are closed never change: what comes later is told where it happens, with a reference to where it belongs."""

from __future__ import annotations

import csv
from io import StringIO

import pytest

from kinpay.audit.check import check
from kinpay.charges.refund import refund_charge
from kinpay.primitives.spreadsheet import harmless
from kinpay.providers.contract import FailureCause
from kinpay.statements.close import close_months
from kinpay.statements.export import csv_text
from kinpay.statements.roll import roll_days
from kinpay.statements.statement import LateKind, Tally
from tests.statements.conftest import Home, figures, lines_of


async def _invariants(home: Home) -> set[str]:
    async with home.db.connection() as conn:
        return {f"{finding.invariant} {finding.table}" for finding in await check(conn, overdue_after=None)}


async def test_a_late_refund_is_told_in_its_own_month_and_march_stays_as_it_was(home: Home) -> None:
    await home.at("2026-03-10 12:00")
    lunch, tea = await home.till.pay(home.family, 1400), await home.till.pay(home.family, 300)
    await home.at("2026-03-31 23:00")
    await home.till.refund(tea, 300)
    await home.at("2026-04-04 00:01")
    assert await close_months(home.db) == 1
    march = await home.statement("2026-03")
    assert march.closed_at is not None
    assert march.hash is not None
    (kept,) = march.parts
    assert figures(kept.total) == (2, 1700, 300, 0)
    assert await close_months(home.db) == 0, "nothing else is due"

    await home.at("2026-04-10 09:00")
    await home.till.refund(lunch, 400)
    await home.till.pay(home.family, 500)
    assert await home.statement("2026-03") == march
    april = await home.part("2026-04")
    assert figures(april.total) == (1, 500, 400, 1400), "beside the month before"
    (late,) = april.late
    assert (late.kind, late.charge_id, late.month, late.amount_minor) == (LateKind.REFUNDED, lunch.id, "2026-03", 400)
    assert sum(line.net_minor for line in april.by_merchant) == april.total.net_minor == 100


async def test_a_refund_refused_after_the_closing_is_told_the_other_way(home: Home) -> None:
    await home.at("2026-03-10 12:00")
    lunch = await home.till.pay(home.family, 1400)
    await home.till.refund(lunch, 1400, succeeded=True)
    dinner = await home.till.pay(home.family, 2000)
    async with home.db.transaction() as conn:
        from_till = home.till.shop.terminal_id
        (refund_id,) = await refund_of(conn, dinner.id, 500, from_till)
    await home.at("2026-04-05 12:00")
    await close_months(home.db)
    assert (await home.part("2026-03")).total.refunded_minor == 1900
    await home.till.says_of_refund(refund_id, succeeded=False)
    assert (await home.part("2026-03")).total.refunded_minor == 1900
    april = await home.part("2026-04")
    assert (april.total.refunded_minor, [late.kind for late in april.late]) == (-500, [LateKind.REFUND_FAILED])


async def test_a_debt_paid_after_the_closing_is_told_when_it_is_paid(home: Home) -> None:
    await home.at("2026-03-10 12:00")
    charge = await home.till.ask(home.family, 900)
    debit_id = await home.till.capture(charge, delivered=True)
    assert debit_id is not None
    await home.till.says(debit_id, failure=FailureCause.FUNDS)
    await home.at("2026-04-05 12:00")
    await close_months(home.db)
    march = await home.part("2026-03")
    assert (march.unpaid.owed, march.total.gross_minor) == (Tally(1, 900), 0)
    await home.till.says(debit_id)
    april = await home.part("2026-04")
    assert figures(april.total) == (1, 900, 0, 0)
    assert [(late.kind, late.month, late.first) for late in april.late] == [(LateKind.DEBITED, "2026-03", True)]
    assert (await home.part("2026-03")).unpaid.owed == Tally(1, 900), "as it was told then"


async def test_a_month_is_open_for_some_days_and_is_closed_once(home: Home) -> None:
    await home.at("2026-03-31 23:59:58")
    held = await home.till.ask(home.family, 700)
    await home.at("2026-04-01 00:00:05")
    debit_id = await home.till.capture(held)
    assert debit_id is not None
    await home.till.says(debit_id)
    assert await close_months(home.db) == 0
    assert (await home.part("2026-03")).total.net_minor == 700, "reserved in March, so it is March's"
    await home.at("2026-04-04 00:00:01")
    assert await close_months(home.db) == 1
    assert await close_months(home.db) == 0
    assert await home.value("SELECT count(*) FROM outbox WHERE topic = 'notice.statement_closed'") == 1


async def test_days_are_summed_up_and_summed_up_anew_when_something_changes(home: Home) -> None:
    await home.at("2026-03-10 12:00")
    lunch = await home.till.pay(home.family, 1400)
    await home.till.ask(home.family, 99_999_999)
    open_one = await home.till.ask(home.family, 100)
    await home.at("2026-03-12 12:00")
    await home.till.pay(home.family, 200)
    before = await home.part("2026-03")
    await roll_days(home.db)
    assert await home.value("SELECT count(*) FROM rolled_day") == 0, "one charge of the 10th is still open, the 12th goes on"
    await home.till.void(open_one, reason="asked")
    await home.at("2026-03-13 02:00")
    await roll_days(home.db)
    assert await home.value("SELECT array_agg(day::text) FROM rolled_day") == ["2026-03-10", "2026-03-12"]
    after = await home.part("2026-03")
    assert (after.by_day, after.total) == (before.by_day, before.total)
    assert after.unpaid.refused == Tally(1, 99_999_999)

    await home.till.refund(lunch, 400)
    assert await home.value("SELECT array_agg(day::text) FROM rolled_day") == ["2026-03-12"]
    assert (await home.part("2026-03")).total.refunded_minor == 400
    await home.at("2026-03-13 04:00")
    await roll_days(home.db)
    assert await home.value("SELECT count(*) FROM rolled_day") == 2
    assert (await home.part("2026-03")).total.refunded_minor == 400


@pytest.mark.books_broken
async def test_sums_that_were_altered_are_found(home: Home) -> None:
    await home.at("2026-03-10 12:00")
    await home.till.pay(home.family, 1400)
    await home.at("2026-03-12 12:00")
    await roll_days(home.db)
    assert await _invariants(home) == set()
    await home.value("UPDATE rolled_day SET paid = jsonb_set(paid, '{0,gross_minor}', '1') RETURNING 1")
    assert await _invariants(home) == {"I4 projection rolled_day"}
    await home.value(
        "UPDATE rolled_day SET paid = jsonb_set(paid, '{0,gross_minor}', '1400'), unpaid = $1 RETURNING 1",
        [{"currency": "CNY", "spender_id": home.family.spender_id, "what": "owed", "count": 1, "amount_minor": 5}],
    )
    assert await _invariants(home) == {"I4 projection rolled_day"}


@pytest.mark.books_broken
@pytest.mark.parametrize("figures_too", [True, False])
async def test_a_closed_month_that_was_altered_is_found(home: Home, figures_too: bool) -> None:
    await home.at("2026-03-10 12:00")
    await home.till.pay(home.family, 1400)
    await home.at("2026-04-12 12:00")
    await close_months(home.db)
    assert await _invariants(home) == set()
    await home.value("ALTER TABLE statement_month DISABLE TRIGGER USER")
    if figures_too:
        await home.value("UPDATE statement_month SET paid = jsonb_set(paid, '{0,gross_minor}', '1') RETURNING 1")
    else:
        await home.value("UPDATE statement_month SET hash = '\\x00' RETURNING 1")
    await home.value("ALTER TABLE statement_month ENABLE TRIGGER USER")
    found = {name for name in await _invariants(home) if name.endswith("statement_month")}
    assert "I4 projection statement_month" in found
    assert len(found) == (1 if figures_too else 2), "the audit log keeps the hash, too"


async def test_each_charge_is_a_line_and_formulas_are_harmless(home: Home) -> None:
    evil = '=HYPERLINK("http://evil")'
    await home.value("UPDATE merchant SET name = $2 WHERE id = $1 RETURNING 1", home.till.shop.merchant_id, evil)
    await home.at("2026-03-10 12:00")
    lunch = await home.till.pay(home.family, 1400, reference="@SUM(A1)")
    await home.till.refund(lunch, 400)
    lines = await lines_of(home, "2026-03")
    (line,) = lines
    assert (line.at, line.gross, line.refunded, line.net) == ("2026-03-10 12:00:00", "14.00", "4.00", "10.00")
    assert line.state == "succeeded"
    read = list(csv.DictReader(StringIO(csv_text(lines).removeprefix("\ufeff"))))
    assert read[0]["merchant"].startswith("'=HYPERLINK")
    assert read[0]["reference"] == "'@SUM(A1)"
    assert read[0]["net"] == "10.00"
    await home.at("2026-04-05 12:00")
    await close_months(home.db)
    await home.till.refund(lunch, 100)
    assert (await lines_of(home, "2026-03")) == lines, "a closed month's lines stay, too"
    (late,) = await lines_of(home, "2026-04")
    assert (late.kind, late.charge_id, late.net, late.of_month) == ("refunded", lunch.id, "-1.00", "2026-03")


@pytest.mark.parametrize("cell", ["=1", "+1", "-1", "@a", "\tx", "\r=1", " =1", "＝1"])
def test_what_starts_like_a_formula_is_neutralised(cell: str) -> None:
    assert harmless(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["", "Canteen", "1=1", "王芳", "'=1"])
def test_other_text_is_left_alone(cell: str) -> None:
    assert harmless(cell) == cell


async def refund_of(conn: object, charge_id: str, amount_minor: int, actor_id: str) -> list[str]:
    """Opens a refund whose outcome is not known yet."""
    return await refund_charge(conn, charge_id, amount_minor=amount_minor, actor_id=actor_id)  # type: ignore[arg-type]
