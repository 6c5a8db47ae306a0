"""How locks are kept. Whoever changes one holds its row; several in the order terminal, site, persons by id."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import datetime

from kinpay.database.sql import Connection, Record, Sql
from kinpay.sittings.errors import FaceDisabled, FaceLocked
from kinpay.sittings.lock import Lock, LockKind, open_lock


def _lock(row: Record) -> Lock:
    return Lock(**{**row, "kind": LockKind(row["kind"])})


FIND = Sql("""
    SELECT subject_id, kind, in_a_row, tally, tally_since, locked_until, disabled_at
    FROM face_lock WHERE subject_id = ANY(:subject_ids)
""")


async def locks_of(conn: Connection, subject_ids: Iterable[str]) -> dict[str, Lock]:
    """The locks of those among `subject_ids` for whom something ever failed."""
    return {row["subject_id"]: _lock(row) for row in await FIND.rows(conn, subject_ids=list(subject_ids))}


OPEN = Sql("""
    INSERT INTO face_lock (subject_id, kind, in_a_row, tally, tally_since) VALUES (:subject_id, :kind, 0, 0, :now)
    ON CONFLICT DO NOTHING
""")
HOLD = Sql("""
    SELECT subject_id, kind, in_a_row, tally, tally_since, locked_until, disabled_at
    FROM face_lock WHERE subject_id = :subject_id FOR UPDATE
""")
SAVE = Sql("""
    UPDATE face_lock SET in_a_row = :in_a_row, tally = :tally, tally_since = :tally_since, locked_until = :locked_until,
                         disabled_at = :disabled_at
    WHERE subject_id = :subject_id
""")


async def change(
    conn: Connection, subject_id: str, kind: LockKind, step: Callable[[Lock], Lock], *, now: datetime
) -> tuple[Lock, Lock]:
    """Carries a lock one step on under its row's lock; as it was, and as it is."""
    before = await hold(conn, subject_id, kind, now=now)
    after = step(before)
    await save(conn, after)
    return before, after


async def hold(conn: Connection, subject_id: str, kind: LockKind, *, now: datetime) -> Lock:
    """The lock, with its row locked to the end of the transaction."""
    row = await HOLD.row(conn, subject_id=subject_id)
    if row is None:
        await OPEN.run(conn, subject_id=subject_id, kind=str(kind), now=now)
        row = await HOLD.row(conn, subject_id=subject_id)
    return open_lock(subject_id, kind, now) if row is None else _lock(row)


async def save(conn: Connection, lock: Lock) -> None:
    """Writes a lock whose row is held."""
    await SAVE.run(
        conn,
        subject_id=lock.subject_id,
        in_a_row=lock.in_a_row,
        tally=lock.tally,
        tally_since=lock.tally_since,
        locked_until=lock.locked_until,
        disabled_at=lock.disabled_at,
    )


def require_open(locks: Iterable[Lock], now: datetime) -> None:
    """Raises: FaceDisabled; FaceLocked with the longest wait among `locks`."""
    closed = [lock for lock in locks if lock.is_closed(now)]
    if any(lock.disabled_at is not None for lock in closed):
        raise FaceDisabled()
    waits = [lock.locked_until - now for lock in closed if lock.locked_until is not None]
    if waits:
        raise FaceLocked(retry_after_s=max(1, math.ceil(max(waits).total_seconds())))


RESET = Sql("DELETE FROM face_lock WHERE subject_id = :subject_id RETURNING kind")


async def reset(conn: Connection, subject_id: str) -> bool:
    """Forgets what failed; False if nothing was kept."""
    return await RESET.value(conn, subject_id=subject_id) is not None
