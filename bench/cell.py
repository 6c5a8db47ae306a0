"""A cell: one party, at one number of callers, for some seconds; what it came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """`client_us` is the processor time of Python (None: pgbench, not counted) and `server_us` that of PostgreSQL, each in
    microseconds for one operation. `others`: the share of the machine that others used just before the cell."""

    party: str
    shape: str
    callers: int
    operations: int
    seconds: float
    p50_ms: float
    p99_ms: float
    client_us: float | None
    server_us: float
    others: float = 0.0

    @property
    def per_s(self) -> float:
        """Operations per second."""
        return self.operations / self.seconds

    def to_json(self) -> dict[str, Any]:
        """Plain values, rounded to what means something."""
        rounded = {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(self).items()}
        return {**rounded, "per_s": round(self.per_s, 1)}


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of an ascending sequence does not exceed."""
    if not ordered:
        raise ValueError("nothing was measured")
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
