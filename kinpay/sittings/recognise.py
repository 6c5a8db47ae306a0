"""Who pays ([0032]): the frames are looked at, compared and judged; what is written is who it is, or what else is asked for.

What was counted as a failure when the frames were taken is taken back for a success, or where it was no attempt.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from kinpay.biometrics.compare import compare_with
from kinpay.biometrics.gallery_store import Scope
from kinpay.biometrics.matcher import Ranking, Way
from kinpay.biometrics.template import Sample
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection
from kinpay.primitives.server_keys import ServerKeys
from kinpay.sittings import hidden, lock_store, locked, store
from kinpay.sittings.circles import circle_of
from kinpay.sittings.desk import Desk
from kinpay.sittings.errors import SittingLate
from kinpay.sittings.examine import TEMPLATE_PICTURES, Examined
from kinpay.sittings.hidden import Hidden
from kinpay.sittings.lock import LockKind, failed, no_attempt, succeeded
from kinpay.sittings.outcome import Found, found_among, found_as
from kinpay.sittings.sitting import Purpose, Sitting, SittingEvent, SittingRules, SittingState
from kinpay.sittings.token import FaceToken, write_token


@dataclass(frozen=True, slots=True, kw_only=True)
class Concluded:
    """What the terminal hears: a token, or what else would do; `reasons` where the frames themselves were worth nothing."""

    token: str | None = None
    asks: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    expires_at: datetime | None = None


async def recognise(db: Database, desk: Desk, sitting: Sitting, *, examined: Examined) -> Concluded:
    """Judges what was examined of a sitting's frames. Raises: SittingLate if its time ran out meanwhile."""
    if examined.sample is None:
        return await _refuse(db, sitting, examined)
    said = hidden.unseal(desk.keys, sitting.sealed, sitting_id=sitting.id)
    found = await _search(db, desk, sitting, said, sample=examined.sample, flat_perhaps=examined.flat_perhaps)
    async with db.transaction() as conn:
        now = await _hold(conn, sitting)
        if found.person_id is not None:
            circle_id = said.circle_id or await circle_of(conn, found.person_id)
            if circle_id is not None:
                await _count(conn, sitting, said, now=now, is_failure=False, is_success=True)
                return await _pass(conn, desk, sitting, found, circle_id, factor=said.factor, now=now)
            found = replace(found, person_id=None, asks=(Way.CODE, Way.CARD))
        await _count(conn, sitting, said, now=now, is_failure=found.is_failure, is_success=False)
        return await _step_up(conn, desk.keys, sitting, said, found=found, rules=desk.rules, now=now)


async def _search(db: Database, desk: Desk, sitting: Sitting, said: Hidden, *, sample: Sample, flat_perhaps: bool) -> Found:
    """Whoever is locked is not there."""
    assert sitting.amount is not None, "a payment has an amount"
    verify = sitting.purpose is Purpose.VERIFY
    scope = Scope(
        operator_id=sitting.operator_id,
        site_id=None if verify else sitting.site_id,
        model_id=sample.model_id,
        dimension=sample.dimension,
        pictures=TEMPLATE_PICTURES,
    )
    if not verify:
        ranking = await _without_locked(db, await desk.galleries.search(scope, sample))
        return found_among(ranking, sitting.amount, desk.tolerance, flat_perhaps=flat_perhaps)
    ranking = await compare_with(db, desk.keyring, desk.rotations, person_ids=said.people, scope=scope, sample=sample)
    ranking = await _without_locked(db, ranking)
    if len(said.people) == 1:
        return found_as(ranking, said.people[0], sitting.amount, desk.tolerance, flat_perhaps=flat_perhaps)
    return found_among(ranking, sitting.amount, desk.tolerance, flat_perhaps=flat_perhaps)


async def _without_locked(db: Database, ranking: Ranking) -> Ranking:
    async with db.connection() as conn:
        now = await database_now(conn)
        locks = await lock_store.locks_of(conn, [item.person_id for item in ranking.candidates])
    closed = {person_id for person_id, lock in locks.items() if lock.is_closed(now)}
    return replace(ranking, candidates=tuple(item for item in ranking.candidates if item.person_id not in closed))


async def _refuse(db: Database, sitting: Sitting, examined: Examined) -> Concluded:
    """The frames are worth nothing: badly taken, which is no attempt, or not of somebody who is there, which is one."""
    async with db.transaction() as conn:
        now = await _hold(conn, sitting)
        await _count(conn, sitting, Hidden(), now=now, is_failure=not examined.badly_taken, is_success=False)
        await store.move(conn, sitting, SittingEvent.REFUSE, now=now, reasons=examined.reasons)
    return Concluded(reasons=examined.reasons)


async def let_go(db: Database, sitting: Sitting, *, reason: str) -> None:
    """Nothing came of the frames, for no fault that counts: the sitting is over, unless it is already."""
    async with db.transaction() as conn:
        now = await database_now(conn)
        found = await store.lock(conn, sitting.id)
        if found is None or found.state is not SittingState.TAKEN:
            return
        if sitting.purpose is not Purpose.ENROL:
            await _count(conn, sitting, Hidden(), now=now, is_failure=False, is_success=False)
        await store.move(conn, sitting, SittingEvent.REFUSE, now=now, reasons=(reason,))


async def _hold(conn: Connection, sitting: Sitting) -> datetime:
    """Locks the sitting, still as the caller knows it. Raises: SittingLate."""
    now = await database_now(conn)
    found = await store.lock(conn, sitting.id)
    if found is None or found.state is not SittingState.TAKEN:
        raise SittingLate()
    return now


async def _count(
    conn: Connection, sitting: Sitting, said: Hidden, *, now: datetime, is_failure: bool, is_success: bool
) -> None:
    """Settles what was counted when the frames were taken; a failure counts for the site and the person named, too."""
    if not is_failure:
        step = succeeded if is_success else no_attempt
        await lock_store.change(conn, sitting.terminal_id, LockKind.TERMINAL, step, now=now)
    elif sitting.purpose is Purpose.RECOGNISE:
        await lock_store.change(conn, sitting.site_id, LockKind.SITE, lambda lock: failed(lock, now), now=now)
    if sitting.purpose is Purpose.VERIFY and len(said.people) == 1:
        if is_failure:
            await locked.person_failed(conn, said.people[0], operator_id=sitting.operator_id, now=now)
        elif is_success:
            await lock_store.change(conn, said.people[0], LockKind.PERSON, succeeded, now=now)


async def _step_up(
    conn: Connection, keys: ServerKeys, sitting: Sitting, said: Hidden, *, found: Found, rules: SittingRules, now: datetime
) -> Concluded:
    asks = tuple(str(way) for way in found.asks)
    kept = Hidden(people=found.near.open(), circle_id=said.circle_id, factor=said.factor, counted=found.is_failure, asks=asks)
    expires_at = now + rules.pin_life
    await store.move(
        conn,
        sitting,
        SittingEvent.STEP_UP,
        now=now,
        sealed=hidden.seal(keys, kept, sitting_id=sitting.id),
        evidence=found.evidence.record(),
        expires_at=expires_at,
    )
    return Concluded(asks=asks, expires_at=expires_at)


async def _pass(
    conn: Connection, desk: Desk, sitting: Sitting, found: Found, circle_id: str, *, factor: str, now: datetime
) -> Concluded:
    assert found.person_id is not None
    evidence = {**found.evidence.record(), "factor": factor}
    return await passed(
        conn, desk.keys, sitting, person_id=found.person_id, circle_id=circle_id, evidence=evidence, rules=desk.rules, now=now
    )


async def passed(
    conn: Connection,
    keys: ServerKeys,
    sitting: Sitting,
    *,
    person_id: str,
    circle_id: str,
    evidence: dict[str, Any],
    rules: SittingRules,
    now: datetime,
) -> Concluded:
    """Somebody is known surely enough: the token for the one charge that may follow."""
    assert sitting.amount is not None, "a payment has an amount"
    expires_at = (now + rules.pin_life).replace(microsecond=0)
    await store.move(
        conn,
        sitting,
        SittingEvent.ACCEPT,
        now=now,
        person_id=person_id,
        circle_id=circle_id,
        evidence=evidence,
        expires_at=expires_at,
    )
    token = FaceToken(
        code_id=sitting.id,
        operator_id=sitting.operator_id,
        circle_id=circle_id,
        spender_id=person_id,
        credential_id=sitting.credential_id,
        amount_minor=sitting.amount.minor,
        currency=sitting.amount.currency,
        expires_s=int(expires_at.timestamp()),
        evidence=evidence,
    )
    return Concluded(token=write_token(keys, token, terminal_id=sitting.terminal_id), expires_at=expires_at)
