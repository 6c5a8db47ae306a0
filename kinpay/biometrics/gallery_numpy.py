"""The gallery as one matrix in this process's memory: a search is one product of a matrix and a vector.

What is removed is overwritten with zeros, also where the matrix moves to a larger place. In memory it is in the clear (but for
the rotation): whoever reads the memory of the server has it, as docs/privacy.md says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import numpy as np

from kinpay.biometrics.gallery import Entry
from kinpay.biometrics.matcher import Candidate
from kinpay.biometrics.vectors import Vector

_ROOM: Final = 64
_LONG: Final = 20_000
"""From so many templates on a search leaves the event loop to the others meanwhile."""


class NumpyGallery:
    """Exact search in memory."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._matrix = np.zeros((_ROOM, dimension), dtype=np.float32)
        self._owners: list[tuple[str, str]] = []
        self._rows: dict[str, int] = {}
        self._lock = asyncio.Lock()

    def __repr__(self) -> str:
        return f"NumpyGallery(size={len(self._owners)})"

    @property
    def bytes_held(self) -> int:
        """The matrix's memory."""
        return int(self._matrix.nbytes)

    async def size(self) -> int:
        """How many templates."""
        return len(self._owners)

    async def template_ids(self) -> frozenset[str]:
        """Which ones."""
        return frozenset(self._rows)

    async def add(self, entries: Sequence[Entry]) -> None:
        """Puts them in. Raises: ValueError for a vector of another dimension."""
        async with self._lock:
            self._make_room(len(self._owners) + len(entries))
            for entry in entries:
                vector = entry.vector.open()
                if vector.shape != (self._dimension,):
                    raise ValueError("another dimension")
                row = self._rows.setdefault(entry.template_id, len(self._owners))
                self._matrix[row] = vector
                owner = (entry.template_id, entry.person_id)
                self._owners[row : row + 1] = [owner]

    async def remove(self, template_ids: Sequence[str]) -> int:
        """Takes them out and overwrites them: the last row takes the place of each."""
        async with self._lock:
            removed = 0
            for template_id in template_ids:
                row = self._rows.pop(template_id, None)
                if row is None:
                    continue
                removed += 1
                last = len(self._owners) - 1
                if row != last:
                    self._matrix[row] = self._matrix[last]
                    self._owners[row] = self._owners[last]
                    self._rows[self._owners[row][0]] = row
                self._matrix[last] = 0.0
                self._owners.pop()
            return removed

    async def search(self, probe: Vector, *, limit: int) -> list[Candidate]:
        """The nearest `limit`, nearest first."""
        async with self._lock:
            if len(self._owners) < _LONG:
                return self._search(probe, limit)
            return await asyncio.to_thread(self._search, probe, limit)

    async def rebuild(self, entries: Sequence[Entry]) -> None:
        """Overwrites everything, then begins anew."""
        async with self._lock:
            self._matrix[:] = 0.0
            self._owners.clear()
            self._rows.clear()
        await self.add(entries)

    def _search(self, probe: Vector, limit: int) -> list[Candidate]:
        size = len(self._owners)
        if size == 0 or limit <= 0:
            return []
        # Not `@`: the linear algebra library would share this out to threads of its own and wait for all of them, which takes
        # twenty times as long as the product itself on a machine whose other processors are busy (measured). It is as fast as
        # memory is read, on one.
        scores = np.einsum("ij,j->i", self._matrix[:size], probe)
        first = np.argpartition(-scores, limit - 1)[:limit] if limit < size else np.arange(size)
        ordered = first[np.argsort(-scores[first], kind="stable")]
        return [Candidate(self._owners[row][1], self._owners[row][0], float(scores[row])) for row in ordered]

    def _make_room(self, wanted: int) -> None:
        have = self._matrix.shape[0]
        if wanted <= have:
            return
        larger = np.zeros((max(wanted, have * 3 // 2), self._dimension), dtype=np.float32)
        larger[:have] = self._matrix
        self._matrix[:] = 0.0
        self._matrix = larger
