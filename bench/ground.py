"""The private PostgreSQL that all parties share, with settings as in production: nothing is lost when the power fails."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg

import kinpay_postgres
from bench.machine import used_by_others
from kinpay.database.migrate import migrate
from kinpay.database.pool import prepare_connection
from kinpay_postgres import Cluster
from kinpay_postgres.folder import Folder

SETTINGS: Final = {
    "shared_buffers": "1GB",
    "max_wal_size": "4GB",
    "max_connections": "300",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "autovacuum": "on",
}


@dataclass(frozen=True, slots=True)
class Ground:
    """A running cluster."""

    cluster: Cluster

    @property
    def postmaster(self) -> int:
        """The server's first process."""
        return self.cluster.pid

    def url(self, database: str) -> str:
        """The address of a database."""
        return self.cluster.url(database)

    async def fresh(self, name: str) -> str:
        """A migrated, empty database; returns its address."""
        await asyncio.to_thread(kinpay_postgres.drop_database, self.cluster, name)
        url = await asyncio.to_thread(kinpay_postgres.create_database, self.cluster, name)
        await migrate(url)
        return url

    async def copy(self, name: str, template: str) -> str:
        """A copy of a database that nobody is connected to; returns its address."""
        async with self.connected("postgres") as conn:
            await conn.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            await conn.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return self.url(name)

    @asynccontextmanager
    async def connected(self, database: str) -> AsyncIterator[Any]:
        """A plain connection that speaks our types."""
        conn = await asyncpg.connect(self.url(database), command_timeout=1800)
        try:
            await prepare_connection(conn)
            yield conn
        finally:
            await conn.close()

    async def settle(self) -> float:
        """Before every cell of every party: what earlier cells left to be written is written. Returns what others use."""
        async with self.connected("postgres") as conn:
            await conn.execute("CHECKPOINT")
        return await used_by_others()

    async def tidy(self, *databases: str) -> None:
        """Between rounds, for every party: VACUUM (ANALYZE) of its whole database."""
        for name in databases:
            async with self.connected(name) as conn:
                await conn.execute("VACUUM (ANALYZE)")


@contextmanager
def open_ground(place: Path) -> Iterator[Ground]:
    """Starts a cluster in a new folder under `place` (on a disk: `fsync` has to mean something) and removes it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="kinpay-bench-", dir=place))
    try:
        yield Ground(kinpay_postgres.start(folder, settings=SETTINGS))
    finally:
        kinpay_postgres.stop(folder, mode="immediate")
        shutil.rmtree(Folder(folder).socket_dir, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
