"""The grammar of limits and conditions: what may be written, what is said by silence, and the page that explains it."""

from __future__ import annotations

import json
import re
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from kinpay.charges.compile import bounds_of
from kinpay.charges.standing import Scope
from kinpay.mandates.terms import Terms


def _examples() -> list[Any]:
    page = (Path(__file__).parents[2] / "docs" / "limits.md").read_text()
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL)]


@pytest.mark.parametrize("example", _examples(), ids=lambda example: ",".join(example)[:40])
def test_the_examples_of_the_page_are_what_they_say(example: dict[str, Any]) -> None:
    written = example
    if "kind" in example:
        written = {"currency": "CNY", "conditions": [example]}
    elif "metric" in example:
        written = {"currency": "CNY", "limits": [example]}
    canonical = Terms.model_validate(written).canonical()
    assert Terms.model_validate(canonical).canonical() == canonical


@pytest.mark.parametrize(
    "limit",
    [
        {"window": "trailing", "at_most": 1},
        {"window": "day", "trailing_s": 3600, "at_most": 1},
        {"window": "trailing", "trailing_s": 9, "at_most": 1},
        {"window": "trailing", "trailing_s": 32 * 86400, "at_most": 1},
        {"window": "fortnight", "at_most": 1},
        {"window": "lifetime", "alignment": "consent", "at_most": 1},
        {"window": "month", "week_start": 7, "at_most": 1},
        {"window": "week", "week_start": 7, "alignment": "consent", "at_most": 1},
        {"window": "month", "alignment": "consent", "proration": "first_period", "at_most": 1},
        {"window": "lifetime", "proration": "first_period", "at_most": 1},
        {"window": "per_payment", "refunds": "keep", "at_most": 1},
    ],
)
def test_words_that_do_not_go_together(limit: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Terms.model_validate({"currency": "CNY", "limits": [{"metric": "amount", **limit}]})


def test_what_is_said_by_silence_is_left_out() -> None:
    said = {"alignment": "calendar", "week_start": 1, "proration": "none", "refunds": "restore"}
    aloud = Terms.model_validate({"currency": "CNY", "limits": [{"metric": "amount", "window": "day", "at_most": 1, **said}]})
    silent = Terms.model_validate({"currency": "CNY", "limits": [{"metric": "amount", "window": "day", "at_most": 1}]})
    assert aloud.hash() == silent.hash()
    assert not said.keys() & aloud.canonical()["limits"][0].keys()


HALF_PAST_SIX = {"opens": "06:30", "closes": "18:30"}
NINE = {"opens": "09:00", "closes": "21:00"}
SCHOOL = {"kind": "hours", "calendar": {"off": ["2026-04-06"]}}


@pytest.mark.parametrize(
    "conditions",
    [
        [{**SCHOOL, "open": [HALF_PAST_SIX], "days": "school"}, {**SCHOOL, "open": [NINE], "days": "other"}],
        [{**SCHOOL, "open": [HALF_PAST_SIX]}, {**SCHOOL, "open": [{**NINE, "days": "other"}]}],
        [{"kind": "hours", "open": [{**NINE, "days": "other"}]}],
    ],
    ids=["apart", "apart by opening", "days of no calendar"],
)
def test_hours_that_could_never_be_open_are_refused(conditions: list[dict[str, Any]]) -> None:
    with pytest.raises(ValidationError):
        Terms.model_validate({"currency": "CNY", "conditions": conditions})


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        ("2026-03-02 07:00", True),  # a Monday
        ("2026-03-02 19:00", False),
        ("2026-03-07 07:00", False),  # a Saturday
        ("2026-03-07 19:00", True),
        ("2026-04-06 19:00", True),  # a Monday without school
    ],
)
def test_hours_of_school_days_and_of_others_are_said_together(moment: str, is_open: bool) -> None:
    said = {**SCHOOL, "open": [HALF_PAST_SIX, {**NINE, "days": "other"}]}
    terms = Terms.model_validate({"currency": "CNY", "conditions": [said]}).canonical()
    bounds = bounds_of(terms, scope=Scope.MANDATE, counters={}, anchor=date(2026, 3, 1), time_zone="Asia/Shanghai")
    (hours,) = bounds.conditions.hours
    assert hours.is_open(datetime.fromisoformat(moment)) is is_open


@pytest.mark.parametrize("day", ["2026-02-30", "26-02-01", "2026-2-1", "tomorrow", "2026-02-01T00:00:00"])
def test_a_day_is_a_day(day: str) -> None:
    with pytest.raises(ValidationError):
        Terms.model_validate({"currency": "CNY", "valid_from": day})


@pytest.mark.parametrize("day", ["9999-12-31", "2200-01-01", "1999-12-31", "0001-01-01"])
def test_a_day_that_nobody_can_mean_is_refused_and_read_where_it_is_kept(day: str) -> None:
    calendar = {"open": [{"opens": "06:00", "closes": "24:00"}], "calendar": {"on": [day]}}
    for written in ({"valid_from": day}, {"valid_to": day}, {"conditions": [{"kind": "hours", **calendar}]}):
        with pytest.raises(ValidationError):
            Terms.model_validate({"currency": "CNY", **written})
        assert Terms.kept({"currency": "CNY", **written}).canonical()["currency"] == "CNY"
    assert Terms.model_validate({"currency": "CNY", "valid_from": "2000-01-01", "valid_to": "2199-12-31"})
