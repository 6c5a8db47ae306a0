"""A restored database is closed: nothing moves money in it until the providers were asked for the gap.

The tables themselves refuse, so that no process, old or new, can pass by; the triggers are there only while it is closed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from kinpay.database.pool import Database
from kinpay.database.sql import Connection, Sql
from kinpay.primitives.errors import Invalid, NotFound, Restored
from kinpay.primitives.ids import new_id

RECOVERING: Final = {"kinpay.recovering": "on"}
"""The setting of connections that may write although it is closed."""
ELSEWHERE: Final = "not by kinpay"
"""The name of the backup of a database that was restored by other means."""

CLOSE = Sql("""
    INSERT INTO restoration (id, restored_at, point_at, backup)
    VALUES (:id, greatest(:now::timestamptz, :point_at::timestamptz), :point_at, :backup)
""")
# Made in one go with the row, and taken away in one go with its opening.
SHUT = Sql("""
    DO $$
    DECLARE name text;
    BEGIN
        FOREACH name IN ARRAY ARRAY['charge', 'debit', 'refund'] LOOP
            EXECUTE format('CREATE OR REPLACE TRIGGER closed BEFORE INSERT OR UPDATE ON %I
                            FOR EACH ROW EXECUTE FUNCTION refuse_while_closed()', name);
        END LOOP;
    END $$
""")
GUARD_KEYS = Sql("""
    CREATE OR REPLACE TRIGGER recovered BEFORE INSERT ON charge FOR EACH ROW EXECUTE FUNCTION refuse_recovered()
""")
UNSHUT = Sql("""
    DO $$
    DECLARE name text;
    BEGIN
        FOREACH name IN ARRAY ARRAY['charge', 'debit', 'refund'] LOOP
            EXECUTE format('DROP TRIGGER IF EXISTS closed ON %I', name);
        END LOOP;
    END $$
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Restoration:
    """What was restored, and until when it knows everything. `asked_at`: when the providers were last asked for the rest."""

    id: str
    restored_at: datetime
    point_at: datetime
    backup: str
    asked_at: datetime | None
    opened_at: datetime | None


async def close_restored(conn: Connection, *, point_at: datetime, backup: str, now: datetime) -> str:
    """Closes a database that was just restored as of `point_at`; returns the restoration's id."""
    restoration_id = new_id()
    earlier = await closed_as_of(conn)
    point_at = point_at if earlier is None else min(point_at, earlier)
    await GIVE_UP_EARLIER.run(conn, now=now)
    await CLOSE.run(conn, id=restoration_id, point_at=point_at, backup=backup, now=now)
    await SHUT.run(conn)
    await GUARD_KEYS.run(conn)
    return restoration_id


async def close_as_of(conn: Connection, point_at: datetime, *, now: datetime) -> bool:
    """Closes a database that others restored, as of `point_at`; whether it did: the same point is not closed twice.

    Raises: Invalid for a point in the future.
    """
    if point_at > now:
        raise Invalid("in_the_future", field="--restored-to")
    row = await LAST.row(conn)
    if row is not None and row["point_at"] <= point_at and (row["opened_at"] is None or row["point_at"] == point_at):
        return False
    await close_restored(conn, point_at=point_at, backup=ELSEWHERE, now=now)
    return True


# A backup of a database that was closed itself: the later restoration covers the earlier one's gap, too.
GIVE_UP_EARLIER = Sql("""
    UPDATE restoration SET opened_at = :now, opened_with = 'restored again' WHERE opened_at IS NULL
""")
LAST = Sql("SELECT id, restored_at, point_at, backup, asked_at, opened_at FROM restoration ORDER BY restored_at DESC LIMIT 1")
CLOSED = Sql("SELECT point_at FROM restoration WHERE opened_at IS NULL")


async def last_restoration(conn: Connection) -> Restoration:
    """The last one. Raises: NotFound in a database that never was restored."""
    row = await LAST.row(conn)
    if row is None:
        raise NotFound(thing="restoration")
    return Restoration(**row)


async def closed_as_of(conn: Connection) -> datetime | None:
    """The moment that a closed database was restored to; None in one that is open."""
    point: datetime | None = await CLOSED.value(conn)
    return point


async def want_open(db: Database) -> None:
    """Raises: Restored while it is closed, with the moment that it was restored to."""
    async with db.connection() as conn:
        point_at = await closed_as_of(conn)
    if point_at is not None:
        raise Restored(restored_to=point_at.isoformat())


NOTE_ASKED = Sql("UPDATE restoration SET asked_at = :now WHERE id = :id")
OPEN = Sql("UPDATE restoration SET opened_at = :now, opened_with = :with WHERE id = :id AND opened_at IS NULL")


async def note_asked(conn: Connection, restoration_id: str, *, now: datetime) -> None:
    """Notes that the providers were asked."""
    await NOTE_ASKED.run(conn, id=restoration_id, now=now)


async def open_again(conn: Connection, restoration_id: str, *, unsettled: str | None, now: datetime) -> bool:
    """Opens it; whether it was closed until now. `unsettled`: what is left, where somebody opened it all the same."""
    opened = await OPEN.run(conn, id=restoration_id, now=now, **{"with": unsettled})
    if opened:
        await UNSHUT.run(conn)
    return bool(opened)
