"""The arithmetic of false matches: against exact binomials, against counting, and never below what was measured."""

from __future__ import annotations

from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinpay.biometrics.curves import FACEPLUGIN, MEANS, SINGLES, UNMEASURED, Comparison, judged_by
from kinpay.biometrics.false_match import Curve, Measured, counted, incomplete_beta, largest_gallery, of_gallery, upper_bound


def at_most(events: int, trials: int, rate: float) -> float:
    """P(X ≤ events), summed term by term."""
    return sum(comb(trials, k) * rate**k * (1 - rate) ** (trials - k) for k in range(events + 1))


@pytest.mark.parametrize("trials", [1, 7, 40, 150])
def test_the_upper_bound_is_where_so_few_events_become_unlikely(trials: int) -> None:
    for events in range(trials):
        assert at_most(events, trials, upper_bound(events, trials)) == pytest.approx(0.025, rel=1e-8)
    assert upper_bound(trials, trials) == 1.0


def test_of_none_seen_it_is_the_rule_of_three_point_seven() -> None:
    assert upper_bound(0, 2_280_000) == pytest.approx(1 - 0.025 ** (1 / 2_280_000), rel=1e-6)
    assert upper_bound(1, 2_280_000) == pytest.approx(2.44e-6, rel=2e-3), "as the report on models says"


def test_the_incomplete_beta_function_is_that_of_its_tables() -> None:
    assert incomplete_beta(2, 3, 0.4) == pytest.approx(0.5248, rel=1e-9)
    assert incomplete_beta(1, 1, 0.3) == pytest.approx(0.3)
    assert (incomplete_beta(5, 2, 0.0), incomplete_beta(5, 2, 1.0)) == (0.0, 1.0)


@pytest.mark.parametrize(("events", "trials"), [(-1, 5), (6, 5), (0, 0)])
def test_impossible_counts_are_refused(events: int, trials: int) -> None:
    with pytest.raises(ValueError, match="events"):
        upper_bound(events, trials)


@given(events=st.integers(0, 400), trials=st.integers(401, 10**8))
@settings(max_examples=60, deadline=None)
def test_the_bound_lies_above_what_was_seen_and_falls_with_more_trials(events: int, trials: int) -> None:
    bound = upper_bound(events, trials)
    assert events / trials < bound <= 1
    assert upper_bound(events, 2 * trials) < bound < upper_bound(events + 1, trials)


@given(rate=st.floats(1e-9, 0.5), size=st.integers(0, 100_000))
@settings(max_examples=60, deadline=None)
def test_a_gallery_s_bound_grows_and_stays_below_the_sum(rate: float, size: int) -> None:
    chance = of_gallery(rate, size)
    assert chance <= min(1.0, rate * size) * (1 + 1e-9)
    assert chance <= of_gallery(rate, size + 1)


@given(rate=st.floats(1e-8, 1e-2), permitted=st.floats(1e-6, 0.5))
@settings(max_examples=60, deadline=None)
def test_the_largest_gallery_is_the_last_that_is_permitted(rate: float, permitted: float) -> None:
    size = largest_gallery(rate, permitted)
    assert of_gallery(rate, size) <= permitted < of_gallery(rate, size + 1)


def test_between_two_measured_thresholds_the_lower_one_s_bound_holds() -> None:
    curve = Curve(counted([(0.4, 1000), (0.5, 10)], 100_000), source="made up")
    at_04, at_05 = upper_bound(1000, 100_000), upper_bound(10, 100_000)
    assert [curve.upper(threshold) for threshold in (0.39, 0.4, 0.45, 0.4999, 0.5, 0.99)] == [
        1.0, at_04, at_04, at_04, at_05, at_05,
    ]  # fmt: skip
    assert curve.threshold_for(at_05 * 1.01, size=1, at_least=0.4) == 0.5
    assert curve.threshold_for(at_05 * 1.01, size=1, at_least=0.55) == 0.55
    assert curve.threshold_for(at_05 * 0.99, size=1, at_least=0.4) is None
    with pytest.raises(ValueError, match="low to high"):
        Curve((Measured(0.5, 1, 10), Measured(0.4, 1, 10)), source="")


def test_what_is_shipped_is_what_was_published() -> None:
    published = {
        MEANS: {0.45: 1.2e-4, 0.50: 2.0e-5, 0.55: 4.4e-7, 0.60: 0.0},
        SINGLES: {0.25: 9.5e-3, 0.30: 2.8e-3, 0.35: 7.1e-4, 0.40: 1.5e-4, 0.45: 2.8e-5, 0.50: 4.4e-6, 0.55: 9.8e-7},
    }
    for comparison, rates in published.items():
        curve = FACEPLUGIN[comparison].curve
        assert curve is not None
        assert {point.threshold: pytest.approx(point.rate, rel=0.04) for point in curve.points} == rates
        assert all(point.rate >= rates[point.threshold] * 0.995 for point in curve.points), "rounded up, not down"
        assert FACEPLUGIN[comparison].threshold in rates
        assert curve.strict_upper(0.55) >= curve.upper(0.55)


def test_thresholds_are_never_borrowed_from_another_kind_or_model() -> None:
    assert judged_by("faceplugin-0.0.1", MEANS) is FACEPLUGIN[MEANS]
    assert judged_by("faceplugin-0.0.1-feature-5s", SINGLES) is FACEPLUGIN[SINGLES]
    assert judged_by("faceplugin-0.0.1", Comparison(3, 1)) is UNMEASURED
    assert judged_by("faceplugin-0.0.10", MEANS) is UNMEASURED
    assert judged_by("dlib", MEANS) is UNMEASURED
    with pytest.raises(ValueError, match="mean of three"):
        Comparison(2, 3)
