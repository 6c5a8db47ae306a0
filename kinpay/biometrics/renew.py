"""Renewing an operator's rotation: after a leak, or now and then, without anybody being enrolled again.

`begin` makes the next version; from then on it is what is enrolled with and searched by. `carry_on` turns what is kept, a few
at a time, each few in a transaction of their own: it may be stopped at any moment and begun again. Meanwhile both versions
are valid, as every row says which is its own. A retired seed is kept for as long as a copy of the database may have to be
restored: rows of before then can be turned, too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

from kinpay.biometrics import rotation_store, store
from kinpay.biometrics.enrol import opened, sealed
from kinpay.biometrics.keyring import Keyring
from kinpay.biometrics.rotation import Rotations
from kinpay.biometrics.store import TemplateRow
from kinpay.biometrics.template import turned_on
from kinpay.database import audit
from kinpay.database.audit import Event
from kinpay.database.pool import Database, database_now
from kinpay.primitives.sealed import Sealed
from kinpay.primitives.server_keys import SealBroken

log = logging.getLogger(__name__)

SEED_KEPT: Final = timedelta(days=40)
"""How long a retired seed is kept: longer than any copy of the database that may be restored."""
_AT_ONCE: Final = 200
_FIRST: Final = "0" * 32


async def begin(db: Database, rotations: Rotations, operator_id: str) -> int:
    """Begins the next version and returns it; if two begin at once there is one."""
    async with db.transaction() as conn:
        version = await rotation_store.newest(conn, operator_id)
        await rotation_store.begin_rotation(conn, rotations, operator_id, after=version, now=await database_now(conn))
    return version + 1


async def carry_on(db: Database, keyring: Keyring, rotations: Rotations, *, at_once: int = _AT_ONCE) -> int:
    """Turns what is still under older versions, of every operator; returns how many templates.

    Raises: RotationGone if a seed is missing: then those templates can only be captured again.
    """
    async with db.connection() as conn:
        operators = await rotation_store.being_renewed(conn)
    turned = 0
    for operator_id in operators:
        after: str | None = _FIRST
        while after is not None:
            some, after = await _turn_some(db, keyring, rotations, operator_id, after=after, at_once=at_once)
            turned += some
        async with db.transaction() as conn:
            version = await rotation_store.newest(conn, operator_id)
            retired = await rotation_store.retire_unused(conn, operator_id, version=version, now=await database_now(conn))
        log.info("rotation renewed", extra={"operator_id": operator_id, "turned": turned, "retired": len(retired)})
    return turned


async def _turn_some(
    db: Database, keyring: Keyring, rotations: Rotations, operator_id: str, *, after: str, at_once: int
) -> tuple[int, str | None]:
    """How many were turned, and after which template to go on; None at the end."""
    async with db.transaction() as conn:
        version = await rotation_store.newest(conn, operator_id)
        ids = await rotation_store.lock_stale(conn, operator_id, version=version, after=after, limit=at_once)
        if not ids:
            return 0, None
        rows = await store.kept_vectors(conn, ids)
        keys = await keyring.unwrap_all([row.key_id for row in rows])
        made = await asyncio.to_thread(_turned, rotations, rows, keys, version)
        for row, ciphertext in made:
            assert row.rotation_version is not None, "vectors have one"
            await store.rewrite(conn, row.id, ciphertext=ciphertext, before=row.rotation_version, rotation_version=version)
        event = Event("rotation.carried_on", operator_id, {"version": version, "templates": len(made)})
        await audit.record(conn, operator_id, event, now=await database_now(conn))
    return len(made), ids[-1]


def _turned(
    rotations: Rotations, rows: Sequence[TemplateRow], keys: dict[str, Sealed[bytes]], version: int
) -> list[tuple[TemplateRow, bytes]]:
    made = []
    for row in rows:
        if row.key_id not in keys:
            continue  # Closed for ever; a row without a key is nobody's template.
        try:
            template = opened(row, keys[row.key_id])
        except SealBroken:
            log.error("template does not open", extra={"template_id": row.id})
            continue
        assert row.dimension is not None, "vectors have one"
        assert row.rotation_version is not None, "and a rotation"
        away, on = (
            rotations.matrix_now(row.operator_id, number, model_id=row.model, dimension=row.dimension)
            for number in (row.rotation_version, version)
        )
        turned = turned_on(template, away=away, on=on, rotation_version=version)
        label = replace(row, rotation_version=version)
        made.append((row, sealed(label, keys[row.key_id], turned.content)))
    return made


async def forget_seeds(db: Database, rotations: Rotations, *, kept: timedelta = SEED_KEPT) -> int:
    """Removes the seeds of versions that were retired long enough ago; returns how many."""
    async with db.connection() as conn:
        retired = await rotation_store.retired_before(conn, await database_now(conn) - kept)
    for operator_id, version in retired:
        await rotations.forget(operator_id, version)
        async with db.transaction() as conn:
            await rotation_store.note_forgotten(conn, operator_id, version=version, now=await database_now(conn))
    return len(retired)
