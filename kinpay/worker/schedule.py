"""What is due by time alone: every so many seconds, by one process at a time, whatever went wrong the last time."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from kinpay.database.pool import Database
from kinpay.database.sql import Sql
from kinpay.primitives.errors import Busy

log = logging.getLogger(__name__)

TIMEOUT_S: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """`run` is called every `every_s` seconds in some process. `name` is how processes agree on which one."""

    name: str
    every_s: float
    run: Callable[[], Awaitable[object]]


# A session's lock goes with its connection, so that a process that dies holds up nobody.
TRY_LOCK = Sql("SELECT pg_try_advisory_lock(:space, :number)")
UNLOCK = Sql("SELECT pg_advisory_unlock(:space, :number)")
_SPACE: Final = 0x6B70  # "kp": apart from the migrations' lock


AT_ONCE: Final = 4
"""How many errands run at the same time. Each holds a connection for its lock and wants others for its work: if all of them
could, they would hold every connection of a small pool and wait for each other."""


class ErrandTally:
    """How one errand went in this process. `last_success_at` (Unix seconds) begins as the moment it was first waited for, so
    that an errand that never ran through is late in the end, too.
    """

    __slots__ = ("failures", "last_success_at", "runs", "seconds")

    def __init__(self) -> None:
        self.runs = self.failures = 0
        self.seconds = 0.0
        self.last_success_at = time.time()


class Schedule:
    """Runs errands until told to stop."""

    def __init__(self, db: Database, errands: Sequence[Errand], *, jitter: Callable[[], float] = random.random) -> None:
        """Raises: ValueError for two errands of one name."""
        if len({errand.name for errand in errands}) != len(errands):
            raise ValueError("two errands of one name")
        self.errands = errands
        self.tally = {errand.name: ErrandTally() for errand in errands}
        self._db = db
        self._jitter = jitter
        self._stopping = asyncio.Event()
        self._turns = asyncio.Semaphore(AT_ONCE)

    def stop(self) -> None:
        """Begins nothing more; `run` returns when what is under way is done."""
        self._stopping.set()

    async def run(self) -> None:
        """Runs every errand at its pace until `stop`."""
        async with asyncio.TaskGroup() as group:
            for errand in self.errands:
                group.create_task(self._repeat(errand))

    async def run_once(self) -> None:
        """Every errand once, in their order; for commands and tests."""
        for errand in self.errands:
            await attempt(self._db, errand, self.tally[errand.name])

    async def _repeat(self, errand: Errand) -> None:
        # Processes that start together should not ask together for ever.
        pause_s = errand.every_s * self._jitter()
        while not await self._stops_within(pause_s):
            async with self._turns:
                await attempt(self._db, errand, self.tally[errand.name])
            pause_s = errand.every_s

    async def _stops_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True


async def attempt(db: Database, errand: Errand, tally: ErrandTally | None = None) -> bool:
    """Runs the errand unless another process is at it; whether it ran through. Never raises but for cancellation."""
    tally = tally or ErrandTally()
    number = int.from_bytes(hashlib.sha256(errand.name.encode()).digest()[:4], "big", signed=True)
    try:
        async with db.connection() as conn:
            if not await TRY_LOCK.value(conn, space=_SPACE, number=number):
                return False
            try:
                return await _ran_through(errand, tally)
            finally:
                if not conn.is_closed():
                    await UNLOCK.value(conn, space=_SPACE, number=number)
    except Busy:
        return False


async def _ran_through(errand: Errand, tally: ErrandTally) -> bool:
    began = time.perf_counter()
    tally.runs += 1
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await errand.run()
    except Exception as error:
        log.error("errand failed", extra={"errand": errand.name, "error": type(error).__name__}, exc_info=error)
        tally.failures += 1
        return False
    finally:
        tally.seconds += time.perf_counter() - began
    tally.last_success_at = time.time()
    return True
