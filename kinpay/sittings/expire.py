"""Sittings whose seconds are over end by themselves; those that ended are forgotten after a while."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from kinpay.database.pool import Database, database_now
from kinpay.sittings import store
from kinpay.sittings.sitting import FINAL, SittingEvent

SWEEP: Final = 100
KEPT: Final = timedelta(hours=1)
"""How long an ended sitting may still be looked at; then only the log, the charge and the consent know of it."""


async def expire_sittings(db: Database) -> int:
    """The scheduled task: ends what nobody answered in time, each in a transaction of its own, and forgets; returns how many
    it ended.
    """
    async with db.transaction() as conn:
        now = await database_now(conn)
        await store.prune(conn, before=now - KEPT)
        due = await store.overdue(conn, now=now, most=SWEEP)
    for sitting_id in due:
        async with db.transaction() as conn:
            now = await database_now(conn)
            sitting = await store.lock(conn, sitting_id)
            if sitting is not None and sitting.state not in FINAL and sitting.is_late(now):
                await store.move(conn, sitting, SittingEvent.EXPIRE, now=now, reasons=("late",))
    return len(due)
