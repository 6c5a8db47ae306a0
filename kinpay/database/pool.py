"""Connections: one pool a process, ids as 32 hexadecimal digits, JSON as Python values, transactions by name."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

import asyncpg
import msgspec

from kinpay.database.sql import Connection, Sql
from kinpay.primitives.errors import Busy, ChargedBefore, KinpayError, Restored

log = logging.getLogger(__name__)

NOW = Sql("SELECT kinpay_now()")
_SETTINGS: Final = {"timezone": "UTC", "application_name": "kinpay", "jit": "off"}
_BY_INDEX: Final = dict.fromkeys(("enable_seqscan", "enable_hashjoin", "enable_mergejoin"), "off")
"""Neither a table nor an index is read from end to end to be joined."""


class Database:
    """Owns the pool. A function that takes `db` owns its transactions; one that takes `conn` runs inside its caller's."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        max_connections: int = 20,
        command_timeout_s: float = 60.0,
        by_index: bool = False,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> Database:
        """Connects to `url` (`postgresql://…`).

        `by_index`: for statements that are prepared once and look up a few rows, each by its index. Planned while a table is
        young, reading all of it is the cheapest way; the connection would go on reading all of it while the table grows.
        `settings`: of its connections, besides ours.
        """
        pool = await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=max_connections,
            command_timeout=command_timeout_s,
            init=prepare_connection,
            reset=_leave_as_it_is,
            server_settings=_SETTINGS | (_BY_INDEX if by_index else {}) | dict(settings),
        )
        return cls(pool)

    @property
    def connections(self) -> tuple[int, int, int]:
        """How many connections are in use now, how many are open, how many there may be."""
        opened, idle = self._pool.get_size(), self._pool.get_idle_size()
        return opened - idle, opened, self._pool.get_max_size()

    async def close(self) -> None:
        """Gives every connection back to the server."""
        await self._pool.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A transaction: committed at the end of the block, rolled back by any exception.

        Raises: Busy when the database cannot be reached, is shutting down, or a lock was not to be had; Restored when it was
        restored from a backup and is closed; ChargedBefore for a charge whose request had made one that was lost.
        """
        try:
            async with self._pool.acquire() as conn, conn.transaction():
                yield conn
        except _UNAVAILABLE as error:
            raise _busy(error) from error
        except asyncpg.PostgresError as error:
            ours = _OURS.get(error.sqlstate or "")
            if ours is None:
                raise
            raise ours() from error

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection without a transaction, for single reads and for LISTEN. Raises: as `transaction`."""
        try:
            async with self._pool.acquire() as conn:
                yield conn
        except _UNAVAILABLE as error:
            raise _busy(error) from error
        except asyncpg.PostgresError as error:
            ours = _OURS.get(error.sqlstate or "")
            if ours is None:
                raise
            raise ours() from error


_UNAVAILABLE = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.InterfaceError,
    ConnectionError,
    TimeoutError,
)


async def _leave_as_it_is(conn: Any) -> None:
    """Nobody of ours changes a connection's settings, or goes without ending what it listens to and locks: so no statement
    has to be sent to undo that. (The driver itself rolls back what was left open.)
    """


def _busy(error: Exception) -> Exception:
    """What the asker hears; a value that the driver cannot encode is the asker's fault, not the database's."""
    if isinstance(error, ValueError):
        return error
    log.warning("database unavailable", extra={"error": type(error).__name__})
    return Busy(reason="database")


_OURS: Final[Mapping[str, type[KinpayError]]] = {"KP001": Restored, "KP002": ChargedBefore}
"""What our own triggers raise, by its SQLSTATE."""


async def prepare_connection(conn: Any) -> None:
    """Teaches a new connection our types."""
    await conn.set_type_codec("uuid", encoder=bytes.fromhex, decoder=bytes.hex, schema="pg_catalog", format="binary")
    await conn.set_type_codec(
        "jsonb",
        encoder=lambda value: b"\x01" + msgspec.json.encode(value),
        decoder=lambda data: msgspec.json.decode(data[1:]),
        schema="pg_catalog",
        format="binary",
    )


async def database_now(conn: Connection) -> datetime:
    """The one clock (semantics.md): read after the locks are held, then passed on as `now`."""
    moment: datetime = await NOW.value(conn)
    return moment
