"""Delivering the outbox: at least once, in order within a lane and kind, whatever happens to a worker meanwhile.

A worker leases messages and moves their fence; one that lost its lease (it hung, its machine slept) can neither finish them
nor, if its task asks `tasks.hold`, write anything for them.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from kinpay.database.pool import Database
from kinpay.database.sql import Sql
from kinpay.primitives.errors import Busy
from kinpay.primitives.tally import Timed
from kinpay.worker.tasks import Message, Tasks, find

log = logging.getLogger(__name__)

MAX_ATTEMPTS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How much at once and how patiently; times in seconds. A task must end well within its lease."""

    at_once: int = 8
    poll_s: float = 1.0
    lease_s: float = 60.0
    task_timeout_s: float = 45.0
    first_retry_s: float = 1.0
    longest_retry_s: float = 600.0


# Only the earliest open message of a lane and kind may go; one that was put off from the start holds nobody up.
# Locking comes after choosing: a row that another worker took meanwhile fails the conditions when they are read again.
CLAIM = Sql("""
    WITH heads AS (
        SELECT DISTINCT ON (lane, split_part(topic, '.', 1)) id
        FROM outbox
        WHERE done_at IS NULL AND dead_at IS NULL AND (attempts > 0 OR available_at <= kinpay_now())
        ORDER BY lane, split_part(topic, '.', 1), id
    ), free AS (
        SELECT o.id FROM outbox o JOIN heads USING (id)
        WHERE o.done_at IS NULL AND o.dead_at IS NULL AND o.available_at <= kinpay_now()
          AND (o.lease_until IS NULL OR o.lease_until < kinpay_now()) AND o.attempts < :max_attempts
        ORDER BY o.available_at, o.id LIMIT :at_most FOR UPDATE OF o SKIP LOCKED
    )
    UPDATE outbox o
    SET attempts = o.attempts + 1, fence = o.fence + 1, lease_until = kinpay_now() + :lease
    FROM free WHERE o.id = free.id
    RETURNING o.id, o.lane, o.topic, o.subject_id, o.body, o.created_at, o.attempts AS attempt, o.fence
""")
FINISH = Sql("""
    UPDATE outbox SET done_at = kinpay_now(), lease_until = NULL, error = NULL
    WHERE id = :id AND fence = :fence AND done_at IS NULL AND dead_at IS NULL
""")
PUT_OFF = Sql("""
    UPDATE outbox SET available_at = kinpay_now() + :delay, lease_until = NULL, error = :error
    WHERE id = :id AND fence = :fence AND done_at IS NULL AND dead_at IS NULL
""")
BURY = Sql("""
    UPDATE outbox SET dead_at = kinpay_now(), lease_until = NULL, error = :error
    WHERE id = :id AND fence = :fence AND done_at IS NULL AND dead_at IS NULL
""")
# A message that takes its worker down with it never comes back to be counted; its lease runs out once too often.
BURY_KILLERS = Sql("""
    UPDATE outbox SET dead_at = kinpay_now(), lease_until = NULL, error = 'lease ran out'
    WHERE done_at IS NULL AND dead_at IS NULL AND attempts >= :max_attempts AND lease_until < kinpay_now()
    RETURNING id, topic
""")


class Worker:
    """Delivers until told to stop. Any number of them may run, in any number of processes."""

    def __init__(
        self, db: Database, tasks: Tasks, *, pace: Pace | None = None, jitter: Callable[[], float] = random.random
    ) -> None:
        """`jitter` in [0, 1) spreads retries, so that what failed together does not return together."""
        self.tally: dict[str, Timed] = {}
        """By what stands before a topic's first point: topics are ours, so these are few."""
        self._db = db
        self._tasks = tasks
        self._pace = pace or Pace()
        self._jitter = jitter
        self._wake = asyncio.Event()
        self._stopping = False
        self._under_way: set[asyncio.Task[None]] = set()

    def wake(self, _payload: str = "") -> None:
        """There may be something to do; for `Listener.on("outbox", …)`."""
        self._wake.set()

    def stop(self) -> None:
        """Claims nothing more; `run` returns when what was claimed is done."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Delivers until `stop`; cancelling it cancels what is under way, whose leases then run out."""
        try:
            while not self._stopping:
                self._wake.clear()
                if not await self._fill():
                    await self._rest()
            if self._under_way:
                await asyncio.wait(self._under_way)
        finally:
            for task in self._under_way:
                task.cancel()

    async def run_until_idle(self) -> int:
        """Delivers what is due now and returns how many deliveries that took; for commands and tests."""
        delivered = 0
        while batch := await self._claim(self._pace.at_once):
            await asyncio.gather(*(self._deliver(message) for message in batch))
            delivered += len(batch)
        return delivered

    async def _fill(self) -> bool:
        """Claims as much as there is room for; whether anything was claimed."""
        room = self._pace.at_once - len(self._under_way)
        if room <= 0:
            return False
        try:
            batch = await self._claim(room)
        except Busy:
            return False
        except Exception as error:
            log.error("cannot claim", extra={"error": type(error).__name__}, exc_info=error)
            return False
        for message in batch:
            task = asyncio.create_task(self._deliver(message))
            self._under_way.add(task)
            task.add_done_callback(self._over)
        return bool(batch)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._wake.set()

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(self._pace.poll_s):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _claim(self, at_most: int) -> list[Message]:
        async with self._db.transaction() as conn:
            for row in await BURY_KILLERS.rows(conn, max_attempts=MAX_ATTEMPTS):
                log.error("message given up", extra={"message_id": row["id"], "topic": row["topic"], "error": "lease ran out"})
                self._note(row["topic"], "given_up", self._pace.lease_s)
            lease = timedelta(seconds=self._pace.lease_s)
            rows = await CLAIM.rows(conn, at_most=at_most, lease=lease, max_attempts=MAX_ATTEMPTS)
        return [Message(**row) for row in sorted(rows, key=lambda row: int(row["id"]))]

    async def _deliver(self, message: Message) -> None:
        began = time.perf_counter()
        outcome = "delivered"
        try:
            async with asyncio.timeout(self._pace.task_timeout_s):
                await find(self._tasks, message.topic)(message)
        except Exception as error:
            outcome = "given_up" if message.attempt >= MAX_ATTEMPTS else "put_off"
            await self._settle(message, error)
        else:
            await self._settle(message, None)
        self._note(message.topic, outcome, time.perf_counter() - began)

    def _note(self, topic: str, outcome: str, seconds: float) -> None:
        self.tally.setdefault(topic.partition(".")[0], Timed()).add(outcome, seconds)

    async def _settle(self, message: Message, error: Exception | None) -> None:
        """Writes down how it went; if that fails, the lease runs out and the message is delivered again."""
        try:
            async with self._db.transaction() as conn:
                named = {"id": message.id, "fence": message.fence}
                if error is None:
                    kept = await FINISH.run(conn, **named)
                elif message.attempt >= MAX_ATTEMPTS:
                    kept = await BURY.run(conn, **named, error=type(error).__name__)
                else:
                    delay = self._delay(message.attempt)
                    kept = await PUT_OFF.run(conn, **named, delay=delay, error=type(error).__name__)
        except Exception as broken:
            log.warning("outcome not kept", extra={"message_id": message.id, "error": type(broken).__name__})
            return
        _tell(message, error, kept=bool(kept))

    def _delay(self, attempt: int) -> timedelta:
        """Doubles with every attempt, up to the longest; between half and all of that."""
        whole = min(self._pace.first_retry_s * 2 ** (attempt - 1), self._pace.longest_retry_s)
        return timedelta(seconds=whole * (0.5 + self._jitter() / 2))


def _tell(message: Message, error: Exception | None, *, kept: bool) -> None:
    about = {"message_id": message.id, "topic": message.topic, "subject_id": message.subject_id, "attempt": message.attempt}
    if not kept:
        log.warning("lease was lost; somebody else delivers this", extra=about)
    elif error is None:
        log.debug("message delivered", extra=about)
    elif message.attempt >= MAX_ATTEMPTS:
        log.error("message given up", extra=about | {"error": type(error).__name__}, exc_info=error)
    else:
        log.warning("message put off", extra=about | {"error": type(error).__name__}, exc_info=error)
