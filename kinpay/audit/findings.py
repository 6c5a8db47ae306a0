"""What an audit found: which invariant, which row, in a plain sentence. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

SHOWN: Final = 100
"""How many findings of one invariant are told one by one; the rest are told as a number."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`invariant` is a name like "I3 ledger_balanced"; `table` and `ids` name the rows; `sentence` says what is wrong."""

    invariant: str
    table: str
    ids: tuple[str, ...]
    sentence: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.table} {' '.join(self.ids)}: {self.sentence}"


@dataclass(slots=True)
class Findings:
    """Collects findings; of each invariant at most `SHOWN` are kept, and how many there were in all."""

    kept: list[Finding] = field(default_factory=list)
    totals: Counter[str] = field(default_factory=Counter)

    def add(self, invariant: str, table: str, ids: Iterable[str], sentence: str) -> None:
        """One more."""
        self.totals[invariant] += 1
        if self.totals[invariant] <= SHOWN:
            self.kept.append(Finding(invariant, table, tuple(ids), sentence))

    def uncounted(self, invariant: str, number: int) -> None:
        """`number` more that nobody looked at one by one."""
        self.totals[invariant] += number

    def all(self) -> list[Finding]:
        """What was kept, in the order of finding, and one finding with the number of those that were not."""
        rest = [
            Finding(name, "", (), f"{total} in all; the first {SHOWN} are told")
            for name, total in sorted(self.totals.items())
            if total > SHOWN
        ]
        return [*self.kept, *rest]
