"""Installing a terminal: staff announce it, the device presents the code and proves to hold its key.

Source: [0016]; threat A25.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from kinpay.database.audit import Event, record
from kinpay.database.idempotency import Answer, RequestKey, once
from kinpay.database.pool import Database
from kinpay.database.sql import Connection
from kinpay.primitives.errors import Conflict, NotFound, Unauthenticated, WrongState
from kinpay.primitives.ids import is_id, new_id, new_secret
from kinpay.primitives.server_keys import SealBroken, ServerKeys
from kinpay.terminals import store
from kinpay.terminals.terminal import INSTALL_LIFE, Terminal, TerminalKind

_PURPOSE: Final = "install-code"
_SECRET_BYTES: Final = 20
_KEPT: Final = "install-code-kept"


@dataclass(frozen=True, slots=True)
class InstallCode:
    """What staff hand to the device: the terminal's id and a secret. Only its keyed hash is kept."""

    terminal_id: str
    text: str
    expires_at: datetime


def terminal_of_code(text: str) -> str:
    """The terminal that an install code is for, as it says. Raises: Unauthenticated for what is no install code."""
    terminal_id, point, secret = text.partition(".")
    if not point or not secret or not is_id(terminal_id):
        raise Unauthenticated()
    return terminal_id


async def expect_terminal(
    conn: Connection,
    keys: ServerKeys,
    *,
    operator_id: str,
    site_id: str,
    name: str,
    kind: TerminalKind,
    hold_s: int,
    now: datetime,
    actor_id: str | None,
) -> InstallCode:
    """Announces a terminal at one of the operator's sites. `hold_s`: how long its authorisations wait for a capture.

    Raises: NotFound if the operator has no such site.
    """
    code, code_hash = _new_code(keys, new_id(), now)
    written = await store.insert_expected(
        conn,
        code.terminal_id,
        operator_id=operator_id,
        site_id=site_id,
        name=name,
        kind=kind,
        hold_s=hold_s,
        code_hash=code_hash,
        expires_at=code.expires_at,
        now=now,
    )
    if not written:
        raise NotFound()
    body = {"site_id": site_id, "kind": str(kind), "hold_s": hold_s}
    await record(conn, operator_id, Event("terminal.expected", code.terminal_id, body, actor_id), now=now)
    return code


async def renew_install_code(
    conn: Connection, keys: ServerKeys, *, operator_id: str, terminal_id: str, now: datetime, actor_id: str | None
) -> InstallCode:
    """A new install code for a terminal still expected; the one before ends at once.

    Raises: NotFound; WrongState if it is installed or revoked.
    """
    code, code_hash = _new_code(keys, terminal_id, now)
    renewed = await store.renew_code(
        conn, terminal_id, operator_id=operator_id, code_hash=code_hash, expires_at=code.expires_at
    )
    if not renewed:
        found = await store.find_terminal(conn, terminal_id)
        if found is None or found.operator_id != operator_id:
            raise NotFound()
        raise WrongState("terminal", state=found.state, event="renew_install_code")
    await record(conn, operator_id, Event("terminal.code_renewed", terminal_id, {}, actor_id), now=now)
    return code


async def expect_once(
    db: Database, keys: ServerKeys, key: RequestKey, expect: Callable[[Connection], Awaitable[InstallCode]]
) -> tuple[InstallCode, bool]:
    """Announces a terminal once for this key. A repetition (True) gets the very same code, which is kept sealed for it.

    Raises: KeyReused; Conflict for a repetition after the server's secret of then is gone; what `expect` raises.
    """

    async def effect(conn: Connection) -> Answer:
        code = await expect(conn)
        sealed = keys.seal(code.text.encode(), purpose=_KEPT, bound_to=code.terminal_id)
        kept = base64.b64encode(sealed).decode()
        return Answer(201, {"terminal_id": code.terminal_id, "code": kept, "expires_at": code.expires_at.isoformat()})

    answer = await once(db, key, effect)
    terminal_id, sealed = answer.body["terminal_id"], base64.b64decode(answer.body["code"])
    try:
        text = keys.unseal(sealed, purpose=_KEPT, bound_to=terminal_id).decode()
    except SealBroken:
        raise Conflict(thing="install_code") from None
    return InstallCode(terminal_id, text, datetime.fromisoformat(answer.body["expires_at"])), answer.replayed


async def install_terminal(conn: Connection, keys: ServerKeys, *, code: str, public_key: bytes, now: datetime) -> Terminal:
    """Expected → active, for the device that proved to hold `public_key` (a P-256 point). The code is then spent.

    The same device repeating the same request, because it never heard the answer, gets it again while the code lives.

    Raises: Unauthenticated for an unknown, expired, used or withdrawn code, all alike; Conflict for another terminal's key.
    """
    terminal_id = terminal_of_code(code)
    code_hash = keys.mac(_PURPOSE, code.encode())
    try:
        fresh = await store.activate(conn, terminal_id, code_hash=code_hash, public_key=public_key, now=now)
    except asyncpg.UniqueViolationError:
        raise Conflict(thing="public_key") from None
    if not fresh and not await store.was_installed_by(conn, terminal_id, code_hash=code_hash, public_key=public_key, now=now):
        raise Unauthenticated()
    terminal = await store.find_terminal(conn, terminal_id)
    assert terminal is not None, "terminals with a key are never removed"
    if fresh:
        event = Event("terminal.installed", terminal_id, {"public_key": public_key.hex()}, terminal_id)
        await record(conn, terminal.operator_id, event, now=now)
    return terminal


def _new_code(keys: ServerKeys, terminal_id: str, now: datetime) -> tuple[InstallCode, bytes]:
    text = f"{terminal_id}.{new_secret(_SECRET_BYTES)}"
    return InstallCode(terminal_id, text, now + INSTALL_LIFE), keys.mac(_PURPOSE, text.encode())
