"""Backing a running database up: a base backup, what it was of, and what proves that a restored one continues it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec

from kinpay.audit.checkpoint import Anchor, anchor_of, key_id_of, make_checkpoint, public_key_of
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection, Sql
from kinpay.primitives.errors import Busy, NotFound
from kinpay.primitives.server_keys import ServerKeys
from kinpay_postgres.base_backup import Base, Place, make_base
from kinpay_postgres.programs import Programs, programs_for

FORMAT: Final = "kinpay backup 1"


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What is noted beside a base backup. `key_id`: which secret opens what is sealed in it, and signed its checkpoint."""

    format: str
    begun_at: datetime
    database: str
    superuser: str
    server_version: str
    system: str
    schema_version: int
    key_id: str
    anchor: Anchor


@dataclass(frozen=True, slots=True)
class BackedUp:
    """A base backup, and whether somebody keeps the log that follows it."""

    base: Base
    log_is_kept: bool


SERVER = Sql("""
    SELECT current_setting('server_version') AS version, current_database() AS database,
           (SELECT rolname FROM pg_roles WHERE oid = 10)::text AS superuser,
           (SELECT system_identifier FROM pg_control_system())::text AS system,
           (SELECT max(version) FROM schema_migration) AS schema_version
""")
LOG_IS_KEPT = Sql("SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = :slot AND active)")


async def back_up(db: Database, keys: ServerKeys, place: Place, *, programs: Programs, slot: str) -> BackedUp:
    """Signs the ends of all lanes, then copies the cluster. The copy holds neither the secret nor the keyring.

    Raises: ClusterError, with what to do about it; Busy.
    """
    place.prepare()
    async with db.transaction() as conn:
        now = await database_now(conn)
        await make_checkpoint(conn, keys, now)
    async with db.connection() as conn:
        about = await _about(conn, keys, now=now)
        await asyncio.to_thread(place.want_of, about.system)
        log_is_kept = await LOG_IS_KEPT.value(conn, slot=slot)
    noted: dict[str, Any] = msgspec.to_builtins(about)
    base = await asyncio.to_thread(make_base, place, programs, about=noted)
    return BackedUp(base, log_is_kept)


async def _about(conn: Connection, keys: ServerKeys, *, now: datetime) -> About:
    row = await SERVER.row(conn)
    assert row is not None
    return About(
        format=FORMAT,
        begun_at=now,
        database=row["database"],
        superuser=row["superuser"],
        server_version=row["version"],
        system=row["system"],
        schema_version=row["schema_version"],
        key_id=key_id_of(public_key_of(keys)),
        anchor=await anchor_of(conn),
    )


def about_of(base: Base) -> About:
    """What was noted of a base backup. Raises: NotFound for one that is none of ours."""
    try:
        about = msgspec.convert(dict(base.about), About)
    except msgspec.ValidationError:
        raise NotFound(thing="backup", path=str(base.path)) from None
    if about.format != FORMAT:
        raise NotFound(thing="backup", path=str(base.path))
    return about


SERVER_VERSION = "SELECT current_setting('server_version')"


async def programs_of(url: str, *, binaries: Path | None) -> Programs:
    """The server's programs on this machine. Raises: ClusterError; Busy when the database cannot be reached."""
    try:
        conn = await asyncpg.connect(url)
    except (OSError, asyncpg.PostgresError) as error:
        raise Busy(reason="database") from error
    try:
        version = await conn.fetchval(SERVER_VERSION)
    finally:
        await conn.close()
    return programs_for(url, server_version=version, binaries=binaries)
