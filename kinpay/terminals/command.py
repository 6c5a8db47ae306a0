"""What a terminal is told to do: written with the cause, fetched by the terminal, finished by its word.

A command is handed out again until it is finished: an answer may be lost, a terminal may restart.
Source: [0027] (the server tells the terminal to capture); semantics.md "Registration".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection, Record, Sql
from kinpay.primitives.errors import Busy, Conflict, NotFound
from kinpay.primitives.ids import new_id

log = logging.getLogger(__name__)

MAX_WAIT_S: Final = 25
_AGAIN_AFTER: Final = timedelta(seconds=30)
_LOOK_EVERY_S: Final = 3.0
_CHANNEL: Final = "terminal_command"


class CommandKind(StrEnum):
    """What can be asked of a terminal."""

    CAPTURE = "capture"
    """Capture a template, with guidance for the terminal and the person before it."""
    CANCEL_CAPTURE = "cancel_capture"
    """Stop capturing and forget what was captured."""
    SHOW = "show"
    """Show something to the person at the terminal, who has no phone of their own."""


@dataclass(frozen=True, slots=True)
class Command:
    """Something that a terminal is to do before `expires_at`."""

    id: str
    terminal_id: str
    kind: CommandKind
    body: dict[str, Any]
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class FinishedCommand:
    """What the terminal says came of it; `reason` is its own word for why not."""

    command: Command
    ok: bool
    reason: str | None


Finished = Callable[[Connection, FinishedCommand, datetime], Awaitable[None]]
"""Called, in the same transaction, when a terminal finishes a command (the floor above knows what it meant)."""


async def nothing_more(conn: Connection, finished: FinishedCommand, now: datetime) -> None:
    """For servers in which nobody above waits for commands to be finished."""


WRITE = Sql("""
    INSERT INTO terminal_command (id, terminal_id, kind, body, created_at, expires_at)
    VALUES (:command_id, :terminal_id, :kind, :body, :now, :expires_at)
""")
RING = Sql("SELECT pg_notify('terminal_command', :terminal_id)")


async def command(
    conn: Connection, terminal_id: str, *, kind: CommandKind, body: dict[str, Any], now: datetime, ttl: timedelta
) -> str:
    """Tells a terminal to do something within `ttl`; returns the command's id. It hears of it after the commit."""
    command_id = new_id()
    await WRITE.run(conn, command_id=command_id, terminal_id=terminal_id, kind=kind, body=body, now=now, expires_at=now + ttl)
    await RING.value(conn, terminal_id=terminal_id)
    return command_id


WITHDRAW = Sql("UPDATE terminal_command SET done_at = :now WHERE id = :command_id AND done_at IS NULL")


async def withdraw_command(conn: Connection, command_id: str, *, now: datetime) -> bool:
    """Takes back a command that is not finished, for instance to give it to another terminal; False if it is finished."""
    return await WITHDRAW.run(conn, command_id=command_id, now=now) == 1


TAKE = Sql("""
    UPDATE terminal_command SET delivered_at = :now WHERE id IN (
        SELECT id FROM terminal_command
        WHERE terminal_id = :terminal_id AND done_at IS NULL AND expires_at > :now
          AND (:again OR delivered_at IS NULL OR delivered_at <= :again_before)
          AND EXISTS (SELECT FROM terminal WHERE id = :terminal_id AND state = 'active')
        ORDER BY created_at, id LIMIT 20 FOR UPDATE SKIP LOCKED)
    RETURNING id, terminal_id, kind, body, created_at, expires_at
""")


async def take_commands(conn: Connection, terminal_id: str, *, now: datetime, again: bool = False) -> list[Command]:
    """The open commands not handed out within the last 30 s, oldest first; with `again`, all open ones (after a restart).

    One that was revoked while it waited hears nothing more.
    """
    rows = await TAKE.rows(conn, terminal_id=terminal_id, now=now, again=again, again_before=now - _AGAIN_AFTER)
    return sorted((_command(row) for row in rows), key=lambda item: (item.created_at, item.id))


FIND = Sql("""
    SELECT id, terminal_id, kind, body, created_at, expires_at, done_at FROM terminal_command
    WHERE id = :command_id AND terminal_id = :terminal_id
""")
FINISH = Sql("""
    UPDATE terminal_command SET done_at = :now, body = body || :outcome
    WHERE id = :command_id AND terminal_id = :terminal_id AND done_at IS NULL
""")


async def finish_command(
    conn: Connection,
    *,
    terminal_id: str,
    command_id: str,
    ok: bool,
    reason: str | None,
    finished: Finished,
    now: datetime,
) -> None:
    """Notes what came of a command and tells `finished`; repeating it, or finishing a withdrawn one, changes nothing.

    Raises: NotFound; Conflict if it was finished or withdrawn at this very moment (asking again settles it).
    """
    row = await FIND.row(conn, command_id=command_id, terminal_id=terminal_id)
    if row is None:
        raise NotFound()
    if row["done_at"] is not None:
        return
    # `finished` may lock a circle, and circles are locked before other rows: so it goes first, our row after it.
    await finished(conn, FinishedCommand(_command(row), ok, reason), now)
    outcome = {"outcome": {"ok": ok, "reason": reason}}
    if not await FINISH.run(conn, command_id=command_id, terminal_id=terminal_id, outcome=outcome, now=now):
        raise Conflict(thing="command")


def _command(row: Record) -> Command:
    return Command(row["id"], row["terminal_id"], CommandKind(row["kind"]), row["body"], row["created_at"], row["expires_at"])


class CommandBell:
    """Wakes the requests that wait for commands: one listening connection a process, held only while somebody waits.

    It only makes waiting short; whoever waits also looks by itself every few seconds, so a lost connection loses nothing.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._listening: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def waiting_for(self, terminal_id: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever the terminal is given a command."""
        rung = asyncio.Event()
        self._waiting.setdefault(terminal_id, set()).add(rung)
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen())
        try:
            yield rung
        finally:
            others = self._waiting[terminal_id]
            others.discard(rung)
            if not others:
                del self._waiting[terminal_id]
            if not self._waiting and self._listening is not None:
                self._listening.cancel()
                self._listening = None

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except (Busy, OSError) as error:
                log.warning("not listening for commands", extra={"error": type(error).__name__})
                await asyncio.sleep(1)

    async def _listen_once(self) -> None:
        gone = asyncio.Event()

        def lost(_: object) -> None:
            gone.set()

        async with self._db.connection() as conn:
            conn.add_termination_listener(lost)
            await conn.add_listener(_CHANNEL, self._ring)
            try:
                await gone.wait()
            finally:
                conn.remove_termination_listener(lost)
                if not conn.is_closed():
                    await conn.remove_listener(_CHANNEL, self._ring)

    def _ring(self, conn: object, process: int, channel: str, payload: object) -> None:
        for rung in self._waiting.get(str(payload), ()):
            rung.set()


async def wait_for_commands(
    db: Database, bell: CommandBell, *, terminal_id: str, wait_s: float, again: bool = False
) -> list[Command]:
    """Open commands as soon as there are any, or nothing after `wait_s` seconds (at most 25)."""
    loop = asyncio.get_running_loop()
    until = loop.time() + min(wait_s, MAX_WAIT_S)
    async with bell.waiting_for(terminal_id) as rung:
        while True:
            rung.clear()
            async with db.transaction() as conn:
                found = await take_commands(conn, terminal_id, now=await database_now(conn), again=again)
            left = until - loop.time()
            if found or left <= 0:
                return found
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, _LOOK_EVERY_S)):
                    await rung.wait()
