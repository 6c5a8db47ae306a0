"""Brings a database to this version's schema: numbered plain SQL, each file once, forward only.

It gives way to the servers that run meanwhile. What a migration may do then: docs/upgrading.md.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg

from kinpay.primitives.errors import KinpayError

FOLDER: Final = Path(__file__).parent / "migrations"
_LOCK: Final = 0x6B696E706179  # "kinpay": one migration at a time, whoever starts it
_PATIENCE_MS: Final = 500
"""How long a migration waits for a table's lock. Whoever comes to that table meanwhile waits behind it."""
_TRIES: Final = 60
_PAUSE_S: Final = 1.0

CREATE_LIST = """
CREATE TABLE IF NOT EXISTS schema_migration (
    version integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())
"""


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


def migrations(folder: Path | None = None) -> list[Migration]:
    """All migrations in order; their numbers have no gaps."""
    files = sorted((folder or FOLDER).glob("[0-9]*.sql"))
    found = [Migration(int(file.name[:4]), file.stem, file.read_text(encoding="utf-8")) for file in files]
    if [item.version for item in found] != list(range(1, len(found) + 1)):
        raise SchemaMismatch(reason="numbering")
    return found


async def migrate(url: str, *, folder: Path | None = None) -> list[str]:
    """Applies what is missing, each in its own transaction; returns the names applied.

    Raises: SchemaMismatch for a newer schema that this program cannot work with, or a changed file; LockNotAvailableError or
    DeadlockDetectedError if a table was not to be had in a minute, with nothing of that migration done.
    """
    conn = await asyncpg.connect(url)
    try:
        await conn.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await conn.execute(CREATE_LIST)
        return await _apply_missing(conn, migrations(folder))
    finally:
        await conn.close()


async def _apply_missing(conn: Any, wanted: list[Migration]) -> list[str]:
    applied = {row["version"]: row["checksum"] for row in await conn.fetch("SELECT version, checksum FROM schema_migration")}
    if applied and max(applied) > len(wanted) and not await is_fit(conn, program=len(wanted)):
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
                    "INSERT INTO schema_migration (version, name, checksum) VALUES ($1, $2, $3)",
                    migration.version, migration.name, migration.checksum,
                )  # fmt: skip
            return
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            if not left:
                raise
            await asyncio.sleep(_PAUSE_S)


BESIDE: Final = "_beside"
"""How the name of a migration ends that the program before it can go on working with: it adds, and takes nothing away."""


async def is_fit(conn: Any, *, program: int | None = None) -> bool:
    """Whether this program can work with the database's schema: it is its own, or every step that it does not know yet was made
    to leave the program before it working (docs/operating.md, "Upgrading without a stop"). `program`: the number of its last
    migration.
    """
    own = len(migrations()) if program is None else program
    rows = await conn.fetch("SELECT version, name FROM schema_migration WHERE version >= $1 ORDER BY version", own)
    return bool(rows) and rows[0]["version"] == own and all(row["name"].endswith(BESIDE) for row in rows[1:])
