"""Counting what happens, in plain numbers of this process: whoever is on a hot path adds to an integer and makes nothing.

Nothing here is a metric yet; `server/metrics.py` reads these and gives them names.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper ends of a histogram of durations, in seconds."""
SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Upper ends of a histogram of batch sizes."""


class Histogram:
    """How often a value was at most each of `bounds`; the last place counts those above all of them."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Counts a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Timed:
    """How something went, by outcome, and how long it took, in seconds."""

    __slots__ = ("outcomes", "took")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.outcomes: dict[str, int] = {}
        self.took = Histogram(bounds)

    def add(self, outcome: str, seconds: float) -> None:
        """Counts one; `outcome` is a word of ours, never something that was sent."""
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        self.took.add(seconds)
