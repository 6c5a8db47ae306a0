"""Keeping, opening, confirming and destroying a template.

Destroying has two halves: the row loses its ciphertext in the caller's transaction, and the key is destroyed once that
has been committed (a key destroyed before a rollback would leave a template that nothing opens). The outbox sees to the
second half if the caller does not live to do it. Source: threats A11, A12; semantics.md "Security".
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kinpay.biometrics import store
from kinpay.biometrics.keyring import Keyring, new_data_key
from kinpay.biometrics.store import TemplateRow
from kinpay.biometrics.template import Template
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
    nonce = os.urandom(_NONCE)
    bound_to = _bound_to(template_id, person_id, template.model, template.model_version)
    sealed = nonce + AESGCM(data_key.open()).encrypt(nonce, template.content.open(), bound_to)
    await keyring.wrap(key_id, data_key)
    row = TemplateRow(
        id=template_id,
        person_id=person_id,
        operator_id=operator_id,
        key_id=key_id,
        model=template.model,
        model_version=template.model_version,
        ciphertext=sealed,
        provisional_until=provisional_until,
        destroyed_at=None,
    )
    await store.insert(conn, row, captured_by=captured_by, now=now)
    body = {"person_id": person_id, "key_id": key_id, "provisional": provisional_until is not None}
    await audit.record(conn, lane, Event("template.enrolled", template_id, body, captured_by), now=now)
    return template_id


def _bound_to(template_id: str, person_id: str, model: str, model_version: str) -> bytes:
    return "\n".join((template_id, person_id, model, model_version)).encode()


async def open_template(conn: Connection, keyring: Keyring, *, template_id: str, now: datetime) -> Template:
    """The template in the clear, for the matcher alone.

    Raises: NotFound once it is destroyed or past its provisional life; KeyGone; SealBroken.
    """
    row = await store.find(conn, template_id)
    if row is None or row.ciphertext is None or (row.provisional_until is not None and row.provisional_until <= now):
        raise NotFound()
    data_key = await keyring.unwrap(row.key_id)
    bound_to = _bound_to(row.id, row.person_id, row.model, row.model_version)
    try:
        content = AESGCM(data_key.open()).decrypt(row.ciphertext[:_NONCE], row.ciphertext[_NONCE:], bound_to)
    except InvalidTag:
        raise SealBroken(template_id=template_id) from None
    return Template(model=row.model, model_version=row.model_version, content=Sealed(content))


async def confirm(conn: Connection, template_id: str, *, lane: str, now: datetime) -> bool:
    """Keeps a provisional template for good; False if it was destroyed, or its provisional life is over."""
    if not await store.confirm(conn, template_id, now=now):
        return False
    await audit.record(conn, lane, Event("template.confirmed", template_id, {}), now=now)
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
