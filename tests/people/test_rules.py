"""What needs no database: ages and life cycles."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from kinpay.people.circle import CIRCLE_LIFE, CircleState, Role
from kinpay.people.person import PERSON_LIFE, PersonState, is_adult

SCHEMA = (Path(__file__).parents[2] / "kinpay/database/migrations/0001_house.sql").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("born", "today", "adult"),
    [
        (date(2008, 3, 2), date(2026, 3, 1), False),
        (date(2008, 3, 2), date(2026, 3, 2), True),
        (date(2008, 2, 29), date(2026, 2, 28), False),
        (date(2008, 2, 29), date(2026, 3, 1), True),
        (date(2084, 2, 29), date(2102, 2, 28), False),
        (date(1940, 1, 1), date(2026, 3, 1), True),
        (None, date(2026, 3, 1), False),
    ],
)
def test_of_age_on_the_eighteenth_birthday(born: date | None, today: date, adult: bool) -> None:
    assert is_adult(born, today) is adult


def test_every_state_is_reachable_and_the_schema_knows_the_same() -> None:
    assert PERSON_LIFE.reachable() == set(PersonState)
    assert CIRCLE_LIFE.reachable() == set(CircleState)
    for enum in (PersonState, CircleState, Role):
        assert f"({', '.join(repr(str(member)) for member in enum)})" in SCHEMA
