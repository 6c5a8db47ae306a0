"""Days, weeks and months of six zones: every instant in exactly one, none missing, none longer than the wall says."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinpay.primitives.clock import Window, instant, local_date, start_of_day, window_around
from kinpay.primitives.errors import Invalid
from tests.charges.campaign import campaign
from tests.charges.oracle import ZONES, jumps, label, window_of
from tests.charges.worlds import moments

HOUR = timedelta(hours=1)


@campaign(200)
@given(st.data(), st.sampled_from(ZONES), st.sampled_from(Window))
def test_each_instant_is_in_exactly_one_window(data: st.DataObject, zone: str, window: Window) -> None:
    moment = data.draw(moments(zone))
    span = window_around(moment, window, zone)
    assert (span.start, span.end) == window_of(moment, window.value, zone)
    assert span.start <= moment < span.end
    last = span.end - timedelta(microseconds=1)
    assert window_around(span.start, window, zone) == window_around(last, window, zone) == span


@campaign(40)
@given(st.data(), st.sampled_from(ZONES), st.sampled_from(Window))
def test_windows_tile(data: st.DataObject, zone: str, window: Window) -> None:
    span = window_around(data.draw(moments(zone)), window, zone)
    for _ in range(20):
        following = window_around(span.end, window, zone)
        assert following.start == span.end
        assert label(following.start, window.value, zone) != label(span.start, window.value, zone)
        span = following


def _length_of(zone: str, day: date) -> timedelta:
    span = window_around(start_of_day(day, zone), Window.DAY, zone)
    return span.end - span.start


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("America/New_York", date(2026, 3, 8), 23),
        ("America/New_York", date(2026, 11, 1), 25),
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("Australia/Lord_Howe", date(2026, 4, 5), 24.5),
        ("Australia/Lord_Howe", date(2026, 10, 4), 23.5),
        ("Africa/Cairo", date(2026, 4, 24), 23),  # Midnight itself does not exist.
        ("Africa/Cairo", date(2026, 10, 29), 25),  # The hour before midnight comes twice.
        ("America/Havana", date(2026, 3, 8), 23),  # Midnight itself does not exist.
        ("America/Havana", date(2026, 11, 1), 25),  # Midnight comes twice.
        ("Asia/Shanghai", date(2026, 3, 29), 24),
    ],
)
def test_days_are_as_long_as_the_wall_says(zone: str, day: date, hours: float) -> None:
    assert _length_of(zone, day) == hours * HOUR


def test_a_midnight_that_does_not_exist_is_the_jump() -> None:
    assert start_of_day(date(2026, 4, 24), "Africa/Cairo") == datetime(2026, 4, 23, 22, tzinfo=UTC)
    assert instant(date(2026, 3, 8), time(0, 30), "America/Havana") == datetime(2026, 3, 8, 5, tzinfo=UTC)


def test_a_midnight_that_comes_twice_is_the_first() -> None:
    assert start_of_day(date(2026, 11, 1), "America/Havana") == datetime(2026, 11, 1, 4, tzinfo=UTC)


@campaign(150)
@given(st.data(), st.sampled_from(ZONES), st.integers(0, 1439))
def test_a_wall_time_is_the_first_instant_that_shows_it_or_later(data: st.DataObject, zone: str, minute: int) -> None:
    day = local_date(data.draw(moments(zone)), zone)
    clock = time(minute // 60, minute % 60)
    found = instant(day, clock, zone)
    wanted = datetime.combine(day, clock)

    def wall(moment: datetime) -> datetime:
        return moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)

    assert wall(found) >= wanted
    near = [jump for jump in jumps(zone) if abs(jump - found) < timedelta(days=1)]
    for earlier in (found - timedelta(seconds=1), *(jump for jump in near if jump < found), *(jump - HOUR for jump in near)):
        if earlier < found and wall(earlier).date() == day:
            assert wall(earlier) < wanted


def test_a_zone_that_does_not_exist() -> None:
    with pytest.raises(Invalid):
        start_of_day(date(2026, 1, 1), "Mars/Olympus")
