"""The galleries of this process: built from the encrypted rows when first searched, kept as the database says they are.

Three things keep every process consistent, each enough alone for what it is there for. A notification drops what was erased
from memory within moments. The version of the place, read before each search, brings in what changed although no notification
came. And whatever a search finds is looked up in the rows of this moment before it counts: an erased person is found by
nobody from the commit on, whatever a process still holds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from kinpay.biometrics import gallery_pgvector, gallery_store, store
from kinpay.biometrics.curves import Comparison, judged_by
from kinpay.biometrics.enrol import opened
from kinpay.biometrics.gallery import Entry, GalleryIndex
from kinpay.biometrics.gallery_numpy import NumpyGallery
from kinpay.biometrics.gallery_pgvector import PgvectorGallery
from kinpay.biometrics.gallery_store import Scope
from kinpay.biometrics.keyring import Keyring
from kinpay.biometrics.matcher import Candidate, Ranking
from kinpay.biometrics.rotation import Rotations, turn
from kinpay.biometrics.store import TemplateRow
from kinpay.biometrics.template import Sample
from kinpay.biometrics.vectors import Vector
from kinpay.database.pool import Database
from kinpay.primitives.errors import Busy, Invalid
from kinpay.primitives.sealed import Sealed
from kinpay.primitives.server_keys import SealBroken

log = logging.getLogger(__name__)

Engine = Literal["numpy", "pgvector", "auto"]

_AT_ONCE: Final = 1000
_LOOKED_AT: Final = 8
"""So many of the nearest are looked at first; more if fewer than two accounts among them are still enrolled."""
_SCOPES: Final = 200


@dataclass(frozen=True, slots=True)
class _Held:
    """A scope's index, of which moment it is, and under which rotation."""

    index: GalleryIndex
    rotation_version: int
    version: int
    size: int


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The same face, as far as a machine can tell, has another account: somebody must look. Twins are real.

    Whose account is for the operator's eyes, never for the terminal's or the person's.
    """

    person_ids: Sealed[tuple[str, ...]]
    comparison: Comparison
    threshold: float


class Galleries:
    """Every gallery that was searched here. `large`: from so many templates on `auto` takes pgvector, if the server has it."""

    def __init__(
        self, db: Database, keyring: Keyring, rotations: Rotations, *, engine: Engine = "auto", large: int = 20_000
    ) -> None:
        self._db = db
        self._keyring = keyring
        self._rotations = rotations
        self._engine = engine
        self._large = large
        self._held: dict[Scope, _Held] = {}
        self._locks: dict[Scope, asyncio.Lock] = {}
        self._sharing = asyncio.Lock()
        self._tidying: set[asyncio.Task[None]] = set()
        self._has_pgvector: bool | None = None

    def __repr__(self) -> str:
        return f"Galleries(engine={self._engine}, scopes={len(self._held)})"

    async def search(self, scope: Scope, sample: Sample) -> Ranking:
        """The accounts nearest to `sample` among those enrolled in `scope` at this moment.

        Raises: Invalid if the sample is of another model or dimension; EngineMissing; RotationGone; SealBroken; Busy.
        """
        if (sample.model_id, sample.dimension) != (scope.model_id, scope.dimension):
            raise Invalid("model_other", field="model")
        comparison = Comparison(scope.pictures, sample.pictures)
        limit = _LOOKED_AT
        while True:
            held = await self._fresh(scope)
            found = await self._nearest(held, scope, sample, limit=limit)
            if self._held.get(scope) is not held and not found:
                continue  # It was built anew under another rotation meanwhile, and this one emptied.
            if held.size <= limit or len({item.person_id for item in found}) >= 2:
                return Ranking(model_id=scope.model_id, comparison=comparison, size=held.size, candidates=found)
            limit *= 8

    async def _nearest(self, held: _Held, scope: Scope, sample: Sample, *, limit: int) -> tuple[Candidate, ...]:
        if held.size == 0:
            return ()
        matrix = await self._rotations.matrix(
            scope.operator_id, held.rotation_version, model_id=scope.model_id, dimension=scope.dimension
        )
        found = await held.index.search(turn(matrix, sample.vector.open()), limit=limit)
        return await self._still_there(scope, found)

    async def _still_there(self, scope: Scope, found: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """What counts: rows that are there now, whatever the index held."""
        async with self._db.connection() as conn:
            there = await gallery_store.still_there(conn, scope, [item.template_id for item in found])
        return tuple(item for item in found if there.get(item.template_id) == item.person_id)

    async def duplicates(self, scope: Scope, sample: Sample, *, own_person_id: str) -> Duplicate | None:
        """Whether somebody else's account has this face; for an enrolment, over all sites of the operator (`site_id` None).

        Raises: as `search`.
        """
        ranking = await self.search(scope, sample)
        threshold = judged_by(scope.model_id, ranking.comparison).duplicate
        others = tuple(
            item.person_id for item in ranking.by_account() if item.person_id != own_person_id and item.score >= threshold
        )
        return Duplicate(Sealed(others), ranking.comparison, threshold) if others else None

    async def _fresh(self, scope: Scope) -> _Held:
        """The scope's gallery as the database says it is now."""
        held, now = self._held.get(scope), await self._standing(scope)
        if held is not None and (held.version, held.rotation_version) == now:
            return held
        async with self._locks.setdefault(scope, asyncio.Lock()):
            # Read again: who waited here finds it done.
            held, now = self._held.get(scope), await self._standing(scope)
            if held is not None and (held.version, held.rotation_version) == now:
                return held
            version, rotation_version = now
            same = held is not None and held.rotation_version == rotation_version
            index = held.index if held is not None and same else await self._begin(scope, rotation_version)
            await self._bring_up_to(index, scope, version, rotation_version)
            fresh = self._held[scope] = _Held(index, rotation_version, version, await index.size())
            if held is not None and not same:
                await _wipe(held.index)
        return fresh

    async def _standing(self, scope: Scope) -> tuple[int, int]:
        async with self._db.connection() as conn:
            return await gallery_store.standing(conn, scope)

    async def _begin(self, scope: Scope, rotation_version: int) -> GalleryIndex:
        while len(self._held) >= _SCOPES:
            await self._let_go(next(iter(self._held)))
        if not await self._takes_pgvector(scope):
            return NumpyGallery(scope.dimension)
        await gallery_pgvector.prepare(self._db)
        return PgvectorGallery(self._db, str(scope), rotation_version)

    async def _takes_pgvector(self, scope: Scope) -> bool:
        if self._engine != "auto":
            return self._engine == "pgvector"
        async with self._db.connection() as conn:
            if self._has_pgvector is None:
                self._has_pgvector = await gallery_pgvector.available(conn) is not None
            return self._has_pgvector and len(await gallery_store.template_ids(conn, scope)) >= self._large

    async def _bring_up_to(self, index: GalleryIndex, scope: Scope, version: int, rotation_version: int) -> None:
        if not isinstance(index, PgvectorGallery):
            await self._bring_up(index, scope, rotation_version)
            return
        if await index.version() == version:
            return
        # One at a time in this process: each holds a connection and needs another.
        async with self._sharing, index.alone():
            if await index.version() != version:  # Another process may have done it while we waited.
                await self._bring_up(index, scope, rotation_version)
                await index.note_version(version)
        await index.write_anew()

    async def _bring_up(self, index: GalleryIndex, scope: Scope, rotation_version: int) -> None:
        """Takes out what is gone first, then puts in what is new."""
        async with self._db.connection() as conn:
            wanted = await gallery_store.template_ids(conn, scope)
        have = await index.template_ids()
        await index.remove(sorted(have - wanted))
        missing = sorted(wanted - have)
        for start in range(0, len(missing), _AT_ONCE):
            await index.add(await self._entries(scope, missing[start : start + _AT_ONCE], rotation_version))
        log.info("gallery", extra={"place": scope.place_id, "added": len(missing), "removed": len(have - wanted)})

    async def _entries(self, scope: Scope, template_ids: list[str], rotation_version: int) -> list[Entry]:
        async with self._db.connection() as conn:
            rows = await store.kept_vectors(conn, template_ids)
        keys = await self._keyring.unwrap_all([row.key_id for row in rows])
        if len(keys) < len(rows):
            # A restored database holds rows whose keys were destroyed since: they stay closed.
            log.warning("templates without a key", extra={"count": len(rows) - len(keys)})
        return await asyncio.to_thread(self._open_all, scope, rows, keys, rotation_version)

    def _open_all(
        self, scope: Scope, rows: Sequence[TemplateRow], keys: dict[str, Sealed[bytes]], rotation_version: int
    ) -> list[Entry]:
        entries = []
        for row in rows:
            if row.key_id not in keys:
                continue
            try:
                vector = opened(row, keys[row.key_id]).vector().open()
            except (SealBroken, ValueError):
                log.error("template does not open", extra={"template_id": row.id})
                continue
            entries.append(Entry(row.id, row.person_id, Sealed(self._turned(scope, vector, row, rotation_version))))
        return entries

    def _turned(self, scope: Scope, vector: Vector, row: TemplateRow, rotation_version: int) -> Vector:
        """Under the rotation of the gallery: while a renewal is under way, rows of both versions are in it."""
        if row.rotation_version == rotation_version or row.rotation_version is None:
            return vector
        away, on = (
            self._rotations.matrix_now(scope.operator_id, version, model_id=scope.model_id, dimension=scope.dimension)
            for version in (row.rotation_version, rotation_version)
        )
        return turn(on, turn(away.T, vector))

    def heard(self, place_id: str) -> None:
        """For `Listener.on`: brings up what is held of a place, of every place where something may have been missed."""
        for scope in list(self._held):
            if place_id in ("", scope.place_id):
                task = asyncio.create_task(self._tidy(scope))
                self._tidying.add(task)
                task.add_done_callback(self._tidying.discard)

    async def _tidy(self, scope: Scope) -> None:
        try:
            await self._fresh(scope)
        except Busy:
            log.warning("gallery not brought up; the next search does it", extra={"place": scope.place_id})
        except Exception:
            # Whatever it is, what is held may be of yesterday: better to hold nothing.
            log.exception("gallery let go", extra={"place": scope.place_id})
            await self._let_go(scope)

    async def _let_go(self, scope: Scope) -> None:
        held = self._held.pop(scope, None)
        if held is not None:
            await _wipe(held.index)

    async def close(self) -> None:
        """Overwrites everything that is held."""
        for task in list(self._tidying):
            task.cancel()
        for scope in list(self._held):
            await self._let_go(scope)


async def _wipe(index: GalleryIndex) -> None:
    """Overwrites what is in this process's memory; what all processes share is not one process's to empty."""
    if isinstance(index, NumpyGallery):
        await index.rebuild([])
