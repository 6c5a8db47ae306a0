"""Keeping, opening, confirming and destroying a template.

Destroying has two halves: the row loses its ciphertext in the caller's transaction, and the key is destroyed once that
has been committed (a key destroyed before a rollback would leave a template that nothing opens). The outbox sees to the
second half if the caller does not live to do it. Source: threats A11, A12; semantics.md "Security".
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kinpay.biometrics import gallery_store, store
from kinpay.biometrics.keyring import Keyring, new_data_key
from kinpay.biometrics.rotation import Rotations
from kinpay.biometrics.rotation_store import rotation_in_use
from kinpay.biometrics.store import TemplateRow
from kinpay.biometrics.template import Modality, Sample, Template, rotated
from kinpay.database import audit, outbox
from kinpay.database.audit import Event
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection
from kinpay.primitives.errors import NotFound
from kinpay.primitives.ids import is_id, new_id
from kinpay.primitives.sealed import Sealed
from kinpay.primitives.server_keys import SealBroken

KEY_TASK: Final = "template.destroy_key"
"""The outbox topic of the second half of a destruction; `worker` maps it to `destroy_key`."""

_NONCE: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """A template that a transaction has emptied; `finish` destroys its key after the commit."""

    template_id: str
    key_id: str
    lane: str


async def enrol(
    conn: Connection,
    keyring: Keyring,
    *,
    person_id: str,
    template: Template,
    captured_by: str,
    provisional_until: datetime | None,
    lane: str,
    now: datetime,
) -> str:
    """Encrypts `template` under a fresh key of its own and keeps it; returns its id.

    `lane`: where it is recorded (the circle, or the operator while there is none). If the caller's transaction is rolled
    back, a key without a template stays behind; `sweep_keys` removes it.

    Raises: NotFound for an unknown person.
    """
    operator_id = await store.operator_of(conn, person_id)
    if operator_id is None:
        raise NotFound()
    template_id, key_id, data_key = new_id(), new_id(), new_data_key()
    row = TemplateRow(
        id=template_id,
        person_id=person_id,
        operator_id=operator_id,
        key_id=key_id,
        model=template.model,
        model_version=template.model_version,
        ciphertext=None,
        provisional_until=provisional_until,
        destroyed_at=None,
        modality=template.modality,
        dimension=template.dimension,
        pictures=template.pictures,
        rotation_version=template.rotation_version,
    )
    row = replace(row, ciphertext=sealed(row, data_key, template.content))
    await keyring.wrap(key_id, data_key)
    await store.insert(conn, row, captured_by=captured_by, now=now)
    body = {"person_id": person_id, "key_id": key_id, "provisional": provisional_until is not None}
    await audit.record(conn, lane, Event("template.enrolled", template_id, body, captured_by), now=now)
    if provisional_until is None:
        await gallery_store.join_where_captured(conn, template_id, lane=lane, now=now)
    return template_id


async def enrol_sample(
    conn: Connection,
    keyring: Keyring,
    rotations: Rotations,
    *,
    person_id: str,
    sample: Sample,
    captured_by: str,
    provisional_until: datetime | None,
    lane: str,
    now: datetime,
) -> str:
    """`enrol` for a vector of ours: rotated by the operator's rotation in use, then rounded, then encrypted.

    Raises: NotFound for an unknown person; RotationGone; SealBroken.
    """
    operator_id = await store.operator_of(conn, person_id)
    if operator_id is None:
        raise NotFound()
    version = await rotation_in_use(conn, rotations, operator_id, now=now)
    matrix = await rotations.matrix(operator_id, version, model_id=sample.model_id, dimension=sample.dimension)
    return await enrol(
        conn,
        keyring,
        person_id=person_id,
        template=rotated(sample, matrix, rotation_version=version),
        captured_by=captured_by,
        provisional_until=provisional_until,
        lane=lane,
        now=now,
    )


def _bound_to(row: TemplateRow) -> bytes:
    """What a ciphertext is bound to, so that one that was moved or relabelled does not open."""
    if row.modality == Modality.OPAQUE:
        return "\n".join((row.id, row.person_id, row.model, row.model_version)).encode()
    shape = f"{row.dimension}x{row.pictures}r{row.rotation_version}"
    parts = (row.operator_id, row.person_id, row.modality, row.model, row.model_version, shape, row.id)
    return "\n".join(parts).encode()


def sealed(row: TemplateRow, data_key: Sealed[bytes], content: Sealed[bytes]) -> bytes:
    """`content` encrypted for `row`, whose own ciphertext plays no part."""
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(data_key.open()).encrypt(nonce, content.open(), _bound_to(row))


def opened(row: TemplateRow, data_key: Sealed[bytes]) -> Template:
    """What lies in `row`. Raises: NotFound once it is destroyed; SealBroken."""
    if row.ciphertext is None:
        raise NotFound()
    try:
        content = AESGCM(data_key.open()).decrypt(row.ciphertext[:_NONCE], row.ciphertext[_NONCE:], _bound_to(row))
    except InvalidTag:
        raise SealBroken(template_id=row.id) from None
    return Template(
        model=row.model,
        model_version=row.model_version,
        content=Sealed(content),
        modality=Modality(row.modality),
        dimension=row.dimension,
        pictures=row.pictures,
        rotation_version=row.rotation_version,
    )


async def open_template(conn: Connection, keyring: Keyring, *, template_id: str, now: datetime) -> Template:
    """The template in the clear, for the matcher alone.

    Raises: NotFound once it is destroyed or past its provisional life; KeyGone; SealBroken.
    """
    row = await store.find(conn, template_id)
    if row is None or row.ciphertext is None or (row.provisional_until is not None and row.provisional_until <= now):
        raise NotFound()
    return opened(row, await keyring.unwrap(row.key_id))


async def confirm(conn: Connection, template_id: str, *, lane: str, now: datetime) -> bool:
    """Keeps a provisional template for good; False if it was destroyed, or its provisional life is over."""
    if not await store.confirm(conn, template_id, now=now):
        return False
    await audit.record(conn, lane, Event("template.confirmed", template_id, {}), now=now)
    await gallery_store.join_where_captured(conn, template_id, lane=lane, now=now)
    return True


async def destroy(conn: Connection, template_id: str, *, reason: str, lane: str, now: datetime) -> Erased | None:
    """Empties the row, writes the receipt and asks for the key's destruction; None if that was done before.

    The caller passes what is returned to `finish` once the transaction is committed.
    """
    key_id = await store.destroy(conn, template_id, reason=reason, now=now)
    if key_id is None:
        return None
    body = {"key_id": key_id, "lane": lane}
    await outbox.enqueue(conn, KEY_TASK, lane=lane, subject_id=template_id, body=body, now=now)
    event = Event("template.destroyed", template_id, {"key_id": key_id, "reason": reason})
    await audit.record(conn, lane, event, now=now)
    await gallery_store.take_out(conn, template_id, lane=lane, now=now)
    return Erased(template_id=template_id, key_id=key_id, lane=lane)


async def finish(keyring: Keyring, erased: Sequence[Erased | None]) -> None:
    """Destroys the keys of emptied templates at once, after the commit; the outbox task then only writes the receipt."""
    for item in erased:
        if item is not None:
            await keyring.destroy(item.key_id)


async def destroy_key(db: Database, keyring: Keyring, *, template_id: str, key_id: str, lane: str) -> None:
    """The outbox task `template.destroy_key`: destroys the key and completes the erase receipt; may run any number of times."""
    await keyring.destroy(key_id)
    async with db.transaction() as conn:
        head = await audit.lock_head(conn, lane)
        if await store.key_destruction_recorded(conn, template_id):
            return
        event = Event("template.key_destroyed", template_id, {"key_id": key_id})
        links, _ = audit.chain(lane, head, [event], at=await database_now(conn))
        await audit.write_links(conn, links)


async def sweep_keys(db: Database, keyring: Keyring, *, older_than: datetime) -> int:
    """Destroys keys that open nothing (their transaction was rolled back); returns how many.

    `older_than` must lie well before any enrolment that may still be under way.
    """
    first_kept = f"{int(older_than.timestamp() * 1000):012x}"
    candidates = [key_id for key_id in await keyring.key_ids() if is_id(key_id) and key_id[:12] < first_kept]
    swept = 0
    for start in range(0, len(candidates), 1000):
        some = candidates[start : start + 1000]
        async with db.connection() as conn:
            live = await store.live_keys(conn, some)
        for key_id in some:
            if key_id not in live:
                swept += await keyring.destroy(key_id)
    return swept
