"""Which rotation of an operator's vectors is in use, and which no template is kept under any more."""

from __future__ import annotations

from datetime import datetime

from kinpay.biometrics.rotation import Rotations
from kinpay.database import audit
from kinpay.database.audit import Event
from kinpay.database.sql import Connection, Sql

# Held to the end of the transaction, so that the version is not retired before the template under it is there to be seen.
IN_USE = Sql("""
    SELECT version FROM rotation WHERE operator_id = :operator_id ORDER BY version DESC LIMIT 1 FOR SHARE
""")


async def rotation_in_use(conn: Connection, rotations: Rotations, operator_id: str, *, now: datetime) -> int:
    """The version to rotate by; the first one is made here, for an operator that has none."""
    version: int | None = await IN_USE.value(conn, operator_id=operator_id)
    if version is None:
        await begin_rotation(conn, rotations, operator_id, after=0, now=now)
        version = await IN_USE.value(conn, operator_id=operator_id)
    assert version is not None, "one was made, by us or by somebody who was first"
    return version


BEGIN = Sql("""
    INSERT INTO rotation (operator_id, version, begun_at) VALUES (:operator_id, :version, :now)
    ON CONFLICT DO NOTHING RETURNING version
""")


async def begin_rotation(conn: Connection, rotations: Rotations, operator_id: str, *, after: int, now: datetime) -> bool:
    """Makes the version that follows `after`, its seed first; False if somebody else made it."""
    await rotations.begin(operator_id, after + 1)
    if await BEGIN.value(conn, operator_id=operator_id, version=after + 1, now=now) is None:
        return False
    event = Event("rotation.begun", operator_id, {"version": after + 1})
    await audit.record(conn, operator_id, event, now=now)
    return True


NEWEST = Sql("SELECT max(version) FROM rotation WHERE operator_id = :operator_id")


async def newest(conn: Connection, operator_id: str) -> int:
    """The version in use; 0 where there is none."""
    return await NEWEST.value(conn, operator_id=operator_id) or 0


BEHIND = Sql("""
    SELECT DISTINCT operator_id FROM rotation r
    WHERE retired_at IS NULL AND version < (SELECT max(version) FROM rotation n WHERE n.operator_id = r.operator_id)
""")


async def being_renewed(conn: Connection) -> list[str]:
    """Operators whose older versions may still have templates."""
    return [row["operator_id"] for row in await BEHIND.rows(conn)]


STALE = Sql("""
    SELECT t.id FROM template_vector v JOIN template t ON t.id = v.template_id JOIN person p ON p.id = t.person_id
    WHERE t.id > :after AND t.destroyed_at IS NULL AND v.rotation_version < :version AND p.operator_id = :operator_id
    ORDER BY t.id LIMIT :limit FOR UPDATE OF t SKIP LOCKED
""")


async def lock_stale(conn: Connection, operator_id: str, *, version: int, after: str, limit: int) -> list[str]:
    """Templates under an older rotation than `version`, locked; those that somebody else has are left for later."""
    rows = await STALE.rows(conn, operator_id=operator_id, version=version, after=after, limit=limit)
    return [row["id"] for row in rows]


LOCK_OLD = Sql("""
    SELECT version FROM rotation WHERE operator_id = :operator_id AND version < :version AND retired_at IS NULL
    ORDER BY version FOR UPDATE
""")
IS_USED = Sql("""
    SELECT EXISTS (SELECT FROM template_vector v JOIN template t ON t.id = v.template_id JOIN person p ON p.id = t.person_id
                   WHERE t.destroyed_at IS NULL AND v.rotation_version = :version AND p.operator_id = :operator_id)
""")
RETIRE = Sql("UPDATE rotation SET retired_at = :now WHERE operator_id = :operator_id AND version = :version")


async def retire_unused(conn: Connection, operator_id: str, *, version: int, now: datetime) -> list[int]:
    """Marks versions before `version` that no template is kept under; returns them."""
    retired: list[int] = []
    for row in await LOCK_OLD.rows(conn, operator_id=operator_id, version=version):
        # Asked after the lock: whoever enrolled under this version held it until they had committed.
        if not await IS_USED.value(conn, operator_id=operator_id, version=row["version"]):
            await RETIRE.run(conn, operator_id=operator_id, version=row["version"], now=now)
            retired.append(row["version"])
    if retired:
        await audit.record(conn, operator_id, Event("rotation.retired", operator_id, {"versions": retired}), now=now)
    return retired


RETIRED = Sql("SELECT operator_id, version FROM rotation WHERE retired_at < :before AND forgotten_at IS NULL")


async def retired_before(conn: Connection, before: datetime) -> list[tuple[str, int]]:
    """Versions that were retired before that moment and whose seeds are still kept."""
    return [(row["operator_id"], row["version"]) for row in await RETIRED.rows(conn, before=before)]


FORGET = Sql("""
    UPDATE rotation SET forgotten_at = :now
    WHERE operator_id = :operator_id AND version = :version AND forgotten_at IS NULL RETURNING version
""")


async def note_forgotten(conn: Connection, operator_id: str, *, version: int, now: datetime) -> None:
    """The seed of a version is gone."""
    if await FORGET.value(conn, operator_id=operator_id, version=version, now=now) is not None:
        event = Event("rotation.forgotten", operator_id, {"version": version})
        await audit.record(conn, operator_id, event, now=now)
