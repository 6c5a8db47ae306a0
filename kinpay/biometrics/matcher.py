"""Who is it, and is that sure enough for this amount: pure, from scores to `Match`, `StepUp` or `Nobody`.

A search accepts a stranger with a chance that grows with the gallery; what may be lost by that grows with the amount. So the
threshold is not a number but follows from both: the lowest one, from the shipped one on, at which the 95 % upper bound of
charging a wrong circle stays below what is permitted for the amount. Where none is so sure, or the score, or the distance to
the next account is too small, something else has to say who it is as well: a PIN, or a code or card, which say it alone.

Source: semantics.md "Security" (a face may pay); [0032]; threat A10; docs/biometrics-arithmetic.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from kinpay.biometrics.curves import Comparison, Shipped, judged_by
from kinpay.primitives.money import Money
from kinpay.primitives.sealed import Sealed


class Way(StrEnum):
    """What else may say who is standing here."""

    PIN = "pin"
    """Digits that only the person knows; added to what the face says."""
    CODE = "code"
    """A one-time code of the person's phone, or the digits that select one account: it stands alone, the face confirms."""
    CARD = "card"
    """A printed card; it stands alone, too."""


@dataclass(frozen=True, slots=True)
class Factor:
    """Something to be typed: so many `digits`, so many `tries` before it locks."""

    digits: int
    tries: int

    @property
    def guess(self) -> float:
        """The chance that somebody who does not know it passes. It holds for digits that were drawn, not chosen."""
        return min(1.0, self.tries / float(10**self.digits))

    def __post_init__(self) -> None:
        if self.digits < 1 or self.tries < 1:
            raise ValueError("at least one digit and one try")


PIN: Final = Factor(digits=4, tries=1)
"""A bound is per attempt, and each time that somebody looks into the camera a PIN may be tried once."""
FACE_SAYS: Final = 0.2
"""The most that a search may err for a PIN to be asked for: people choose their PINs, so none stands in for a face that says
nothing."""

REFERENCE: Final[Mapping[str, int]] = MappingProxyType(
    {"CNY": 5_000, "USD": 1_000, "EUR": 1_000, "GBP": 1_000, "HKD": 5_000, "JPY": 1_000, "KWD": 3_000}
)
"""Up to which amount an operator's bound holds as it is, in minor units: what a meal or a bus ticket costs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """What an operator lets happen: `bound` per attempt up to the `reference` amount of its currency (minor units).

    Above it the permitted bound falls in proportion, so that what an attempt may cost a wrong circle on average never grows.
    """

    bound: float = 1e-4
    reference: Mapping[str, int] = field(default_factory=lambda: REFERENCE)
    pin: Factor = PIN

    def __post_init__(self) -> None:
        if not 0.0 <= self.bound < 1.0 or any(minor <= 0 for minor in self.reference.values()):
            raise ValueError("a bound from 0 to below 1, and amounts above 0")

    def permitted(self, amount: Money) -> float:
        """The bound for this amount; 0, so that no face pays alone, where the currency has no reference amount."""
        minor = self.reference.get(amount.currency)
        if minor is None or amount.minor <= 0:
            return 0.0
        return self.bound * min(1.0, minor / amount.minor)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An enrolled template and how near it is (cosine)."""

    person_id: str
    template_id: str
    score: float = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """What a search came to: the nearest first, out of `size` templates of one model and kind. Every one is still enrolled."""

    model_id: str
    comparison: Comparison
    size: int
    candidates: tuple[Candidate, ...]

    def by_account(self) -> tuple[Candidate, ...]:
        """The best of each account, the nearest first."""
        best: dict[str, Candidate] = {}
        for candidate in sorted(self.candidates, key=lambda item: -item.score):
            best.setdefault(candidate.person_id, candidate)
        return tuple(best.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a charge keeps of how its person was found: no score and no name of anybody else.

    `rate_upper`: the 95 % upper bound of one comparison's false matches; `face_bound`: of the whole search's; `bound`: that
    of charging a wrong circle, with the PIN where one is asked for (a code or card needs no face); `margin`: the distance
    demanded to other accounts.
    """

    model_id: str
    comparison: str
    gallery_size: int
    threshold: float
    margin: float
    rate_upper: float
    face_bound: float
    bound: float
    permitted: float

    def record(self) -> dict[str, Any]:
        """As plain JSON values, for the charge and the audit log."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Match:
    """This account may be charged without anything else."""

    person_id: str
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class StepUp:
    """Somebody may be near, and the face alone does not pay. `asks`: each of these ways would do.

    `near` is for checking a PIN against, by nobody but the server: an answer that said whom, or that there is one, would turn
    every terminal into a machine that tells who lives here. `asks` is the same as if nobody had been near, but for twins.
    """

    asks: tuple[Way, ...]
    near: Sealed[tuple[str, ...]]
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Nobody:
    """Nobody is near enough; whoever it is may pay in another way, and is asked for it in the same words."""

    asks: tuple[Way, ...]
    evidence: Evidence


Verdict = Match | StepUp | Nobody

ALONE: Final = (Way.CODE, Way.CARD)
"""Ways that need no face: whoever has no face enrolled pays by them every day."""


def said(verdict: Match | StepUp | Nobody) -> dict[str, Any]:
    """What a terminal may hear of a verdict."""
    if isinstance(verdict, Match):
        return {"recognised": True, "ask": []}
    return {"recognised": False, "ask": [str(way) for way in verdict.asks]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a search has to bring, from the gallery's size and the amount alone: nobody's face has a part in it.

    `threshold`: from which cosine on the face alone pays, None where it never does; `pin_from`: from which one on a PIN makes
    it sure enough, None where it does not.
    """

    permitted: float
    threshold: float | None
    pin_from: float | None

    @property
    def asks(self) -> tuple[Way, ...]:
        """Every way that does where the face alone does not."""
        return ALONE if self.pin_from is None else (Way.PIN, *ALONE)


def demanded(how: Shipped, *, size: int, amount: Money, tolerance: Tolerance) -> Demand:
    """The rule that ties together the gallery's size, the amount and what is asked for."""
    permitted = tolerance.permitted(amount)
    if how.curve is None or permitted <= 0.0:
        return Demand(permitted=permitted, threshold=None, pin_from=None)
    return Demand(
        permitted=permitted,
        threshold=how.curve.threshold_for(permitted, size=size, at_least=how.threshold),
        pin_from=how.curve.threshold_for(
            min(permitted / tolerance.pin.guess, FACE_SAYS), size=size, at_least=how.threshold - how.band
        ),
    )


def judge(ranking: Ranking, amount: Money, tolerance: Tolerance, *, shipped: Shipped | None = None) -> Verdict:
    """Whose account a search may charge, and what else it takes. `shipped`: another judgement than the model's own."""
    how = shipped or judged_by(ranking.model_id, ranking.comparison)
    demand = demanded(how, size=ranking.size, amount=amount, tolerance=tolerance)
    pin_from = how.threshold - how.band if demand.pin_from is None else demand.pin_from
    step_up = _evidence(ranking, how, pin_from, demand=demand, factor=tolerance.pin.guess)
    accounts = ranking.by_account()
    if not accounts:
        return Nobody(demand.asks, step_up)
    best = accounts[0]
    near = tuple(item.person_id for item in accounts if best.score - item.score < how.margin)
    if best.score >= how.threshold and len(near) > 1:
        return _alike(near, step_up, demand=demand, pin=tolerance.pin)
    if demand.threshold is not None and best.score >= demand.threshold:
        return Match(best.person_id, _evidence(ranking, how, demand.threshold, demand=demand))
    if best.score < pin_from:
        return Nobody(demand.asks, step_up)
    return StepUp(demand.asks, Sealed((best.person_id,)), step_up)


def _alike(near: tuple[str, ...], evidence: Evidence, *, demand: Demand, pin: Factor) -> StepUp:
    """Whoever resembles two accounts is one of them, or of their kin: the face says nothing that could be counted on, and a
    PIN may be that of another. They know their own, so what a guess can open are the others.
    """
    bound = min(1.0, (len(near) - 1) * pin.guess)
    asks = (Way.PIN, *ALONE) if bound <= demand.permitted else ALONE
    return StepUp(asks, Sealed(near), replace(evidence, face_bound=1.0, bound=bound))


def judge_one(
    score: float,
    *,
    person_id: str,
    model_id: str,
    comparison: Comparison,
    amount: Money,
    tolerance: Tolerance,
    shipped: Shipped | None = None,
) -> Verdict:
    """The face of a person who said who they are (a code, a card, the last digits of a number): a gallery of one.

    Nobody means: not this person, as far as the face says; it is told in the same words as a step-up.
    """
    how = shipped or judged_by(model_id, comparison)
    alone = Shipped(
        threshold=how.one_to_one, one_to_one=how.one_to_one, duplicate=how.duplicate, curve=how.curve, band=how.band
    )
    ranking = Ranking(model_id=model_id, comparison=comparison, size=1, candidates=(Candidate(person_id, person_id, score),))
    return judge(ranking, amount, tolerance, shipped=alone)


def _evidence(ranking: Ranking, how: Shipped, threshold: float, *, demand: Demand, factor: float = 1.0) -> Evidence:
    face = 1.0 if how.curve is None else how.curve.bound(threshold, ranking.size)
    return Evidence(
        model_id=ranking.model_id,
        comparison=str(ranking.comparison),
        gallery_size=ranking.size,
        threshold=threshold,
        margin=how.margin,
        rate_upper=1.0 if how.curve is None else how.curve.upper(threshold),
        face_bound=face,
        bound=face * factor,
        permitted=demand.permitted,
    )
