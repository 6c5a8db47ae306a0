"""What a closed month shows stays as it was then, every word of it; and no month with anything to tell stays open for ever."""

from __future__ import annotations

import pytest

from kinpay.mandates.zone import change_time_zone
from kinpay.providers.contract import FailureCause
from kinpay.statements import close
from kinpay.statements.close import close_months
from kinpay.statements.statement import LateKind, Part, Tally
from tests.charges.household import proof_of
from tests.statements.conftest import Home, figures, lines_of


async def rename(home: Home) -> None:
    """Merchant and people get other names."""
    await home.value("UPDATE merchant SET name = 'Renamed' WHERE id = $1 RETURNING 1", home.till.shop.merchant_id)
    await home.value("UPDATE person SET display_name = 'Renamed' RETURNING 1")


async def move_to(home: Home, time_zone: str) -> None:
    async with home.db.transaction() as conn:
        family, proof = home.family, await proof_of(conn, home.family.payer_id)
        await change_time_zone(conn, circle_id=family.circle_id, payer_id=family.payer_id, time_zone=time_zone, proof_id=proof)


async def test_names_states_and_wall_times_of_a_closed_month_stay(home: Home) -> None:
    await home.at("2026-03-31 20:59:59")
    await home.till.pay(home.family, 100)
    await home.at("2026-03-31 21:00")
    owed = await home.till.capture(await home.till.ask(home.family, 900), delivered=True)
    assert owed is not None
    await home.till.says(owed, failure=FailureCause.FUNDS)
    await home.at("2026-04-05 12:00")
    assert await close_months(home.db) == 1
    statement, lines = await home.statement("2026-03"), await lines_of(home, "2026-03")
    assert [(line.at, line.utc_offset, line.state) for line in lines] == [
        ("2026-03-31 20:59:59", "+08:00", "succeeded"),
        ("2026-03-31 21:00:00", "+08:00", "arrears"),
    ]
    await home.till.says(owed)
    await rename(home)
    await move_to(home, "Pacific/Auckland")
    assert await home.statement("2026-03") == statement
    assert await lines_of(home, "2026-03") == lines
    april = await home.statement("2026-04")
    assert (april.time_zone, april.parts[0].by_merchant[0].name) == ("Pacific/Auckland", "Renamed")


async def test_a_month_with_nothing_but_what_is_late_is_closed_too(home: Home) -> None:
    await home.at("2026-03-10 12:00")
    lunch = await home.till.pay(home.family, 1400)
    await home.at("2026-04-05 12:00")
    await close_months(home.db)
    await home.till.refund(lunch, 400)
    await home.at("2026-05-10 12:00")
    assert await close_months(home.db) == 1
    april = await home.statement("2026-04")
    assert april.closed_at is not None
    assert figures(april.parts[0].total) == (0, 0, 400, 1400)
    assert await close_months(home.db) == 0, "May has nothing to tell"


async def test_a_zone_that_is_changed_leaves_no_month_behind(home: Home) -> None:
    """On the wall of the new zone, March's last charge was made in April; it was made in March."""
    await home.at("2026-03-31 21:00")
    await home.till.pay(home.family, 1400)
    await home.at("2026-04-01 12:00")
    await move_to(home, "Pacific/Auckland")
    await home.till.pay(home.family, 100)
    await home.at("2026-04-05 12:00")
    assert await close_months(home.db) == 1
    await home.at("2026-05-10 12:00")
    assert await close_months(home.db) == 1
    for month, net_minor in (("2026-03", 1400), ("2026-04", 100)):
        statement = await home.statement(month)
        assert (statement.closed_at is not None, statement.parts[0].total.net_minor) == (True, net_minor)


async def test_what_was_pending_and_came_to_nothing_is_told(home: Home) -> None:
    await home.at("2026-03-31 12:00")
    debit_id = await home.till.capture(await home.till.ask(home.family, 900))
    assert debit_id is not None
    await home.at("2026-04-05 12:00")
    await close_months(home.db)
    assert (await home.part("2026-03")).unpaid.pending == Tally(1, 900)
    await home.till.says(debit_id, failure=FailureCause.FUNDS)
    april = await home.part("2026-04")
    (late,) = april.late
    assert (late.kind, late.month, late.amount_minor) == (LateKind.DROPPED, "2026-03", 900)
    assert (figures(april.total), april.by_merchant) == ((0, 0, 0, 0), ()), "no money moved"
    await home.at("2026-05-05 12:00")
    assert await close_months(home.db) == 1
    assert (await home.part("2026-04")).late == (late,)


async def test_the_month_before_adds_up_where_this_one_has_nothing(home: Home) -> None:
    await home.at("2026-03-10 12:00")
    await home.till.pay(home.family, 1400)
    await home.at("2026-04-10 12:00")
    part = await home.part("2026-04")
    assert figures(part.total) == (0, 0, 0, 1400)
    assert _before(part) == [1400] * 4
    await home.till.pay(home.family, 300)
    part = await home.part("2026-04")
    assert (figures(part.total), _before(part)) == ((1, 300, 0, 1400), [1400] * 4)


def _before(part: Part) -> list[int]:
    groups = (part.by_spender, part.by_payer, part.by_merchant, part.by_category)
    return [sum(line.before_net_minor for line in group) for group in groups]


@pytest.mark.books_broken  # A circle of no history, in no zone that there is.
async def test_circles_that_cannot_be_closed_hold_up_none_behind_them(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(close, "AT_ONCE", 1)
    await home.at("2026-03-10 12:00")
    await home.till.pay(home.family, 1400)
    broken = "00000000000000000000000000000001"
    await home.value(
        "INSERT INTO circle"
        " SELECT (jsonb_populate_record(c, jsonb_build_object('id', $1::text, 'time_zone', 'Nowhere/Land'))).*"
        " FROM circle c RETURNING 1",
        broken,
    )
    await home.value(
        "INSERT INTO charge SELECT (jsonb_populate_record(h, jsonb_build_object('id', $1::text, 'circle_id', $1::text))).*"
        " FROM charge h RETURNING 1",
        broken,
    )
    await home.at("2026-04-10 12:00")
    assert await close_months(home.db) == 1
