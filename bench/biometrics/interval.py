"""The interval of Clopper and Pearson: how far a rate may be from what was counted."""

from __future__ import annotations

import math
from typing import Final

_STEPS: Final = 200
_TINY: Final = 1e-300


def clopper_pearson(hits: float, trials: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """Lower and upper end for `hits` of `trials`, which need not be whole. (0, 1) for no trials.

    Source: C. J. Clopper, E. S. Pearson, Biometrika 26 (1934); the ends are quantiles of beta distributions.
    """
    if trials <= 0:
        return 0.0, 1.0
    tail = (1 - confidence) / 2
    low = 0.0 if hits <= 0 else _quantile(tail, hits, trials - hits + 1)
    high = 1.0 if hits >= trials else _quantile(1 - tail, hits + 1, trials - hits)
    return low, high


def _quantile(share: float, a: float, b: float) -> float:
    """Where the beta distribution reaches `share`, by halving."""
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _below(middle, a, b) < share else (low, middle)
    return (low + high) / 2


def _below(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (Abramowitz and Stegun 26.5.8)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _below(1 - x, b, a)
    front = math.exp(a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)) / a
    fraction, numerator, denominator = 1.0, 1.0, 0.0
    for step in range(_STEPS):
        half = step // 2
        if step == 0:
            term = 1.0
        elif step % 2 == 0:
            term = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        else:
            term = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        denominator = 1 / _apart(1 + term * denominator)
        numerator = _apart(1 + term / numerator)
        fraction *= numerator * denominator
        if step and abs(1 - numerator * denominator) < 1e-13:
            break
    return front * (fraction - 1)


def _apart(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
