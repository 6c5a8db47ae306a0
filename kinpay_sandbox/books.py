"""The bank's own database: opening it, and what a connection is called here."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import asyncpg

Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Row: TypeAlias = asyncpg.Record

EVENTS_CHANNEL = "bank_events"
DEADLINES_CHANNEL = "bank_deadlines"

SCHEMA = Path(__file__).with_name("schema.sql")

LOCK_SCHEMA = "SELECT pg_advisory_xact_lock(8201)"
HAS_SCHEMA = "SELECT to_regclass('public.deliveries') IS NOT NULL"


async def open_books(url: str) -> Pool:
    """Connect to the bank's database, writing its schema on the first visit."""
    pool: Pool = await asyncpg.create_pool(url, min_size=2, max_size=20, timeout=30, command_timeout=60)
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute(LOCK_SCHEMA)
        if not await conn.fetchval(HAS_SCHEMA):
            await conn.execute(SCHEMA.read_text(encoding="utf-8"))
    return pool


async def open_nonce_book(url: str) -> Pool:
    """Connect for the nonces alone: they may be lost with the last milliseconds of a crash, so no commit waits for the disk."""
    pool: Pool = await asyncpg.create_pool(
        url, min_size=1, max_size=4, timeout=30, command_timeout=60, server_settings={"synchronous_commit": "off"}
    )
    return pool


def new_id(prefix: str) -> str:
    """Return a fresh random name such as `db1f…` (letters and digits only)."""
    return prefix + secrets.token_hex(12)


def now_utc() -> datetime:
    """Return the bank's clock; it is read after locks are held, so that a day's sums are true."""
    return datetime.now(UTC)


def stamp(when: datetime | None) -> str | None:
    """Write a time as RFC 3339 in UTC, or null."""
    return None if when is None else when.astimezone(UTC).isoformat().replace("+00:00", "Z")
