"""Brings a database to this version's schema: numbered plain SQL, each file once, forward only, while servers run.

A migration says which older programs still work on the schema that it makes (`-- Works with programs from 0009 on.`), so that
servers are upgraded one by one. What it may do then: docs/upgrading.md.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg

from kinpay.primitives.errors import KinpayError

FOLDER: Final = Path(__file__).parent / "migrations"
_LOCK: Final = 0x6B696E706179  # "kinpay": one migration at a time, whoever starts it
_WORKS = re.compile(r"^-- Works with programs from (\d{4}) on\.$", re.MULTILINE)
_PATIENCE_MS: Final = 500
"""How long a migration waits for a table's lock. Whoever comes to that table meanwhile waits behind it."""
_TRIES: Final = 60
_PAUSE_S: Final = 1.0

CREATE_LIST = """
CREATE TABLE IF NOT EXISTS schema_migration (
    version integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())
"""
HAS_WORKS_FROM = "SELECT true FROM pg_attribute WHERE attrelid = 'schema_migration'::regclass AND attname = 'works_from'"
ADD_WORKS_FROM = "ALTER TABLE schema_migration ADD COLUMN works_from integer"


class SchemaMismatch(KinpayError):
    """The database is newer than this program, or a migration that was applied has been changed since."""

    code = "schema-mismatch"


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file's text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def works_from(self) -> int | None:
        """The oldest program, by the number of its last migration, that works on the schema; None: only those that know it."""
        said = _WORKS.search(self.text)
        return int(said[1]) if said else None


def migrations(folder: Path | None = None) -> list[Migration]:
    """All migrations in order; their numbers have no gaps."""
    files = sorted((folder or FOLDER).glob("[0-9]*.sql"))
    found = [Migration(int(file.name[:4]), file.stem, file.read_text(encoding="utf-8")) for file in files]
    if [item.version for item in found] != list(range(1, len(found) + 1)):
        raise SchemaMismatch(reason="numbering")
    return found


async def migrate(url: str, *, folder: Path | None = None) -> list[str]:
    """Applies what is missing, each in its own transaction; returns the names applied.

    Raises: SchemaMismatch for a newer schema on which this program does not work, or a changed file; LockNotAvailableError or
    DeadlockDetectedError if a table was not to be had in a minute, with nothing of that migration done.
    """
    conn = await asyncpg.connect(url)
    try:
        await conn.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await conn.execute(CREATE_LIST)
        if await conn.fetchval(HAS_WORKS_FROM) is None:
            await conn.execute(ADD_WORKS_FROM)
        return await _apply_missing(conn, migrations(folder))
    finally:
        await conn.close()


async def _apply_missing(conn: Any, wanted: list[Migration]) -> list[str]:
    applied = {row["version"]: row["checksum"] for row in await conn.fetch("SELECT version, checksum FROM schema_migration")}
    if applied and max(applied) > len(wanted) and not await fits(conn, program=len(wanted)):
        raise SchemaMismatch(reason="newer", database=max(applied), program=len(wanted))
    done: list[str] = []
    for migration in wanted:
        if migration.version in applied:
            if applied[migration.version] != migration.checksum:
                raise SchemaMismatch(reason="changed", name=migration.name)
            continue
        await _apply(conn, migration)
        done.append(migration.name)
    return done


async def _apply(conn: Any, migration: Migration) -> None:
    """One migration, all or nothing; it gives way to whoever holds a table, and tries again."""
    for left in reversed(range(_TRIES)):
        try:
            async with conn.transaction():
                await conn.execute(f"SET LOCAL lock_timeout = {_PATIENCE_MS}")
                await conn.execute(migration.text)
                await conn.execute(
                    "INSERT INTO schema_migration (version, name, checksum, works_from) VALUES ($1, $2, $3, $4)",
                    migration.version, migration.name, migration.checksum, migration.works_from,
                )  # fmt: skip
            return
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            if not left:
                raise
            await asyncio.sleep(_PAUSE_S)


async def fits(conn: Any, *, program: int | None = None) -> bool:
    """Whether this program works on the database's schema: its own, or a newer one that says so (for `/readyz`).

    `program`: the number of its last migration.
    """
    own = len(migrations()) if program is None else program
    try:
        rows = await conn.fetch("SELECT version, works_from FROM schema_migration WHERE version >= $1", own)
    except asyncpg.UndefinedColumnError:
        return False  # older than the first program that says so
    newer = [row["works_from"] for row in rows if row["version"] > own]
    return bool(rows) and all(works_from is not None and works_from <= own for works_from in newer)
