"""Where a month begins and ends on the circle's wall."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinpay.primitives.errors import Invalid
from kinpay.statements.statement import Era, day_starts, first_instant, following, read_month

ALWAYS = datetime(2020, 1, 1, tzinfo=UTC)
FIRST, LAST = ALWAYS.replace(tzinfo=None), ALWAYS.replace(tzinfo=None, year=2035)
ZONES = ["Asia/Shanghai", "America/New_York", "Pacific/Apia", "America/Havana", "Australia/Lord_Howe", "UTC", "Asia/Kathmandu"]


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]


def test_a_month_in_shanghai_begins_at_four_in_the_afternoon_of_the_day_before_in_utc() -> None:
    starts = day_starts(date(2026, 3, 1), [Era(ALWAYS, "Asia/Shanghai")])
    assert starts[0] == utc(2026, 2, 28, 16)
    assert starts[-1] == utc(2026, 3, 31, 16)
    assert len(starts) == 32


@pytest.mark.parametrize(
    ("month", "hours"), [(date(2026, 3, 1), 31 * 24 - 1), (date(2026, 11, 1), 30 * 24 + 1), (date(2026, 2, 1), 28 * 24)]
)
def test_a_month_in_new_york_is_an_hour_shorter_or_longer_where_clocks_change(month: date, hours: int) -> None:
    starts = day_starts(month, [Era(ALWAYS, "America/New_York")])
    assert starts[-1] - starts[0] == timedelta(hours=hours)


@given(
    st.dates(date(2021, 1, 1), date(2035, 12, 31)),
    st.lists(st.tuples(st.datetimes(FIRST, LAST), st.sampled_from(ZONES)), min_size=1, max_size=5),
)
def test_days_and_months_follow_each_other_without_gap_or_overlap_through_every_change_of_zone(
    day: date, changes: list[tuple[datetime, str]]
) -> None:
    eras = [Era(since.replace(tzinfo=UTC), zone) for since, zone in sorted(changes)]
    month = day.replace(day=1)
    starts = day_starts(month, eras)
    assert starts == sorted(starts)
    assert starts[-1] == day_starts(following(month), eras)[0]
    assert first_instant(day, eras) == starts[day.day - 1]


@given(st.dates(date(2021, 1, 1), date(2035, 12, 31)), st.sampled_from(ZONES))
def test_within_a_day_the_wall_shows_that_day(day: date, zone: str) -> None:
    eras = [Era(ALWAYS, zone)]
    start, end = first_instant(day, eras), first_instant(day + timedelta(days=1), eras)
    for moment in (start, start + (end - start) / 2, end - timedelta(seconds=1)):
        assert moment.astimezone(ZoneInfo(zone)).date() == day


def test_a_day_that_a_change_of_zone_skips_is_empty() -> None:
    # From New York to Shanghai at 2 March 20:00 in New York, when it is 3 March 09:00 in Shanghai.
    changed = utc(2026, 3, 3, 1)
    eras = [Era(ALWAYS, "America/New_York"), Era(changed, "Asia/Shanghai")]
    assert first_instant(date(2026, 3, 3), eras) == changed
    assert first_instant(date(2026, 3, 4), eras) == utc(2026, 3, 3, 16)


@pytest.mark.parametrize(
    "text", ["", "2026", "2026-3", "2026-13", "2026-00", "1999-12", "9999-12", "2026-03\n", "２０２６-03", "2026-03-01"]
)
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        read_month(text)


def test_the_first_and_last_month_have_a_beginning_and_an_end() -> None:
    for text in ("2000-01", "2099-12"):
        for zone in ZONES:
            starts = day_starts(read_month(text), [Era(ALWAYS, zone)])
            assert starts[0] < starts[-1]
