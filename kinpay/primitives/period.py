"""Periods: the stretches of time over which payments are counted, each named by one short text.

    day  week  month  half_year  year          of the calendar on the circle's wall; week@7 begins on Sunday
    consent_month@2026-06-10 …                 counted from the day of the consent; also consent_fortnight
    lifetime                                   everything there ever was
    trailing@86400                             so many seconds back from now; no windows, each payment leaves by itself

Source: product.md §4 (limit grammar); UK Open Banking VRP `PeriodType` × `PeriodAlignment`.
"""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Final

from kinpay.primitives.clock import Span, local_date, start_of_day


class Unit(StrEnum):
    """How long a period is."""

    DAY = "day"
    """From local midnight to the next; 23 or 25 hours long where clocks change."""
    WEEK = "week"
    """Seven days; of the calendar from Monday's midnight, or another weekday's."""
    FORTNIGHT = "fortnight"
    """Fourteen days, only from a consent: no calendar says where one begins."""
    MONTH = "month"
    """From the first of the month; from a consent, from its day of the month, or the month's last where there is none."""
    HALF_YEAR = "half_year"
    """From January or July; from a consent, six months."""
    YEAR = "year"
    """From the first of January; from a consent, twelve months."""
    LIFETIME = "lifetime"
    """Without an end."""
    TRAILING = "trailing"
    """The last so many seconds."""


EVER: Final = Span(datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))
"""The one window of a lifetime."""

_DAYS: Final = {Unit.DAY: 1, Unit.WEEK: 7, Unit.FORTNIGHT: 14}
_MONTHS: Final = {Unit.MONTH: 1, Unit.HALF_YEAR: 6, Unit.YEAR: 12}
_CONSENT: Final = "consent_"


@dataclass(frozen=True, slots=True)
class Period:
    """A unit and where its windows begin: on a weekday (1 Monday … 7 Sunday), or counted from the day `anchor`."""

    unit: Unit
    week_start: int = 1
    anchor: date | None = None
    trailing: timedelta | None = None

    @property
    def name(self) -> str:
        """The text that names it."""
        if self.trailing is not None:
            return f"{self.unit}@{int(self.trailing.total_seconds())}"
        if self.anchor is not None:
            return f"{_CONSENT}{self.unit}@{self.anchor.isoformat()}"
        return f"{self.unit}@{self.week_start}" if self.week_start != 1 else str(self.unit)


@lru_cache(maxsize=4096)
def period_named(name: str) -> Period:
    """The period of that name. Raises: ValueError for none."""
    word, _, rest = name.partition("@")
    if word.startswith(_CONSENT):
        return Period(Unit(word.removeprefix(_CONSENT)), anchor=date.fromisoformat(rest))
    unit = Unit(word)
    if unit is Unit.TRAILING:
        return Period(unit, trailing=timedelta(seconds=int(rest)))
    return Period(unit, week_start=int(rest) if rest else 1)


def window_around(moment: datetime, period: str, zone_name: str) -> Span:
    """The window of a period that holds `moment` in `zone_name`, as UTC instants.

    Of a trailing period: for how long a payment made at `moment` counts.
    """
    found = period_named(period)
    if found.trailing is not None:
        return Span(moment, moment + found.trailing)
    if found.unit is Unit.LIFETIME:
        return EVER
    return _span(local_date(moment, zone_name), period, zone_name)


@lru_cache(maxsize=8192)
def _span(day: date, period: str, zone_name: str) -> Span:
    first, after = days_around(day, period_named(period))
    return Span(start_of_day(first, zone_name), start_of_day(after, zone_name))


def days_around(day: date, period: Period) -> tuple[date, date]:
    """The first day of the window that holds `day`, and the first day after it. Not for lifetimes and trailing periods."""
    if period.unit in _DAYS:
        return _days_around(day, period, _DAYS[period.unit])
    months = _MONTHS[period.unit]
    if period.anchor is None:
        first = date(day.year, (day.month - 1) // months * months + 1, 1)
        return first, _months_after(first, months)
    passed = (day.year - period.anchor.year) * 12 + day.month - period.anchor.month
    count = passed // months
    if _months_after(period.anchor, count * months) > day:
        count -= 1
    return _months_after(period.anchor, count * months), _months_after(period.anchor, (count + 1) * months)


def _days_around(day: date, period: Period, length: int) -> tuple[date, date]:
    since = (day - period.anchor).days if period.anchor is not None else day.isoweekday() - period.week_start
    first = day - timedelta(days=since % length)
    return first, first + timedelta(days=length)


def _months_after(day: date, months: int) -> date:
    """The same day so many months later, or that month's last where it has no such day."""
    number = day.year * 12 + day.month - 1 + months
    year, month = number // 12, number % 12 + 1
    return date(year, month, min(day.day, monthrange(year, month)[1]))
