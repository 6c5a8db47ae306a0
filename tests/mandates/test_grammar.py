"""The grammar of limits and conditions: what may be written, what is said by silence, and the page that explains it."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from kinpay.charges.compile import bounds_of
from kinpay.charges.decide import Approve, decide
from kinpay.charges.standing import Moment, Scope
from kinpay.mandates.terms import Terms
from tests.charges.oracle import Allowed, Asked, Funding, World
from tests.charges.patience import Written, besides
from tests.charges.worlds import Compiled, order_of

SPENDER = "5a" * 16


def _examples() -> list[Any]:
    page = (Path(__file__).parents[2] / "docs" / "limits.md").read_text()
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL)]


# Of each example, in the page's order: payments by (amount, the wall in Shanghai, category), and why each is refused.
# Consented to on 11 March 2026, 21 days before the month's end; nothing was spent before.
Tried = tuple[int, str, str]
TRIED: list[dict[Tried, str]] = [
    {(5_000, "2026-03-12 12:00", "7994"): "", (5_001, "2026-03-12 12:00", "7994"): "CATEGORY_TRAILING_AMOUNT",
     (5_001, "2026-03-12 12:00", "5411"): ""},
    {(20_322, "2026-03-31 23:59", "5411"): "", (20_323, "2026-03-31 23:59", "5411"): "MONTH_AMOUNT",
     (30_000, "2026-04-01 00:00", "5411"): "", (30_001, "2026-04-01 00:00", "5411"): "MONTH_AMOUNT"},
    {(1, "2026-03-12 06:30", "5411"): "", (1, "2026-03-12 18:30", "5411"): "TIME", (1, "2026-04-06 12:00", "5411"): "TIME",
     (1, "2026-05-09 12:00", "5411"): "", (1, "2026-05-16 12:00", "5411"): "TIME", (1, "2026-07-06 12:00", "5411"): "TIME"},
    {(1, "2026-03-12 07:00", "5411"): "", (1, "2026-03-12 19:00", "5411"): "TIME",
     (1, "2026-03-14 07:00", "5411"): "TIME", (1, "2026-03-14 19:00", "5411"): ""},
    {(1_500, "2026-03-11 12:00", "5411"): "", (1_501, "2026-03-11 12:00", "5411"): "COOLING_DAY_AMOUNT",
     (3_000, "2026-03-12 12:00", "5411"): "", (3_001, "2026-03-12 12:00", "5411"): "DAY_AMOUNT",
     (1, "2026-07-03 23:59", "5411"): "", (1, "2026-07-04 00:00", "5411"): "NO_LONGER_VALID",
     (1, "2026-02-28 23:59", "5411"): "NOT_YET_VALID"},
]  # fmt: skip


@pytest.mark.parametrize(
    ("example", "tried"), list(zip(_examples(), TRIED, strict=True)), ids=lambda one: ",".join(map(str, one))[:40]
)
def test_the_examples_of_the_page_are_what_they_say(example: dict[str, Any], tried: dict[Tried, str]) -> None:
    written = example
    if "kind" in example:
        written = {"currency": "CNY", "conditions": [example]}
    elif "metric" in example:
        written = {"currency": "CNY", "limits": [example]}
    canonical = Terms.model_validate(written).canonical()
    assert Terms.model_validate(canonical).canonical() == canonical
    granted = datetime(2026, 3, 11, 9, tzinfo=ZoneInfo("Asia/Shanghai"))
    agreements = [Funding("c3" * 16, True, "CNY", None)]
    cooling = besides([Written(canonical, granted)], granted)
    mandate = Allowed("a1" * 16, "b2" * 16, SPENDER, "active", False, canonical, agreements, cooling)
    world = World("Asia/Shanghai", spender_active={SPENDER: True}, mandates=[mandate], anchor=granted.date())
    for (amount, wall, mcc), code in tried.items():
        moment = datetime.fromisoformat(wall).replace(tzinfo=ZoneInfo("Asia/Shanghai")).astimezone(UTC)
        asked = Asked(amount, "CNY", "d4" * 16, mcc, SPENDER, None)
        said = decide(order_of(asked), Compiled(world).standing, {}, Moment(moment, world.zone))
        assert ([] if isinstance(said, Approve) else [said.reasons[0].code]) == ([code] if code else []), (amount, wall)


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
