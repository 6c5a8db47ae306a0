"""Ending a terminal: from the commit on, nothing it signs is believed, in any process.

Source: ASVS 8.3.2 (changes of authorisation take effect immediately); threat A25.
"""

from __future__ import annotations

from datetime import datetime

from kinpay.database.audit import Event, record
from kinpay.database.sql import Connection
from kinpay.primitives.errors import NotFound
from kinpay.terminals import store
from kinpay.terminals.session import end_sessions
from kinpay.terminals.terminal import TERMINAL_LIFE, TerminalEvent, TerminalState


async def revoke_terminal(conn: Connection, *, operator_id: str, terminal_id: str, now: datetime, actor_id: str | None) -> None:
    """Active → revoked with all its sessions; one that is only expected is withdrawn, its install code with it.

    Repeating it changes nothing. Codes that it showed end with it; what it has already charged goes on.

    Raises: NotFound.
    """
    if await store.delete_expected(conn, terminal_id, operator_id=operator_id):
        await record(conn, operator_id, Event("terminal.withdrawn", terminal_id, {}, actor_id), now=now)
        return
    found = await store.find_terminal(conn, terminal_id)
    if found is None or found.operator_id != operator_id:
        raise NotFound()
    if found.state is TerminalState.REVOKED:
        return
    TERMINAL_LIFE.after(found.state, TerminalEvent.REVOKE)
    if await store.revoke_active(conn, terminal_id, operator_id=operator_id, now=now):
        await end_sessions(conn, terminal_id)
        await record(conn, operator_id, Event("terminal.revoked", terminal_id, {}, actor_id), now=now)
