"""A gallery: the vectors of one scope, searched exactly. Two engines with the same answers: a matrix in memory, and pgvector.

An approximate index would miss somebody now and then, which is a person who is told that they are nobody, and would confuse
near neighbours, which are twins. So both look at everybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from kinpay.biometrics.matcher import Candidate
from kinpay.biometrics.vectors import Vector
from kinpay.primitives.sealed import Sealed


@dataclass(frozen=True, slots=True)
class Entry:
    """One template's rotated vector."""

    template_id: str
    person_id: str
    vector: Sealed[Vector]


class GalleryIndex(Protocol):
    """Vectors that can be searched. Scores are cosines of rotated vectors as they are kept, in 16 bits."""

    async def size(self) -> int:
        """How many templates."""
        ...

    async def template_ids(self) -> frozenset[str]:
        """Which ones."""
        ...

    async def add(self, entries: Sequence[Entry]) -> None:
        """Puts them in; one that is there already is replaced."""
        ...

    async def remove(self, template_ids: Sequence[str]) -> int:
        """Takes them out, so that nothing of them is left in the index; returns how many were in."""
        ...

    async def search(self, probe: Vector, *, limit: int) -> list[Candidate]:
        """The nearest `limit`, nearest first. `probe` is rotated as the entries are."""
        ...

    async def rebuild(self, entries: Sequence[Entry]) -> None:
        """Forgets everything and begins anew."""
        ...
