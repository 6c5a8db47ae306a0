"""Time zones, days and instants. `now` is always a parameter: the one clock is the database's (semantics.md)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from kinpay.primitives.errors import Invalid


@dataclass(frozen=True, slots=True)
class Span:
    """Half-open: `start` belongs to it, `end` does not. Both aware, in UTC."""

    start: datetime
    end: datetime


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """The IANA zone of that name.

    Raises: Invalid if there is none.
    """
    if name not in _names():
        raise Invalid("time_zone_unknown", field="time_zone")
    return ZoneInfo(name)


@lru_cache(maxsize=1)
def _names() -> frozenset[str]:
    return frozenset(available_timezones())


def local_date(moment: datetime, zone_name: str) -> date:
    """The calendar day of `moment` on the circle's wall."""
    return moment.astimezone(zone(zone_name)).date()


def start_of_day(day: date, zone_name: str) -> datetime:
    """The first instant of the local `day`, in UTC, also where clocks change at midnight.

    If midnight does not exist (Beirut, Havana …) it is the instant of the jump; if it comes twice, the first time.
    """
    return instant(day, time(0), zone_name)


def instant(day: date, clock_time: time, zone_name: str) -> datetime:
    """The first instant at which the wall shows `clock_time` or later on the local `day`; in UTC.

    A wall time that a jump skips becomes the instant of the jump itself.
    """
    local = datetime.combine(day, clock_time, zone(zone_name))
    moment = local.astimezone(UTC)
    if moment.astimezone(zone(zone_name)).replace(tzinfo=None) == local.replace(tzinfo=None):
        return moment
    return _jump_between(moment - timedelta(hours=3), moment + timedelta(hours=3), zone_name, local)


def _jump_between(low: datetime, high: datetime, zone_name: str, local: datetime) -> datetime:
    """Bisects to the first instant whose wall time is past the skipped one (whole seconds suffice for IANA rules)."""
    wanted = local.replace(tzinfo=None)
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=int((high - low).total_seconds()) // 2)
        if middle.astimezone(zone(zone_name)).replace(tzinfo=None) >= wanted:
            high = middle
        else:
            low = middle
    return high
