"""Who may be charged by their face: against a plain restatement of the rules, and by letting strangers try."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinpay.biometrics.curves import FACEPLUGIN, MEANS, SINGLES, Comparison, Shipped
from kinpay.biometrics.false_match import Curve, Measured, upper_bound
from kinpay.biometrics.matcher import (
    ALONE,
    Candidate,
    Factor,
    Match,
    Nobody,
    Ranking,
    StepUp,
    Tolerance,
    Verdict,
    Way,
    demanded,
    judge,
    judge_one,
    said,
)
from kinpay.primitives.money import Money
from tests.biometrics.strangers import MODEL

SMALL = Money(1_400, "CNY")
USUAL = Tolerance()


def ranking(*scores: tuple[str, float], size: int = 30, comparison: Comparison = MEANS, model_id: str = MODEL) -> Ranking:
    found = tuple(Candidate(person, f"template of {person}", score) for person, score in scores)
    return Ranking(model_id=model_id, comparison=comparison, size=size, candidates=found)


def test_a_good_face_in_a_small_gallery_pays_alone_and_says_how_sure_that_is() -> None:
    verdict = judge(ranking(("ann", 0.71), ("bob", 0.31)), SMALL, USUAL)
    assert isinstance(verdict, Match)
    assert verdict.person_id == "ann"
    kept = verdict.evidence
    assert (kept.model_id, kept.comparison, kept.gallery_size, kept.threshold, kept.margin) == (MODEL, "3+3", 30, 0.55, 0.08)
    assert kept.rate_upper == upper_bound(1, 2_280_000)
    assert kept.bound == kept.face_bound == pytest.approx(1 - (1 - kept.rate_upper) ** 30)
    assert kept.bound <= kept.permitted == 1e-4
    assert set(kept.record()) == {
        "model_id", "comparison", "gallery_size", "threshold", "margin", "rate_upper", "face_bound", "bound", "permitted",
    }  # fmt: skip


def test_the_larger_the_gallery_the_more_is_asked_for() -> None:
    best = ("ann", 0.58)
    assert isinstance(judge(ranking(best, size=40), SMALL, USUAL), Match)
    crowded = judge(ranking(best, size=50), SMALL, USUAL)
    assert isinstance(crowded, StepUp), "at .58 the bound of fifty is not kept"
    assert crowded.asks == (Way.PIN, Way.CODE, Way.CARD)
    assert crowded.evidence.bound <= 1e-4
    assert isinstance(judge(ranking(("ann", 0.61), size=50), SMALL, USUAL), Match), "at .60 it is"
    assert isinstance(judge(ranking(("ann", 0.99), size=300), SMALL, USUAL), StepUp)
    huge = judge(ranking(best, size=10_000_000), SMALL, USUAL)
    assert isinstance(huge, StepUp)
    assert huge.asks == ALONE, "among ten millions a PIN is not enough either"


def test_the_larger_the_amount_the_more_is_asked_for() -> None:
    best = ("ann", 0.9)
    assert isinstance(judge(ranking(best), Money(5_000, "CNY"), USUAL), Match)
    assert isinstance(judge(ranking(best), Money(20_000, "CNY"), USUAL), StepUp)
    assert USUAL.permitted(Money(20_000, "CNY")) == pytest.approx(2.5e-5)
    assert USUAL.permitted(Money(1, "CNY")) == 1e-4, "below the reference amount it does not grow"


def test_a_currency_without_a_reference_amount_is_never_paid_in_by_face_alone() -> None:
    assert USUAL.permitted(Money(1, "ISK")) == 0.0
    verdict = judge(ranking(("ann", 0.99), size=1), Money(1, "ISK"), USUAL)
    assert isinstance(verdict, StepUp)
    assert verdict.asks == ALONE
    assert USUAL.permitted(Money(1_000, "JPY")) == USUAL.permitted(Money(5_000, "CNY")) == 1e-4


def test_whoever_resembles_two_accounts_steps_up_however_near_they_are() -> None:
    verdict = judge(ranking(("ann", 0.93), ("amy", 0.86)), SMALL, USUAL)
    assert isinstance(verdict, StepUp)
    assert verdict.near.open() == ("ann", "amy")
    assert verdict.asks == (Way.PIN, *ALONE), "who stands there is one of the two, and a guess opens the other's at most"
    assert verdict.evidence.bound == pytest.approx(1e-4)
    three = judge(ranking(("ann", 0.93), ("amy", 0.86), ("eve", 0.87)), SMALL, USUAL)
    assert isinstance(three, StepUp)
    assert three.asks == ALONE, "four digits are guessed too often where the face counts for nothing"
    six = judge(ranking(("ann", 0.93), ("amy", 0.86), ("eve", 0.87)), SMALL, Tolerance(pin=Factor(6, 5)))
    assert isinstance(six, StepUp)
    assert six.asks == (Way.PIN, *ALONE)
    assert six.evidence.bound == pytest.approx(2 * 5e-6)
    far = judge(ranking(("ann", 0.93), ("amy", 0.85)), SMALL, USUAL)
    assert isinstance(far, Match)
    twice = judge(ranking(("ann", 0.93), ("ann", 0.92), ("bob", 0.2)), SMALL, USUAL)
    assert isinstance(twice, Match), "two templates of one account are no twins"


def test_just_below_the_threshold_a_pin_may_help_and_further_below_nobody_is_near() -> None:
    asked = judge(ranking(("ann", 0.50), size=300), SMALL, USUAL)
    assert isinstance(asked, StepUp)
    assert asked.near.open() == ("ann",)
    nobody = judge(ranking(("ann", 0.44), size=300), SMALL, USUAL)
    assert isinstance(nobody, Nobody)
    assert isinstance(judge(ranking(size=0), SMALL, USUAL), Nobody)


def test_no_answer_tells_who_is_near_or_whether_anybody_is() -> None:
    near = judge(ranking(("ann-of-the-hall", 0.53), size=300), SMALL, USUAL)
    nobody = judge(ranking(("ann-of-the-hall", 0.01), size=300), SMALL, USUAL)
    empty = judge(ranking(size=300), SMALL, USUAL)
    assert said(near) == said(nobody) == said(empty) == {"recognised": False, "ask": ["pin", "code", "card"]}
    for verdict in (near, nobody, judge(ranking(("ann-of-the-hall", 0.9), ("ann-of-the-hall-2", 0.9)), SMALL, USUAL)):
        assert isinstance(verdict, StepUp | Nobody)
        assert "ann-of-the-hall" not in repr(verdict) + str(said(verdict)) + str(verdict.evidence.record())
    assert "0.53" not in repr(ranking(("ann", 0.53)))


def test_without_a_measured_curve_a_face_only_asks() -> None:
    for other in (ranking(("ann", 0.99), model_id="other"), ranking(("ann", 0.99), comparison=Comparison(1, 3))):
        verdict = judge(other, SMALL, USUAL)
        assert isinstance(verdict, StepUp)
        assert verdict.asks == ALONE
        assert verdict.evidence.rate_upper == 1.0


def test_a_person_who_said_who_they_are_is_a_gallery_of_one() -> None:
    def one(score: float, amount: Money = SMALL) -> Verdict:
        return judge_one(score, person_id="ann", model_id=MODEL, comparison=SINGLES, amount=amount, tolerance=USUAL)

    assert isinstance(one(0.46), Match)
    assert isinstance(one(0.44), StepUp)
    assert isinstance(one(0.2), Nobody)
    assert isinstance(one(0.46, Money(50_000, "CNY")), StepUp), "ten times the amount asks for .50"
    assert isinstance(one(0.51, Money(50_000, "CNY")), Match)


@pytest.mark.parametrize("wrong", [{"bound": 1.0}, {"bound": -0.1}, {"reference": {"CNY": 0}}])
def test_an_impossible_tolerance_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="bound"):
        Tolerance(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="digit"):
        Factor(0, 1)


def plainly(scores: list[float], size: int, minor: int, how: Shipped, tolerance: Tolerance) -> str:
    """The rules once more, in the plainest words there are."""
    permitted = tolerance.bound if minor <= 5_000 else tolerance.bound * 5_000 / minor
    assert how.curve is not None

    def chance(threshold: float) -> float:
        rate = 1.0
        for point in how.curve.points:  # type: ignore[union-attr]
            if point.threshold <= threshold:
                rate = upper_bound(point.false_matches, point.comparisons)
        return 1 - (1 - rate) ** size

    steps = [how.threshold, *(p.threshold for p in how.curve.points if p.threshold > how.threshold)]
    alone = [t for t in steps if chance(t) <= permitted]
    floor = how.threshold - how.band
    lower = [floor, *(p.threshold for p in how.curve.points if p.threshold > floor)]
    with_pin = [t for t in lower if chance(t) <= min(permitted * 10**4, 0.2)]
    if not scores:
        return "nobody"
    first, second = max(scores), sorted(scores)[-2] if len(scores) > 1 else -1.0
    if first >= how.threshold and first - second < how.margin:
        return "alike"
    if alone and first >= alone[0]:
        return "match"
    if first >= (with_pin[0] if with_pin else floor):
        return "near"
    return "nobody"


@given(
    scores=st.lists(st.floats(-0.2, 1.0), max_size=5),
    size=st.integers(5, 200_000),
    minor=st.integers(1, 10**7),
    comparison=st.sampled_from([MEANS, SINGLES]),
    bound=st.sampled_from([1e-6, 1e-4, 1e-2]),
)
@settings(max_examples=400, deadline=None)
def test_every_verdict_is_what_the_rules_say_in_plain_words(
    scores: list[float], size: int, minor: int, comparison: Comparison, bound: float
) -> None:
    how, tolerance = FACEPLUGIN[comparison], Tolerance(bound=bound)
    named = [(f"person {number}", score) for number, score in enumerate(scores)]
    verdict = judge(ranking(*named, size=size, comparison=comparison), Money(minor, "CNY"), tolerance)
    expected = plainly(scores, size, minor, how, tolerance)
    kinds = {"match": Match, "alike": StepUp, "near": StepUp, "nobody": Nobody}
    assert isinstance(verdict, kinds[expected]), expected
    if isinstance(verdict, Match):
        assert verdict.evidence.bound <= verdict.evidence.permitted
        assert verdict.person_id == max(named, key=lambda item: item[1])[0]
    if isinstance(verdict, StepUp):
        assert len(verdict.near.open()) == (1 if expected == "near" else len(verdict.near.open()))
        if Way.PIN in verdict.asks:
            assert verdict.evidence.bound <= verdict.evidence.permitted * (1 + 1e-9)


DIMENSION, GALLERY, STRANGERS = 24, 40, 4_000


def crowd(random: np.random.Generator, count: int) -> np.ndarray:
    made = random.standard_normal((count, DIMENSION))
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def measured(random: np.random.Generator) -> Curve:
    """A curve counted among strangers of this world, as one is counted among pictures."""
    scores = crowd(random, 400_000)[:, 0]  # against one fixed direction: the same as any
    return Curve(
        tuple(Measured(t, int((scores >= t).sum()), scores.size) for t in (0.40, 0.50, 0.60, 0.65, 0.70)), source="made up"
    )


def accepted(curve: Curve, *, tolerance: Tolerance, seed: int, planted: float = 0.0) -> tuple[int, float]:
    """How many strangers a search charges somebody for, and the bound that was promised. `planted`: threshold lowered by."""
    random = np.random.default_rng(seed)
    how = Shipped(threshold=0.50, one_to_one=0.5, duplicate=0.5, curve=curve, margin=0.0)
    demand = demanded(how, size=GALLERY, amount=SMALL, tolerance=tolerance)
    assert demand.threshold is not None
    promised, charged = curve.bound(demand.threshold, GALLERY), 0
    enrolled = crowd(random, GALLERY)
    for probe in crowd(random, STRANGERS):
        scores = enrolled @ probe + planted
        best = int(scores.argmax())
        found = ranking((f"person {best}", float(scores[best])), size=GALLERY)
        charged += isinstance(judge(found, SMALL, tolerance, shipped=how), Match)
    return charged, promised


def test_strangers_who_try_are_charged_no_more_often_than_promised() -> None:
    curve = measured(np.random.default_rng(5))
    tolerance = Tolerance(bound=0.02)
    charged, promised = accepted(curve, tolerance=tolerance, seed=6)
    assert 0 < promised <= tolerance.bound
    expected = promised * STRANGERS
    assert charged <= expected + 4 * math.sqrt(expected), (charged, expected)
    assert charged >= 1, "the promise is not so wide that nothing could break it"
    worse, _ = accepted(curve, tolerance=tolerance, seed=6, planted=0.1)
    assert worse > expected + 4 * math.sqrt(expected), "with scores a tenth too high the same count is red"
