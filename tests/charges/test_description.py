"""What a provider is told of a debit is read again to the last digit, and is never longer than the narrowest one takes."""

from __future__ import annotations

import random
from datetime import date

import pytest

from kinpay.charges.description import LONGEST, Part, describe_day, describe_one, digest_of, read_description
from kinpay.primitives.ids import new_id

DAY = date(2026, 11, 22)


def _parts(count: int, *, amount_minor: int = 0) -> list[Part]:
    chance = random.Random(count)
    return [
        Part(
            charge_id=new_id(),
            terminal_id=new_id(),
            spender_id=new_id(),
            amount_minor=amount_minor or chance.choice((1, 127, 128, 16_383, 16_384, 10**6)),
        )
        for _ in range(count)
    ]


def test_one_purchase_names_itself_and_the_end_of_its_terminal() -> None:
    charge_id, terminal_id = new_id(), new_id()
    said = read_description(describe_one(charge_id, terminal_id=terminal_id))
    assert said is not None
    assert said.day is None
    assert said.parts is not None
    assert [(part.charge_id, part.mark, part.terminal_end) for part in said.parts] == [
        (charge_id, charge_id[-8:], terminal_id[-8:])
    ]


@pytest.mark.parametrize("count", range(1, 41))
def test_a_day_tells_as_much_of_each_charge_as_fits(count: int) -> None:
    parts = _parts(count)
    written = describe_day(DAY, parts)
    assert len(written) <= LONGEST
    assert written.isascii()
    assert written == describe_day(DAY, parts[::-1]), "sent again under its key it has to be the same"
    said = read_description(written)
    assert said is not None
    assert said.day == DAY
    if said.parts is None:
        assert said.digest == digest_of([part.charge_id for part in parts])
        return
    assert [part.mark for part in said.parts] == [part.charge_id[-8:] for part in sorted(parts, key=lambda one: one.charge_id)]
    for told, part in zip(said.parts, sorted(parts, key=lambda one: one.charge_id), strict=True):
        assert told.charge_id in (None, part.charge_id)
        if told.amount_minor is not None:
            assert (told.amount_minor, told.terminal_end, told.spender_end) == (
                part.amount_minor, part.terminal_id[-8:], part.spender_id[-8:],
            )  # fmt: skip


def test_how_many_charges_each_form_has_room_for() -> None:
    """docs/backup.md says so."""
    most = {}
    for count in range(1, 41):
        most[describe_day(DAY, _parts(count, amount_minor=10_000)).split(" ")[2][0]] = count
    assert most == {"i": 5, "m": 9, "n": 33, "d": 40}


@pytest.mark.parametrize(
    "written",
    ["", "kinpay", "kinpay 2026-13-40", "kinpay 2026-11-22 x00", "kinpay 2026-11-22 iAAAA", "kinpay 2026-11-22 mAAAAAAAA_w"],
)
def test_what_is_not_ours_is_not_read(written: str) -> None:
    assert read_description(written) is None


def test_a_day_that_tells_nothing_of_its_charges_is_still_a_day() -> None:
    said = read_description("kinpay 2026-11-22")
    assert said is not None
    assert (said.day, said.parts, said.digest) == (DAY, None, None)
