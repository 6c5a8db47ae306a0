"""A person's lock: somebody was wrong before a camera about them once too often. They and whoever pays for them are told."""

from __future__ import annotations

from datetime import datetime

from kinpay.database import audit, outbox
from kinpay.database.audit import Event
from kinpay.database.sql import Connection
from kinpay.people.store import person_row
from kinpay.sittings import lock_store
from kinpay.sittings.circles import payers_of
from kinpay.sittings.lock import LockKind, failed


async def person_failed(conn: Connection, person_id: str, *, operator_id: str, now: datetime) -> None:
    """Counts a failure against a person, and tells once it locks."""
    before, after = await lock_store.change(conn, person_id, LockKind.PERSON, lambda lock: failed(lock, now), now=now)
    if after.locked_until is None or before.is_closed(now):
        return
    person = await person_row(conn, person_id)
    assert person is not None, "only people are locked so"
    until = after.locked_until.isoformat()
    body = {
        "spender_id": person_id,
        "spender_name": person.display_name,
        "until": until,
        "people": sorted({*([] if person.assisted else [person_id]), *await payers_of(conn, person_id)}),
    }
    await outbox.enqueue(conn, "notice.face_locked", lane=operator_id, subject_id=person_id, body=body, now=now)
    await audit.record(conn, operator_id, Event("face.locked", person_id, {"until": until}), now=now)
