"""The gallery in PostgreSQL's pgvector, 16-bit floats, shared by all processes: for scopes too large to be held by each.

Its tables are UNLOGGED (nothing of them is in the log, in a physical copy, or there after a crash) and belong to the extension
`vector` itself, so that `pg_dump` leaves them out without being asked to. They hold vectors that are rotated but not encrypted
and can be made anew from the encrypted rows at any time. They are made by the engine when it is first used, not by a
migration: a database without the extension has none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import asyncpg
import numpy as np

from kinpay.biometrics.gallery import Entry
from kinpay.biometrics.matcher import Candidate
from kinpay.biometrics.vectors import Vector
from kinpay.database.pool import Database
from kinpay.database.sql import Connection, Sql
from kinpay.primitives.errors import KinpayError

_AT_ONCE: Final = 500


class EngineMissing(KinpayError):
    """The server has no pgvector with `halfvec` (0.7 or newer), or this account may not install it."""

    code = "gallery-engine-missing"


AVAILABLE = Sql("SELECT default_version FROM pg_available_extensions WHERE name = 'vector'")


async def available(conn: Connection) -> str | None:
    """The version of pgvector that the server could use; None for none, or for one without `halfvec`."""
    version: str | None = await AVAILABLE.value(conn)
    if version is None or tuple(int(part) for part in version.split(".")[:2]) < (0, 7):
        return None
    return version


_LOCK: Final = Sql("SELECT pg_advisory_xact_lock(hashtext('kinpay gallery tables'))")
EXISTS = Sql("SELECT to_regclass('kinpay_gallery.entry') IS NOT NULL AND to_regclass('kinpay_gallery.state') IS NOT NULL")
PREPARE: Final = (
    "CREATE EXTENSION IF NOT EXISTS vector",
    "CREATE SCHEMA IF NOT EXISTS kinpay_gallery",
    "CREATE UNLOGGED TABLE IF NOT EXISTS kinpay_gallery.entry (scope text NOT NULL, template_id uuid NOT NULL,"
    " person_id uuid NOT NULL, vector halfvec NOT NULL, PRIMARY KEY (scope, template_id))",
    "CREATE UNLOGGED TABLE IF NOT EXISTS kinpay_gallery.state (scope text PRIMARY KEY, version bigint NOT NULL,"
    " name text NOT NULL)",
    # What belongs to an extension is made by it, as pg_dump sees it, and so is not dumped.
    "ALTER EXTENSION vector ADD TABLE kinpay_gallery.entry",
    "ALTER EXTENSION vector ADD TABLE kinpay_gallery.state",
)


async def prepare(db: Database) -> None:
    """Makes the tables where there are none. Raises: EngineMissing."""
    try:
        async with db.transaction() as conn:
            await _LOCK.value(conn)
            if await EXISTS.value(conn):
                return
            if await available(conn) is None:
                raise EngineMissing()
            for statement in PREPARE:
                await conn.execute(statement)
    except asyncpg.InsufficientPrivilegeError as error:
        raise EngineMissing(reason="privilege") from error


def _written(vector: Vector) -> str:
    """As pgvector reads it; five digits say a 16-bit float exactly."""
    return "[" + ",".join(f"{number:.5g}" for number in vector.astype(np.float16).tolist()) + "]"


def _all_written(entries: Sequence[Entry]) -> list[str]:
    return [_written(entry.vector.open()) for entry in entries]


SIZE = Sql("SELECT count(*) FROM kinpay_gallery.entry WHERE scope = :scope")
IDS = Sql("SELECT template_id FROM kinpay_gallery.entry WHERE scope = :scope")
ADD = Sql("""
    INSERT INTO kinpay_gallery.entry (scope, template_id, person_id, vector)
    SELECT :scope, n.template_id, n.person_id, n.written::halfvec
    FROM unnest(:template_ids::uuid[], :person_ids::uuid[], :written::text[]) AS n (template_id, person_id, written)
    ON CONFLICT (scope, template_id) DO UPDATE SET person_id = excluded.person_id, vector = excluded.vector
""")
REMOVE = Sql("DELETE FROM kinpay_gallery.entry WHERE scope = :scope AND template_id = ANY(:template_ids::uuid[])")
CLEAR = Sql("DELETE FROM kinpay_gallery.entry WHERE scope = :scope")
# No index over the vectors: every one is looked at. The probe's text is read once, not once a row.
SEARCH = Sql("""
    WITH probe AS MATERIALIZED (SELECT :probe::text::halfvec AS looked_for)
    SELECT e.person_id, e.template_id, -(e.vector <#> p.looked_for) AS score FROM kinpay_gallery.entry e, probe p
    WHERE e.scope = :scope ORDER BY e.vector <#> p.looked_for LIMIT :limit
""")
STATE = Sql("SELECT version FROM kinpay_gallery.state WHERE scope = :scope")
SET_STATE = Sql("""
    INSERT INTO kinpay_gallery.state (scope, name, version) VALUES (:scope, :name, :version)
    ON CONFLICT (scope) DO UPDATE SET version = excluded.version
""")
OLDER = Sql("SELECT scope FROM kinpay_gallery.state WHERE name = :name AND scope <> :scope")
FORGET = Sql("DELETE FROM kinpay_gallery.state WHERE scope = :scope")
LOCK_SCOPE = Sql("SELECT pg_advisory_xact_lock(hashtext('kinpay gallery'), hashtext(:scope))")
VACUUM: Final = "VACUUM (FULL) kinpay_gallery.entry"
"""A plain one would leave what was deleted in the gaps of its pages; this writes the table anew. Searches wait meanwhile."""


class PgvectorGallery:
    """Exact search in the database. Under another rotation a scope (`name`) is another index, built beside the old one."""

    def __init__(self, db: Database, name: str, rotation_version: int) -> None:
        self._db = db
        self._name = name
        self._scope = f"{name}/r{rotation_version}"
        self._left_behind = False

    async def size(self) -> int:
        """How many templates."""
        async with self._db.connection() as conn:
            return int(await SIZE.value(conn, scope=self._scope))

    async def template_ids(self) -> frozenset[str]:
        """Which ones."""
        async with self._db.connection() as conn:
            return frozenset(row["template_id"] for row in await IDS.rows(conn, scope=self._scope))

    async def add(self, entries: Sequence[Entry]) -> None:
        """Puts them in."""
        async with self._db.transaction() as conn:
            await self._add(conn, entries)

    async def _add(self, conn: Connection, entries: Sequence[Entry]) -> None:
        for start in range(0, len(entries), _AT_ONCE):
            some = entries[start : start + _AT_ONCE]
            written = await asyncio.to_thread(_all_written, some)
            await ADD.run(
                conn,
                scope=self._scope,
                template_ids=[entry.template_id for entry in some],
                person_ids=[entry.person_id for entry in some],
                written=written,
            )

    async def remove(self, template_ids: Sequence[str]) -> int:
        """Takes them out; `write_anew` removes their bytes, too."""
        async with self._db.connection() as conn:
            removed = await REMOVE.run(conn, scope=self._scope, template_ids=list(template_ids))
        self._left_behind |= removed > 0
        return removed

    async def search(self, probe: Vector, *, limit: int) -> list[Candidate]:
        """The nearest `limit`, nearest first."""
        async with self._db.connection() as conn:
            rows = await SEARCH.rows(conn, scope=self._scope, probe=_written(probe), limit=limit)
        return [Candidate(row["person_id"], row["template_id"], float(row["score"])) for row in rows]

    async def rebuild(self, entries: Sequence[Entry]) -> None:
        """Forgets everything and begins anew, so that nobody sees half of it."""
        async with self._db.transaction() as conn:
            await CLEAR.run(conn, scope=self._scope)
            await self._add(conn, entries)
        self._left_behind = True

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Keeps every other process from building this scope at the same time."""
        async with self._db.transaction() as conn:
            # Run to its end: a statement that was left after its first row holds a snapshot, and nothing could be vacuumed.
            await LOCK_SCOPE.run(conn, scope=self._scope)
            yield

    async def version(self) -> int | None:
        """The version of the place of which this is; None if it has to be built."""
        async with self._db.connection() as conn:
            version: int | None = await STATE.value(conn, scope=self._scope)
        return version

    async def note_version(self, version: int) -> None:
        """It is now of this version, and what was built under other rotations goes."""
        async with self._db.transaction() as conn:
            await SET_STATE.run(conn, scope=self._scope, name=self._name, version=version)
            older = [row["scope"] for row in await OLDER.rows(conn, name=self._name, scope=self._scope)]
            for scope in older:
                await CLEAR.run(conn, scope=scope)
                await FORGET.run(conn, scope=scope)
        self._left_behind |= bool(older)

    async def write_anew(self) -> None:
        """Has the server write its table anew if something was taken out: deleting alone leaves the bytes in its file.
        In nobody's transaction, which would keep them.
        """
        if self._left_behind:
            async with self._db.connection() as conn:
                await conn.execute(VACUUM)
            self._left_behind = False
