"""A PIN beside the face: one go, held against those who were near, whoever that was.

Nobody near, the wrong PIN, or a PIN that two of them share: the same words, by the same steps.
Source: story S2.6; semantics.md "Security".
"""

from __future__ import annotations

from datetime import datetime

from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection
from kinpay.primitives.actor import Actor
from kinpay.primitives.errors import KinpayError, NotFound
from kinpay.sittings import hidden, lock_store, locked, store
from kinpay.sittings.circles import circle_of
from kinpay.sittings.desk import Desk
from kinpay.sittings.errors import PinNotAsked, SittingLate
from kinpay.sittings.hidden import Hidden
from kinpay.sittings.lock import LockKind, failed, succeeded
from kinpay.sittings.outcome import NEAR_AT_MOST
from kinpay.sittings.pin import whose_pin
from kinpay.sittings.recognise import Concluded, passed
from kinpay.sittings.sitting import Purpose, Sitting, SittingEvent, SittingState

ALONE = ("code", "card")


async def try_pin(db: Database, desk: Desk, actor: Actor, *, sitting_id: str, pin: str) -> Concluded:
    """The token if it is the PIN of whoever stands there; else what would still do, and the sitting is over.

    Raises: NotFound, also for another terminal's sitting; PinNotAsked; SittingLate; FaceLocked, FaceDisabled.
    """
    async with db.transaction() as conn:
        now = await database_now(conn)
        sitting = await store.lock(conn, sitting_id)
        if sitting is None or sitting.terminal_id != actor.id or sitting.amount is None:
            raise NotFound()
        concluded = await _try(conn, desk, sitting, pin=pin, now=now)
    if isinstance(concluded, KinpayError):
        raise concluded
    return concluded


async def _try(conn: Connection, desk: Desk, sitting: Sitting, *, pin: str, now: datetime) -> Concluded | KinpayError:
    if sitting.state is SittingState.EXPIRED:
        return SittingLate()
    kept = hidden.unseal(desk.keys, sitting.sealed, sitting_id=sitting.id)
    if sitting.state is not SittingState.STEPPING_UP or "pin" not in kept.asks:
        return PinNotAsked()
    terminal = await lock_store.hold(conn, sitting.terminal_id, LockKind.TERMINAL, now=now)
    if sitting.is_late(now):
        await store.move(conn, sitting, SittingEvent.EXPIRE, now=now, reasons=("late",))
        return SittingLate()
    # The sitting's own failure may have closed the lock: whoever knows their PIN opens it again.
    lock_store.require_open([] if kept.counted else [terminal], now)
    locks = await lock_store.locks_of(conn, kept.people)
    near = [person for person in kept.people if person not in locks or not locks[person].is_closed(now)]
    person_id = await whose_pin(conn, desk.keys, near, pin=pin)
    circle_id = None if person_id is None else kept.circle_id or await circle_of(conn, person_id)
    if person_id is None:
        return await _wrong(conn, sitting, kept, near, now=now)
    await lock_store.save(conn, succeeded(terminal if kept.counted else failed(terminal, now)))
    await lock_store.change(conn, person_id, LockKind.PERSON, lambda lock: succeeded(failed(lock, now)), now=now)
    if circle_id is None:
        # Right, but a face and a PIN select no circle; a code or a card does.
        await store.move(conn, sitting, SittingEvent.REFUSE, now=now, reasons=("circle",))
        return Concluded(asks=ALONE)
    evidence = {**(sitting.evidence or {}), "factor": "pin" if kept.factor == "none" else f"{kept.factor}+pin"}
    return await passed(
        conn, desk.keys, sitting, person_id=person_id, circle_id=circle_id, evidence=evidence, rules=desk.rules, now=now
    )


async def _wrong(conn: Connection, sitting: Sitting, kept: Hidden, near: list[str], *, now: datetime) -> Concluded:
    """Counts at the terminal and against everybody who was near, unless the face of this sitting has counted there already."""
    if not kept.counted:
        await lock_store.change(conn, sitting.terminal_id, LockKind.TERMINAL, lambda lock: failed(lock, now), now=now)
    if not (kept.counted and sitting.purpose is Purpose.VERIFY):
        for person_id in sorted(near):
            await locked.person_failed(conn, person_id, operator_id=sitting.operator_id, now=now)
        for _ in range(NEAR_AT_MOST - len(near)):
            # As many steps whoever was near: a clock beside the terminal learns no more than its screen shows.
            await lock_store.change(conn, sitting.terminal_id, LockKind.TERMINAL, lambda lock: lock, now=now)
    await store.move(conn, sitting, SittingEvent.REFUSE, now=now, reasons=("pin",))
    return Concluded(asks=ALONE)
