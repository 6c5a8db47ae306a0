"""Days, weeks and months of six zones: every instant in exactly one, none missing, none longer than the wall says."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinpay.primitives.clock import instant, local_date, start_of_day
from kinpay.primitives.errors import Invalid
from kinpay.primitives.period import EVER, Period, Unit, days_around, period_named, window_around
from tests.charges.campaign import campaign
from tests.charges.walls import ZONES, Per, jumps, label, window_of
from tests.charges.worlds import moments

HOUR = timedelta(hours=1)
ANCHORS = ("2026-01-31", "2024-02-29", "2026-06-10")
LENGTHS = ("day", "week", "fortnight", "month", "half_year", "year")
CALENDAR = ("day", "week", "week@7", "week@4", "month", "half_year", "year")
PERIODS = (*CALENDAR, *(f"consent_{length}@{anchor}" for length in LENGTHS for anchor in ANCHORS))


def _looked_for(name: str) -> Per:
    word, _, rest = name.partition("@")
    if word.startswith("consent_"):
        return Per(word.removeprefix("consent_"), consent=True, anchor=date.fromisoformat(rest))
    return Per(word, week_start=int(rest or 1))


@pytest.mark.parametrize("name", [*PERIODS, "lifetime", "trailing@3600"])
def test_a_period_is_known_by_its_name(name: str) -> None:
    assert period_named(name).name == name


@pytest.mark.parametrize(
    "name", ["", "decade", "consent_month", "consent_month@2026-02-30", "trailing@an hour", "consent_lifetime@x"]
)
def test_a_name_of_nothing_is_no_period(name: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        period_named(name)


def test_a_lifetime_is_one_window_and_a_trailing_one_counts_from_each_payment() -> None:
    moment = datetime(2026, 3, 2, 4, 5, 6, tzinfo=UTC)
    assert window_around(moment, "lifetime", "Asia/Shanghai") == EVER
    hour = window_around(moment, "trailing@3600", "Asia/Shanghai")
    assert (hour.start, hour.end) == (moment, moment + HOUR)


def test_a_month_from_the_31st_ends_where_its_month_does() -> None:
    """PayTo clamps so: a consent of 31 January is renewed on 28 February, and on 31 March again."""
    period = Period(Unit.MONTH, anchor=date(2026, 1, 31))
    assert days_around(date(2026, 2, 27), period) == (date(2026, 1, 31), date(2026, 2, 28))
    assert days_around(date(2026, 2, 28), period) == (date(2026, 2, 28), date(2026, 3, 31))
    assert days_around(date(2026, 1, 30), period) == (date(2025, 12, 31), date(2026, 1, 31))


@campaign(200)
@given(st.data(), st.sampled_from(ZONES), st.sampled_from(PERIODS))
def test_each_instant_is_in_exactly_one_window(data: st.DataObject, zone: str, window: str) -> None:
    moment = data.draw(moments(zone))
    span = window_around(moment, window, zone)
    assert (span.start, span.end) == window_of(moment, _looked_for(window), zone)
    assert span.start <= moment < span.end
    last = span.end - timedelta(microseconds=1)
    assert window_around(span.start, window, zone) == window_around(last, window, zone) == span


@campaign(40)
@given(st.data(), st.sampled_from(ZONES), st.sampled_from(PERIODS))
def test_windows_tile(data: st.DataObject, zone: str, window: str) -> None:
    span = window_around(data.draw(moments(zone)), window, zone)
    for _ in range(20):
        following = window_around(span.end, window, zone)
        assert following.start == span.end
        assert label(following.start, _looked_for(window), zone) != label(span.start, _looked_for(window), zone)
        span = following


def _length_of(zone: str, day: date) -> timedelta:
    span = window_around(start_of_day(day, zone), "day", zone)
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
