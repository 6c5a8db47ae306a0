"""Restoring a backup into a new cluster, as of a point in time, closed until the providers were asked for the rest."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import kinpay_postgres
from kinpay.audit.check import check
from kinpay.audit.checkpoint import verify_anchor
from kinpay.audit.findings import Finding
from kinpay.database.migrate import migrate
from kinpay.database.pool import Database, database_now
from kinpay.primitives.errors import Invalid, NotFound
from kinpay.recovery.back_up import About, about_of
from kinpay.recovery.closed import RECOVERING, close_restored
from kinpay_postgres.base_backup import Base, Place
from kinpay_postgres.kept_log import leads_to
from kinpay_postgres.recover import recover
from kinpay_postgres.restoring import restoring


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoredTo:
    """A restored cluster, running and closed. `point_at`: what was committed until then is in it. `findings`: of the audit."""

    cluster: kinpay_postgres.Cluster
    database: str
    base: Base
    point_at: datetime
    findings: list[Finding]


def choose(place: Place, *, until: datetime | None, timeline: int | None) -> tuple[Base, About]:
    """The newest base backup that was complete by `until` and leads to `timeline`, or to the newest.

    Raises: NotFound; ClusterError.
    """
    for base in reversed(leads_to(place, place.bases(), timeline=timeline)):
        about = about_of(base)
        if until is None or _complete_at(base) <= until:
            return base, about
    raise NotFound(thing="backup", path=str(place.path))


def _complete_at(base: Base) -> datetime:
    """Its name says in whole seconds when it had been copied and verified."""
    return datetime.strptime(base.path.name, "base-%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) + timedelta(seconds=1)


def restore(
    place: Place,
    data_dir: Path,
    *,
    public_key: bytes,
    key_id: str,
    until: datetime | None,
    binaries: Path | None,
    timeline: int | None = None,
) -> RestoredTo:
    """Recovers into `data_dir`, migrates, closes, and audits what is there against the checkpoint of the backup.

    Nobody else can start the cluster before it is closed. What does not come to its end leaves an empty folder; what is killed
    leaves one that refuses to start and that a second restore clears. Runs a loop of its own.

    Raises: ClusterError; NotFound if there is no such backup; Invalid if the secret is not the backup's; SchemaMismatch for a
    backup of a newer version.
    """
    base, about = choose(place, until=until, timeline=timeline)
    if about.key_id != key_id:
        raise Invalid("other_secret", field="KINPAY_SECRET_FILE", backup=base.path.name)
    with restoring(data_dir):
        recovered = recover(
            base, place.wal, data_dir, until=until, timeline=timeline, superuser=about.superuser, binaries=binaries
        )
        point_at = recovered.last_commit_at or about.begun_at
        cluster = kinpay_postgres.start(data_dir, while_restoring=True)
        url = cluster.url(about.database)
        asyncio.run(_close(url, point_at=point_at, backup=base.path.name))
    findings = asyncio.run(_audit(url, about, public_key))
    return RestoredTo(cluster=cluster, database=about.database, base=base, point_at=point_at, findings=findings)


async def _close(url: str, *, point_at: datetime, backup: str) -> None:
    await migrate(url)
    db = await Database.open(url, max_connections=2, settings=RECOVERING)
    try:
        async with db.transaction() as conn:
            await close_restored(conn, point_at=point_at, backup=backup, now=await database_now(conn))
    finally:
        await db.close()


async def _audit(url: str, about: About, public_key: bytes) -> list[Finding]:
    db = await Database.open(url, max_connections=2, command_timeout_s=3600.0, settings=RECOVERING)
    try:
        async with db.connection() as conn:
            return await check(conn, overdue_after=None) + await verify_anchor(conn, about.anchor, public_key)
    finally:
        await db.close()
