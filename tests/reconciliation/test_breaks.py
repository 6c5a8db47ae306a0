"""A break stands for lines: it opens again with another one, and ends by itself only when each of its lines is right."""

from __future__ import annotations

from datetime import date
from typing import Any

from kinpay.primitives.ids import new_id
from kinpay.reconciliation.breaks import Break, Resolution
from tests.reconciliation.telling import breaks, line, pay, resolve, take
from tests.statements.conftest import Home, home, wall

__all__ = ["home"]


def shown(found: list[Break]) -> set[tuple[str, str, int]]:
    """What, state, and the amount that the provider tells."""
    return {(one.what.value, one.state, (one.theirs or {})["amount_minor"]) for one in found}


async def test_a_line_told_again_after_its_break_was_resolved_opens_it_again(home: Home) -> None:
    key = await pay(home, "2026-03-10 12:00")
    await take(home, date(2026, 3, 10), line(key, 700, wall("2026-03-10 12:00")))
    await take(home, date(2026, 3, 11), line(key, 700, wall("2026-03-11 12:00")))
    (found,) = await breaks(home)
    await resolve(home, found, Resolution.PROVIDER_CORRECTED)
    twice = line(key, 700, wall("2026-03-12 12:00"))
    assert (await take(home, date(2026, 3, 12), twice, twice)).breaks == 2
    (again,) = await breaks(home)
    assert (again.id, again.what, again.day) == (found.id, found.what, date(2026, 3, 12))
    assert (again.resolution, again.note, again.resolved_by) == (None, None, None)
    assert again.owner_id == found.owner_id or again.owner_id == home.family.payer_id
    assert len(again.lines) == 3, "everything that it stands for is shown"


async def test_another_wrong_amount_of_a_resolved_order_is_open(home: Home) -> None:
    key = await pay(home, "2026-03-14 12:00")
    await take(home, date(2026, 3, 14), line(key, 701, wall("2026-03-14 12:00")))
    (found,) = await breaks(home)
    await resolve(home, found, Resolution.EXPLAINED)
    await take(home, date(2026, 3, 15), line(key, 999_999, wall("2026-03-15 12:00")))
    assert shown(await breaks(home)) == {("doubled", "open", 999_999)}


async def test_every_line_that_a_break_stands_for_is_shown_with_it(home: Home) -> None:
    await take(home, date(2026, 3, 10), line("f" * 32, 7, wall("2026-03-10 12:00")))
    await take(home, date(2026, 3, 11), line("f" * 32, 7, wall("2026-03-11 12:00")))
    await take(home, date(2026, 3, 12), line("f" * 32, 70_000, wall("2026-03-12 12:00")))
    found = {one.what.value: one for one in await breaks(home)}
    lines: list[Any] = [(told["day"], told["number"], told["amount_minor"]) for told in found["doubled"].lines]
    assert lines == [("2026-03-11", 1, 7), ("2026-03-12", 1, 70_000)]
    assert [told["amount_minor"] for told in found["orphan"].lines] == [7]


async def test_a_wrong_line_stays_open_although_another_one_of_the_same_order_is_right(home: Home) -> None:
    key, at = await pay(home, "2026-03-10 12:00"), wall("2026-03-10 12:00")
    await take(home, date(2026, 3, 10), line(key, 70_000, at), line(key, 700, at))
    assert shown(await breaks(home, state=None)) == {("differing", "open", 70_000), ("doubled", "open", 700)}
    await take(home, date(2026, 3, 11))
    assert shown(await breaks(home)) == {("differing", "open", 70_000), ("doubled", "open", 700)}


async def test_what_was_noted_on_an_open_break_is_for_a_person_to_look_at(home: Home) -> None:
    """Recovery books a lost debit and notes that its seller is not known: that the books agree now is not the end of it."""
    key, at = await pay(home, "2026-03-10 12:00"), wall("2026-03-10 12:00")
    for note, state in (("seller not known", "open"), (None, "resolved")):
        async with home.db.transaction() as conn:
            await conn.execute("DELETE FROM recon_break")
            await conn.execute(
                "INSERT INTO recon_break (id, provider_account_id, day, what, kind, key, theirs, note, found_at)"
                " VALUES ($1, $2, '2026-03-10', 'orphan', 'debit', $3, $4, $5, kinpay_now())",
                new_id(), home.till.shop.provider_account_id, key,
                {"amount_minor": 700, "currency": "CNY", "debit_key": None, "finished_at": at.isoformat()}, note,
            )  # fmt: skip
        await take(home, date(2026, 3, 10 if note else 11), *([line(key, 700, at)] if note else []))
        assert [one.state for one in await breaks(home, state=None)] == [state]


async def test_a_line_whose_break_was_resolved_before_its_statement_came_stays_resolved(home: Home) -> None:
    """Recovery names what the provider tells of a day before that day is over."""
    key, at = "e" * 32, wall("2026-03-10 12:00")
    theirs = {"amount_minor": 700, "currency": "CNY", "debit_key": None, "finished_at": at.isoformat()}
    async with home.db.transaction() as conn:
        await conn.execute(
            "INSERT INTO recon_break (id, provider_account_id, day, what, kind, key, theirs, found_at)"
            " VALUES ($1, $2, '2026-03-10', 'orphan', 'debit', $3, $4, kinpay_now())",
            new_id(), home.till.shop.provider_account_id, key, theirs,
        )  # fmt: skip
    (found,) = await breaks(home)
    await resolve(home, found, Resolution.GIVEN_BACK)
    await take(home, date(2026, 3, 10), line(key, 700, at))
    assert [one.state for one in await breaks(home, state=None)] == ["resolved"]
    await take(home, date(2026, 3, 11), line(key, 700, at))
    assert [one.what.value for one in await breaks(home)] == ["doubled"]
