"""Hearing the database's NOTIFY: one connection a process, opened again whenever it breaks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from kinpay.database.pool import Database
from kinpay.database.sql import Sql
from kinpay.primitives.errors import Busy

log = logging.getLogger(__name__)

RETRY_S: Final = 1.0
PULSE_S: Final = 30.0

PULSE = Sql("SELECT")

Heard = Callable[[str], None]
"""Called with the payload; with "" also whenever something may have been missed, so that the listener looks for itself."""


class Listener:
    """Calls everybody who subscribed to a channel. A notification is a hint: who gets one reads the tables."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._heard: dict[str, list[Heard]] = {}

    def on(self, channel: str, heard: Heard) -> None:
        """Subscribes; before `run`. `channel` is a plain SQL name of ours."""
        self._heard.setdefault(channel, []).append(heard)

    async def run(self) -> None:
        """Listens until cancelled."""
        while True:
            try:
                await self._listen()
            except Busy:
                log.warning("not listening; trying again", extra={"retry_s": RETRY_S})
            await asyncio.sleep(RETRY_S)

    async def _listen(self) -> None:
        broken = asyncio.Event()
        async with self._db.connection() as conn:
            conn.add_termination_listener(lambda _: broken.set())
            for channel in self._heard:
                await conn.add_listener(channel, self._call)
            try:
                self._everybody()
                await self._until_broken(conn, broken)
            finally:
                if not conn.is_closed():
                    for channel in self._heard:
                        await conn.remove_listener(channel, self._call)

    async def _until_broken(self, conn: Any, broken: asyncio.Event) -> None:
        """A connection can die without a word; asking for nothing now and then finds out."""
        while not broken.is_set():
            try:
                async with asyncio.timeout(PULSE_S):
                    await broken.wait()
            except TimeoutError:
                await PULSE.run(conn)

    def _call(self, _conn: Any, _pid: int, channel: str, payload: object) -> None:
        for heard in self._heard.get(channel, ()):
            heard(str(payload))

    def _everybody(self) -> None:
        for several in self._heard.values():
            for heard in several:
                heard("")
