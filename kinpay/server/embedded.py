"""Where the database is: somebody's PostgreSQL, or our own one under `KINPAY_HOME`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import asyncpg

import kinpay_postgres
from kinpay.server.settings import Settings
from kinpay_postgres import Cluster

NAME = "kinpay"


@dataclass(frozen=True, slots=True)
class Place:
    """A database's address, and the cluster that has to be stopped at the end because this process started it."""

    url: str
    ours: Cluster | None = None

    async def leave(self) -> None:
        """Stops the cluster if this process started it and nobody else has come to use it since."""
        if self.ours is not None and not await _is_used(self.url):
            await asyncio.to_thread(kinpay_postgres.stop, self.ours)


OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"


async def _is_used(url: str) -> bool:
    try:
        conn = await asyncpg.connect(url, timeout=10)
    except (OSError, asyncpg.PostgresError):
        return False
    try:
        return bool(await conn.fetchval(OTHERS))
    finally:
        await conn.close()


def folder_of(settings: Settings) -> Path:
    """The embedded cluster's folder."""
    return settings.home / "postgres"


def find_database(settings: Settings) -> Place:
    """The database to use; the embedded one is started if it does not run. Waits for it, so not for an event loop.

    Raises: ClusterError, with what to do about it.
    """
    if settings.database_url is not None:
        return Place(settings.database_url)
    folder = folder_of(settings)
    ran_before = kinpay_postgres.status(folder) is not None
    cluster = kinpay_postgres.start(folder)
    try:
        url = kinpay_postgres.create_database(cluster, NAME, exist_ok=True)
    except BaseException:
        if not ran_before:
            kinpay_postgres.stop(cluster)
        raise
    return Place(url, None if ran_before else cluster)
