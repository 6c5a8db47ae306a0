"""When a payment may be made: openings on the circle's wall, of school days or others, right across jumps of the clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from kinpay.primitives.clock import instant, local_date, start_of_day, zone

HORIZON: Final = timedelta(days=400)
"""How far ahead anybody looks for the day on which something becomes possible."""
_A_WEEK_AND_MORE: Final = 9


@dataclass(frozen=True, slots=True)
class Opening:
    """A compiled opening: `[opens, closes)` on weekdays 1-7; `closes` None means until midnight.

    `school`: only on school days, or only on others; it matters where there is a calendar.
    """

    opens: time
    closes: time | None
    weekdays: frozenset[int]
    school: bool = True


@dataclass(frozen=True, slots=True)
class SchoolDays:
    """A compiled school calendar. No semester at all: school all year."""

    weekdays: frozenset[int]
    semesters: tuple[tuple[date, date], ...]
    off: frozenset[date]
    on: frozenset[date]

    def holds(self, day: date) -> bool:
        """Whether it is a school day."""
        if day in self.on:
            return True
        in_term = not self.semesters or any(first <= day <= last for first, last in self.semesters)
        return in_term and day.isoweekday() in self.weekdays and day not in self.off


@dataclass(frozen=True, slots=True)
class Hours:
    """A compiled hours condition: openings, and the calendar that tells which days each is about."""

    openings: tuple[Opening, ...]
    calendar: SchoolDays | None = None

    def on_day(self, day: date) -> list[Opening]:
        """The openings of such a day."""
        weekday, school = day.isoweekday(), self._is_school(day)
        return [o for o in self.openings if weekday in o.weekdays and school in (None, o.school)]

    def is_open(self, local: datetime) -> bool:
        """Whether it is open when the circle's wall shows `local`."""
        clock, weekday, school = local.time(), local.isoweekday(), self._is_school(local.date())
        return any(
            weekday in o.weekdays and school in (None, o.school) and o.opens <= clock and (o.closes is None or clock < o.closes)
            for o in self.openings
        )

    def _is_school(self, day: date) -> bool | None:
        return None if self.calendar is None else self.calendar.holds(day)


Binding = tuple[Hours, datetime | None]
"""An hours condition, and the instant from which it no longer binds (None: for good)."""


def opens_at(binding: Sequence[Binding], now: datetime, time_zone: str) -> datetime | None:
    """The first instant after `now` at which every condition is open at once, or no longer binds; None within the horizon."""

    def all_open(at: datetime) -> bool:
        local = at.astimezone(zone(time_zone))
        return all((until is not None and at >= until) or hours.is_open(local) for hours, until in binding)

    ends = [until for _, until in binding if until is not None and until > now]
    found = [at for at in ends if all_open(at)]
    irregular = ends or any(hours.calendar is not None for hours, _ in binding)
    today = local_date(now, time_zone)
    for days in range(HORIZON.days if irregular else _A_WEEK_AND_MORE):
        day = today + timedelta(days=days)
        clocks = {opening.opens for hours, _ in binding for opening in hours.on_day(day)}
        candidates = {instant(day, clock, time_zone) for clock in clocks} | _second_chances(day, clocks, time_zone)
        found += [at for at in candidates if at > now and all_open(at)]
        if found and min(found) < start_of_day(day + timedelta(days=1), time_zone):
            break
    return min(found, default=None)


def _second_chances(day: date, clocks: Iterable[time], time_zone: str) -> set[datetime]:
    """Where the clock goes back within `day`: the instant it does, and the second time that it shows each of `clocks`."""
    low, high = start_of_day(day, time_zone), start_of_day(day + timedelta(days=1), time_zone)
    if not clocks or high - low <= timedelta(days=1):
        return set()
    here = zone(time_zone)
    again = {datetime.combine(day, clock, here).replace(fold=1).astimezone(UTC) for clock in clocks}
    before = low.astimezone(here).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=int((high - low).total_seconds()) // 2)
        low, high = (middle, high) if middle.astimezone(here).utcoffset() == before else (low, middle)
    return again | {high}
