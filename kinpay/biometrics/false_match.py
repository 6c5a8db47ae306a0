"""How sure a comparison can be: a measured curve of false matches, its upper bound, and what a gallery makes of it.

Everything here is counted, nothing is typed in: who measured says how many comparisons of strangers there were and how many
of them passed a threshold; the 95 % upper bound of the rate follows (Clopper and Pearson 1934), and from it the chance that
somebody who is not enrolled is taken for one of N who are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

CONFIDENCE: Final = 0.95
"""Of the two-sided interval whose upper end is used; so the rate lies above it with at most 2.5 %."""

_TINY: Final = 1e-300


def _continued_fraction(a: float, b: float, x: float) -> float:
    """Of the incomplete beta function, by Lentz's way. Source: DLMF 8.17.22."""
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1)
    d = 1.0 / (d if abs(d) > _TINY else _TINY)
    value = d
    for m in range(1, 100_000):
        for even in (True, False):
            if even:
                step = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
            else:
                step = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
            d = 1.0 + step * d
            d = 1.0 / (d if abs(d) > _TINY else _TINY)
            c = 1.0 + step / c
            c = c if abs(c) > _TINY else _TINY
            value *= c * d
        if abs(c * d - 1.0) < 1e-14:
            return value
    raise ArithmeticError("the continued fraction does not settle")


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b); `a`, `b` > 0, 0 ≤ x ≤ 1. Source: DLMF 8.17."""
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _continued_fraction(a, b, x) / a
    return 1.0 - front * _continued_fraction(b, a, 1.0 - x) / b


@lru_cache(maxsize=1024)
def upper_bound(events: int, trials: int, *, confidence: float = CONFIDENCE) -> float:
    """The upper end of the Clopper-Pearson interval of a rate of which `events` in `trials` were seen.

    Trials are taken for independent. Raises: ValueError unless 0 ≤ events ≤ trials and trials > 0.
    """
    if trials <= 0 or not 0 <= events <= trials:
        raise ValueError("as many events as trials at most, and a trial at least")
    if events == trials:
        return 1.0
    tail = (1.0 - confidence) / 2
    # P(X ≤ events | p) = 1 - I_p(events + 1, trials - events); it falls as p grows. The upper end is where it is the tail.
    low, high = math.log(max(events, 1e-9) / trials), 0.0
    for _ in range(200):
        middle = (low + high) / 2
        if 1.0 - incomplete_beta(events + 1, trials - events, math.exp(middle)) > tail:
            low = middle
        else:
            high = middle
        if high - low < 1e-13:
            break
    return math.exp(high)


def of_gallery(rate: float, size: int) -> float:
    """1 - (1 - rate)^size: the chance that at least one of `size` comparisons of a stranger passes. 0 for an empty gallery."""
    if size <= 0:
        return 0.0
    return 1.0 if rate >= 1.0 else -math.expm1(size * math.log1p(-rate))


@dataclass(frozen=True, slots=True)
class Measured:
    """At cosine `threshold`, `false_matches` of `comparisons` of two different people passed."""

    threshold: float
    false_matches: int
    comparisons: int

    @property
    def rate(self) -> float:
        """As seen."""
        return self.false_matches / self.comparisons

    @property
    def upper(self) -> float:
        """Its 95 % upper bound."""
        return upper_bound(self.false_matches, self.comparisons)


@dataclass(frozen=True, slots=True)
class Curve:
    """False matches by threshold, from low to high. `source`: who measured it on what; `caution`: what it does not say.

    `redrawn`: how often the same two people were compared with other pictures of them; the bound takes every comparison for
    one of its own, and a page that shows it says what it would be if they were not.
    """

    points: tuple[Measured, ...]
    source: str
    caution: str = ""
    redrawn: int = 1

    def __post_init__(self) -> None:
        thresholds = [point.threshold for point in self.points]
        if not thresholds or sorted(set(thresholds)) != thresholds:
            raise ValueError("a curve has thresholds, each once, from low to high")

    def upper(self, threshold: float) -> float:
        """The 95 % upper bound of the rate at `threshold`.

        Between two measured thresholds the bound of the lower one holds, above the last the last one's, below the first 1:
        nothing is assumed of a place where nobody counted.
        """
        passed = [point.upper for point in self.points if point.threshold <= threshold + 1e-12]
        return min(passed, default=1.0)

    def strict_upper(self, threshold: float) -> float:
        """`upper` with every two people counted once, however often they were drawn: the most cautious reading."""
        passed = [
            upper_bound(math.ceil(point.false_matches / self.redrawn), point.comparisons // self.redrawn)
            for point in self.points
            if point.threshold <= threshold + 1e-12
        ]
        return min(passed, default=1.0)

    def bound(self, threshold: float, size: int) -> float:
        """The chance, at most, that a stranger is taken for one of `size` enrolled."""
        return of_gallery(self.upper(threshold), size)

    def threshold_for(self, permitted: float, *, size: int, at_least: float) -> float | None:
        """The lowest threshold from `at_least` on at which `bound` is not above `permitted`; None where none is so sure."""
        for threshold in (at_least, *(point.threshold for point in self.points if point.threshold > at_least)):
            if self.bound(threshold, size) <= permitted:
                return threshold
        return None


def largest_gallery(rate: float, permitted: float) -> int:
    """The most enrolled people among whom a stranger is mistaken with at most `permitted`, at `rate` each."""
    if permitted >= 1.0:
        raise ValueError("a certainty permits any size")
    size = int(math.log1p(-permitted) / math.log1p(-rate))
    while size > 0 and of_gallery(rate, size) > permitted:
        size -= 1
    while of_gallery(rate, size + 1) <= permitted:
        size += 1
    return size


def counted(rows: Sequence[tuple[float, int]], comparisons: int) -> tuple[Measured, ...]:
    """Points of one measurement: (threshold, false matches) out of the same `comparisons`."""
    return tuple(Measured(threshold, false_matches, comparisons) for threshold, false_matches in rows)
