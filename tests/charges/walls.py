"""What walls show: zones, jumps of their clocks, and the periods of limits, found by looking rather than by reckoning.

Shares no rule with `kinpay.primitives.period`. Source: semantics.md "Limits"; product.md §4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

ZONES = ("Asia/Shanghai", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Africa/Cairo", "America/Havana")
Label = date | tuple[int, int] | int | str


@dataclass(frozen=True)
class Per:
    """Over what a limit counts: its words, and the day of the consent."""

    window: str
    consent: bool = False
    week_start: int = 1
    trailing_s: int = 0
    anchor: date = date(2026, 1, 1)


def per(limit: Mapping[str, Any], anchor: date) -> Per:
    """Over what a written limit counts."""
    consent = limit.get("alignment") == "consent"
    return Per(limit["window"], consent, limit.get("week_start", 1), limit.get("trailing_s", 0), anchor)


def label(moment: datetime, over: Per, zone: str) -> Label:
    """A name for the period that the wall shows: the same all through it, and another before and after."""
    return _label(int(moment.timestamp()), over, zone)


@lru_cache(maxsize=400_000)
def _label(second: int, over: Per, zone: str) -> Label:
    return name_of(datetime.fromtimestamp(second, ZoneInfo(zone)).date(), over)


def name_of(day: date, over: Per) -> Label:
    """The same, of a day."""
    if over.window == "lifetime":
        return "ever"
    if over.consent:
        return _since_consent(day, over)
    if over.window == "day":
        return day
    if over.window == "week":
        return (day - timedelta(days=over.week_start - 1)).isocalendar()[:2]
    halves = 1 if over.window == "year" else 2 if over.window == "half_year" else 12
    return (day.year, (day.month - 1) * halves // 12)


def _since_consent(day: date, over: Per) -> int:
    """How many whole periods have passed since the consent; one after the other is tried."""
    number = 0
    while _nth(over, number + 1) <= day:
        number += 1
    while _nth(over, number) > day:
        number -= 1
    return number


def _nth(over: Per, number: int) -> date:
    lengths = {"day": 1, "week": 7, "fortnight": 14}
    if over.window in lengths:
        return over.anchor + timedelta(days=lengths[over.window] * number)
    months = {"month": 1, "half_year": 6, "year": 12}[over.window] * number + over.anchor.month - 1
    year, month, day = over.anchor.year + months // 12, months % 12 + 1, over.anchor.day
    while True:
        try:
            return date(year, month, day)
        except ValueError:
            day -= 1


@lru_cache(maxsize=20_000)
def window_of(moment: datetime, over: Per, zone: str) -> tuple[datetime, datetime]:
    """The first instant with the label of `moment`, and the first one after it with another; found by halving."""
    if over.window == "trailing":
        return moment, moment + timedelta(seconds=over.trailing_s)
    if over.window == "lifetime":
        return datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
    here, mine, reach = int(moment.timestamp()), label(moment, over, zone), 370 * 86400
    start = _first(here - reach, here, lambda second: _label(second, over, zone) == mine)
    end = _first(here, here + reach, lambda second: _label(second, over, zone) != mine)
    return datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC)


def _first(low: int, high: int, true: Any) -> int:
    """The first second in (low, high] at which `true` holds, given that it stays true."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if true(middle) else (middle, high)
    return high


@lru_cache(maxsize=64)
def jumps(zone: str, first_year: int = 2024, last_year: int = 2028) -> tuple[datetime, ...]:
    """The instants at which the zone's clocks change."""
    second, found = int(datetime(first_year, 1, 1, tzinfo=UTC).timestamp()), []
    end, step = int(datetime(last_year, 1, 1, tzinfo=UTC).timestamp()), 86400

    def offset(at: int) -> timedelta | None:
        return datetime.fromtimestamp(at, ZoneInfo(zone)).utcoffset()

    while second < end:
        before = offset(second)
        if offset(second + step) != before:
            found.append(datetime.fromtimestamp(_first(second, second + step, lambda at, old=before: offset(at) != old), UTC))
        second += step
    return tuple(found)


def on_such_a_day(hours: Mapping[str, Any], opening: Mapping[str, Any], day: date) -> bool:
    """Whether the day is a school day, or is not, as the opening wants it, or else its hours."""
    calendar = hours.get("calendar")
    if calendar is None:
        return True
    text = day.isoformat()
    regular = day.isoweekday() in calendar["weekdays"] and text not in calendar["off"]
    if calendar["semesters"]:
        regular = regular and any(s["first"] <= text <= s["last"] for s in calendar["semesters"])
    wanted = opening.get("days") or hours.get("days") or "school"
    return wanted == ("school" if regular or text in calendar["on"] else "other")
