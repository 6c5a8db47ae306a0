"""Frames come: once, from the terminal that was asked, under its nonce, within its seconds.

What is wrong with them is written before it is said, so that it is counted however the terminal goes on.
"""

from __future__ import annotations

import hmac
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection
from kinpay.primitives.actor import Actor
from kinpay.primitives.errors import KinpayError, NotFound
from kinpay.sittings import lock_store, store
from kinpay.sittings.errors import NonceWrong, SittingLate, SittingUsed
from kinpay.sittings.lock import LockKind, failed
from kinpay.sittings.sitting import Purpose, Sitting, SittingEvent, SittingState

LOOKED_AT_FOR: Final = timedelta(minutes=2)
"""How long frames may take to be looked at; a process that died meanwhile never finishes."""


async def take(db: Database, actor: Actor, *, sitting_id: str, nonce: str, purposes: frozenset[Purpose]) -> Sitting:
    """The sitting, from now on *taken*. For a payment it stands as a failure until it turns out otherwise.

    Raises: NotFound, also for another terminal's; SittingUsed; SittingLate; NonceWrong; FaceLocked, FaceDisabled.
    """
    async with db.transaction() as conn:
        now = await database_now(conn)
        sitting = await store.lock(conn, sitting_id)
        if sitting is None or sitting.terminal_id != actor.id or sitting.purpose not in purposes:
            raise NotFound()
        objection = await _objection(conn, sitting, nonce=nonce, now=now)
    # Raised after the commit: what was counted must stay so.
    if objection is not None:
        raise objection
    return replace(sitting, state=SittingState.TAKEN)


async def _objection(conn: Connection, sitting: Sitting, *, nonce: str, now: datetime) -> KinpayError | None:
    """Why the frames are not looked at; else the sitting is taken."""
    if sitting.state is SittingState.EXPIRED:
        return SittingLate()
    if sitting.state is not SittingState.ASKED:
        return SittingUsed()
    paying = sitting.purpose is not Purpose.ENROL
    held = await lock_store.hold(conn, sitting.terminal_id, LockKind.TERMINAL, now=now)
    others = {} if sitting.purpose is not Purpose.RECOGNISE else await lock_store.locks_of(conn, [sitting.site_id])
    if sitting.is_late(now):
        await store.move(conn, sitting, SittingEvent.EXPIRE, now=now, reasons=("late",))
        return SittingLate()
    lock_store.require_open([held, *others.values()], now)
    if not hmac.compare_digest(nonce.encode(), sitting.nonce.encode()):
        # Whoever answers a challenge with what was made for another one does not err: it counts, and there is no second try.
        await lock_store.save(conn, failed(held, now))
        await store.move(conn, sitting, SittingEvent.EXPIRE, now=now, reasons=("nonce",))
        return NonceWrong()
    if paying:
        await lock_store.save(conn, failed(held, now))
    await store.move(conn, sitting, SittingEvent.TAKE, now=now, sealed=sitting.sealed, expires_at=now + LOOKED_AT_FOR)
    return None
