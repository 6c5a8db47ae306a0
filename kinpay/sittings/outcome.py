"""What the frames of a payment come to, from the matcher's verdict: recognised, or one of the other ways is asked for. Pure.

A stranger, somebody who resembles two accounts, and somebody who is locked all hear the same words.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from kinpay.biometrics.curves import judged_by
from kinpay.biometrics.matcher import (
    Evidence,
    Match,
    Ranking,
    StepUp,
    Tolerance,
    Verdict,
    Way,
    demanded,
    judge,
    judge_one,
)
from kinpay.primitives.money import Money
from kinpay.primitives.sealed import Sealed

NEAR_AT_MOST: Final = 3
"""Of how many people one PIN may be: with more of them a guess is worth too much, and a code or a card is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """`person_id`: who it is, if that is sure enough; else `near`: against whose PINs a PIN is held, perhaps nobody's.

    `is_failure`: whether it counts as one. It does not where the amount alone had decided that no face would do.
    """

    person_id: str | None
    near: Sealed[tuple[str, ...]] = field(default_factory=lambda: Sealed(()))
    asks: tuple[Way, ...] = ()
    evidence: Evidence
    is_failure: bool


def found_among(ranking: Ranking, amount: Money, tolerance: Tolerance, *, flat_perhaps: bool) -> Found:
    """From a search of a site's gallery, or of those whose numbers end alike. `flat_perhaps`: the pictures are doubtful."""
    return _found(judge(ranking, amount, tolerance), ranking, amount, tolerance, flat_perhaps=flat_perhaps)


def found_as(ranking: Ranking, person_id: str, amount: Money, tolerance: Tolerance, *, flat_perhaps: bool) -> Found:
    """From a comparison with the one person who was named before."""
    score = max((item.score for item in ranking.candidates if item.person_id == person_id), default=-1.0)
    verdict = judge_one(
        score,
        person_id=person_id,
        model_id=ranking.model_id,
        comparison=ranking.comparison,
        amount=amount,
        tolerance=tolerance,
    )
    return _found(verdict, ranking, amount, tolerance, flat_perhaps=flat_perhaps)


def _found(verdict: Verdict, ranking: Ranking, amount: Money, tolerance: Tolerance, *, flat_perhaps: bool) -> Found:
    if isinstance(verdict, Match) and not flat_perhaps:
        return Found(person_id=verdict.person_id, evidence=verdict.evidence, is_failure=False)
    how = judged_by(ranking.model_id, ranking.comparison)
    demand = demanded(how, size=ranking.size, amount=amount, tolerance=tolerance)
    hopeless = demand.threshold is None
    if isinstance(verdict, Match):
        # Sure who it is, not sure that they are there: a PIN multiplies what is left, as for any other face.
        by_pin = replace(verdict.evidence, bound=verdict.evidence.face_bound * tolerance.pin.guess)
        return Found(
            person_id=None, near=Sealed((verdict.person_id,)), asks=demand.asks, evidence=by_pin, is_failure=not hopeless
        )
    near: Sealed[tuple[str, ...]] = verdict.near if isinstance(verdict, StepUp) else Sealed(())
    asks = verdict.asks
    if len(near.open()) > NEAR_AT_MOST:
        near, asks = Sealed(()), tuple(way for way in asks if way is not Way.PIN)
    return Found(person_id=None, near=near, asks=asks, evidence=verdict.evidence, is_failure=not hopeless)
