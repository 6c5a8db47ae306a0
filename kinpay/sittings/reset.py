"""Staff look at a terminal's lock, and open it once they know what happened there. Source: threat A10."""

from __future__ import annotations

from datetime import datetime

from kinpay.database import audit
from kinpay.database.audit import Event
from kinpay.database.sql import Connection
from kinpay.primitives.actor import Actor
from kinpay.primitives.errors import NotFound
from kinpay.sittings import lock_store
from kinpay.sittings.lock import Lock, LockKind, open_lock
from kinpay.terminals.store import find_terminal


async def lock_of_terminal(conn: Connection, asker: Actor, terminal_id: str, *, now: datetime) -> Lock:
    """What failed there. Raises: NotFound for a terminal of another operator."""
    await _own(conn, asker, terminal_id)
    found = await lock_store.locks_of(conn, [terminal_id])
    return found.get(terminal_id) or open_lock(terminal_id, LockKind.TERMINAL, now)


async def reset_terminal(conn: Connection, asker: Actor, terminal_id: str, *, now: datetime) -> None:
    """Forgets what failed at a terminal. Twice is as good as once. Raises: NotFound."""
    await _own(conn, asker, terminal_id)
    if await lock_store.reset(conn, terminal_id):
        event = Event("face.unlocked", terminal_id, {}, asker.id)
        await audit.record(conn, asker.operator_id, event, now=now)


async def _own(conn: Connection, asker: Actor, terminal_id: str) -> None:
    terminal = await find_terminal(conn, terminal_id)
    if terminal is None or terminal.operator_id != asker.operator_id:
        raise NotFound()
