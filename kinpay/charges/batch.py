"""Authorisation in batches: orders that arrive while a batch is at the database form the next one.

A batch looks, decides every order in plain Python (orders of one batch see each other), and writes everything in one statement
that locks the circles and first makes sure that they are still as they were seen (`ahead.py`). What that cannot do is done in a
transaction that locks first: a circle not known yet, a key seen before, a busy circle, a failure. It locks the circles that
are free, claims keys and loads usage, decides, writes, commits. A busy circle's orders wait for a following batch, boundedly; a
batch that fails is cut in half until the one that spoils it is alone.
Source: architecture.md §5; semantics.md "Concurrency"; docs/decisions/0010.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import Final, cast

from kinpay.charges.ahead import Ahead
from kinpay.charges.decide_batch import decide_all, first_of_each, moments_of, windows_of
from kinpay.charges.fares import Fares
from kinpay.charges.repetition import sort_out
from kinpay.charges.request import Authorized, AuthorizeRequest, Verdicts
from kinpay.charges.rules import RulesCache
from kinpay.charges.store import claim_and_load, lock_circles
from kinpay.charges.usage import read_trails
from kinpay.charges.write import write_batch
from kinpay.database.pool import Database
from kinpay.primitives.errors import Busy
from kinpay.primitives.tally import SIZES, Histogram

log = logging.getLogger(__name__)

MAX_BATCH: Final = 256
_AT_ONCE: Final = 2
"""How many batches of a process are under way at most: one is decided while the other is at the database."""
_WORTH_IT: Final = 8
"""How many orders make it worth to begin a batch beside another, instead of waiting to join the next."""
_PATIENCE: Final = 4
"""How often an order of a busy circle is put off before it waits for its circle in a transaction of its own."""
_WAITING_AT_ONCE: Final = 3
"""How many slow circles may have a connection waiting for them; a pool has more."""
_ATTEMPTS: Final = 4
CONNECTIONS: Final = _AT_ONCE + _WAITING_AT_ONCE
"""What a batcher can use at once. It wants them to itself, opened `by_index`: whoever reads a long list holds up no till."""


class _Waiting:
    """A request in the queue: who waits for it, how often its circle was busy, how often its batch failed."""

    __slots__ = ("answer", "failures", "put_off", "request")

    def __init__(self, request: AuthorizeRequest, answer: asyncio.Future[Authorized]) -> None:
        self.request = request
        self.answer = answer
        self.put_off = 0
        self.failures = 0


class BatchTally:
    """What became of this process's batches. `again_with_locks`: decided a second time, as something went wrong ahead of them;
    `retried`: begun anew after the database was away or locks were crossed; `failed`: orders that ended without a decision.
    """

    __slots__ = ("again_with_locks", "decided", "failed", "put_off", "retried", "size", "took")

    def __init__(self) -> None:
        self.size = Histogram(SIZES)
        self.took = Histogram()
        self.decided: dict[str, int] = {}
        self.put_off = self.failed = self.retried = self.again_with_locks = 0


class Batcher:
    """One a process. `authorize` joins the batch that is being collected.

    Under load two batches are under way, so that one is decided here while the other is at the database. They never hold the
    same circle: an order waits in the queue for as long as a batch of ours has its circle.
    """

    def __init__(self, db: Database, rules: RulesCache | None = None, *, max_batch: int = MAX_BATCH) -> None:
        self.tally = BatchTally()
        self._db = db
        self._rules = rules or RulesCache()
        self._ahead = Ahead(db, self._rules)
        self._max_batch = max_batch
        self._queue: deque[_Waiting] = deque()
        self._held: set[str] = set()
        self._batches: set[asyncio.Task[None]] = set()
        self._beginning = False
        self._patient: set[asyncio.Task[None]] = set()
        self._waiting: dict[str, list[_Waiting]] = {}
        self._may_wait = asyncio.Semaphore(_WAITING_AT_ONCE)

    async def authorize(self, request: AuthorizeRequest) -> Authorized:
        """Decides and, if approved, reserves. When it returns, that is durable.

        Raises: RequestReplayed, KeyReused, CheckCodeUsed, CheckCodeExpired, NotFound (no such circle), Unauthenticated
        (the terminal is no longer active), Busy (nothing was done).
        """
        answer: asyncio.Future[Authorized] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(request, answer))
        self._begin_soon()
        return await answer

    @property
    def waiting(self) -> int:
        """How many orders are queued, put off or waiting for a slow circle."""
        return len(self._queue) + sum(map(len, self._waiting.values()))

    async def close(self) -> None:
        """Lets what is queued finish."""
        while self._queue or self._batches or self._patient:
            self._begin_soon()
            await asyncio.wait([*self._batches, *self._patient, asyncio.ensure_future(asyncio.sleep(0))])

    def _begin_soon(self) -> None:
        """Begins batches at the end of this turn of the loop, so that whoever asks in the same turn is in them."""
        if not self._beginning and len(self._batches) < _AT_ONCE:
            self._beginning = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._beginning = False
        while len(self._batches) < _AT_ONCE and (batch := self._next_batch()):
            circles = {item.request.circle_id for item in batch}
            self._held |= circles
            task = asyncio.create_task(self._run(batch, circles))
            self._batches.add(task)

    def _next_batch(self) -> list[_Waiting]:
        """Takes orders out of the queue whose circles are free here, oldest first; none if a batch more is not worth it.

        Where there is enough for two batches it takes half. A circle's orders stay together: they could not be in both.
        """
        free = [item for item in self._queue if item.request.circle_id not in self._held][: self._max_batch]
        if self._batches and len(free) < _WORTH_IT:
            return []
        if not self._batches and len(free) >= 2 * _WORTH_IT:
            circles = {item.request.circle_id for item in free[: len(free) // 2]}
            free = [item for item in free if item.request.circle_id in circles]
        taken = set(map(id, free))
        self._queue = deque(item for item in self._queue if id(item) not in taken)
        return free

    async def _run(self, batch: list[_Waiting], circles: set[str]) -> None:
        put_off: list[_Waiting] = []
        began = time.perf_counter()
        try:
            put_off = self._without_patient(await self._carry_out(batch))
            self.tally.size.add(len(batch))
            self.tally.took.add(time.perf_counter() - began)
            self.tally.put_off += len(put_off)
            if put_off and not self._queue:
                await asyncio.sleep(0.002)  # Only busy circles are left: let whoever holds them commit.
        finally:
            self._queue.extendleft(reversed(put_off))
            self._held -= circles
            self._batches.remove(cast("asyncio.Task[None]", asyncio.current_task()))
            self._begin_soon()

    async def _carry_out(self, batch: list[_Waiting]) -> list[_Waiting]:
        """Carries out a batch and answers; returns the orders to put into a following one.

        Ahead of the locks first. What that leaves is done with them: also whatever failed, so that it fails for its own fault.
        """
        slow = {item.request.circle_id for item in batch if item.put_off}
        verdicts = Verdicts()
        try:
            left = await self._ahead.authorize([item.request for item in batch], slow, verdicts)
        except Exception as error:
            log.info("decided again under locks", extra={"error": type(error).__name__})
            self.tally.again_with_locks += 1
            return await self._with_locks(batch, wait=False)
        put_off = self._answer_all(batch, verdicts)
        return put_off + await self._with_locks([batch[position] for position in left], wait=False)

    async def _with_locks(self, batch: list[_Waiting], *, wait: bool) -> list[_Waiting]:
        """Carries out a batch in a transaction that holds its circles from the beginning."""
        if not batch:
            return []
        try:
            verdicts = await self._transaction([item.request for item in batch], wait=wait)
        except Exception as error:
            return await self._after_failure(batch, error, wait=wait)
        return self._answer_all(batch, verdicts)

    def _answer_all(self, batch: list[_Waiting], verdicts: Verdicts) -> list[_Waiting]:
        """Answers whom there is an answer for; returns those that have to wait for a following batch."""
        decided = self.tally.decided
        for position, verdict in verdicts.answers.items():
            if isinstance(verdict, Authorized) and verdict.fresh:
                state = verdict.charge.state.value
                decided[state] = decided.get(state, 0) + 1
            _answer(batch[position], verdict)
        return [batch[position] for position in verdicts.deferred]

    def _without_patient(self, put_off: list[_Waiting]) -> list[_Waiting]:
        """Lets the orders that were put off too often wait for their circle; returns the others."""
        soon: list[_Waiting] = []
        for item in put_off:
            item.put_off += 1
            if item.put_off <= _PATIENCE:
                soon.append(item)
                continue
            circle_id = item.request.circle_id
            if circle_id not in self._waiting:
                task = asyncio.create_task(self._wait_for_circle(circle_id))
                self._patient.add(task)
                task.add_done_callback(self._patient.discard)
            self._waiting.setdefault(circle_id, []).append(item)
        return soon

    async def _wait_for_circle(self, circle_id: str) -> None:
        """Waits for one circle's lock with all the orders that wait for it, so that a slow circle holds up nobody else.

        However many are slow, only some of the pool's connections wait; the slow ones then wait for each other.
        """
        left: list[_Waiting] = []
        while left or self._waiting[circle_id]:
            async with self._may_wait:
                batch = left + self._waiting[circle_id]
                batch, self._waiting[circle_id] = batch[: self._max_batch], batch[self._max_batch :]
                left = await self._with_locks(batch, wait=True)
        del self._waiting[circle_id]

    async def _after_failure(self, batch: list[_Waiting], error: Exception, *, wait: bool) -> list[_Waiting]:
        """A database that is away, or a deadlock, is no order's fault: the batch is tried again as it is, then told.

        Anything else is cut in half until the order that spoils the batch is alone; what the first half puts off, nobody of the
        second overtakes in its circle. The commit may have happened although its
        acknowledgement was lost: the next try finds the keys and the charges.
        """
        if not isinstance(error, Busy) and len(batch) > 1:
            middle = len(batch) // 2
            first = await self._with_locks(batch[:middle], wait=wait)
            late = {item.request.circle_id for item in first}
            behind = [item for item in batch[middle:] if item.request.circle_id in late]
            others = [item for item in batch[middle:] if item.request.circle_id not in late]
            return first + behind + await self._with_locks(others, wait=wait)
        for item in batch:
            item.failures += 1
        if isinstance(error, Busy) and max(item.failures for item in batch) < _ATTEMPTS:
            self.tally.retried += 1
            await asyncio.sleep(0.05 * 4 ** batch[0].failures)
            return await self._with_locks(batch, wait=wait)
        self.tally.failed += len(batch)
        for item in batch:
            log.warning("charge not authorised", extra={"charge_id": item.request.charge_id, "error": type(error).__name__})
            _answer(item, error)
        return []

    async def _transaction(self, requests: list[AuthorizeRequest], *, wait: bool) -> Verdicts:
        verdicts = Verdicts()
        async with self._db.transaction() as conn:
            locked = await lock_circles(conn, {request.circle_id for request in requests}, wait=wait)
            if locked is not None:
                self._ahead.hear(locked.now)
            held = locked.circles if locked else {}
            mine = first_of_each(requests, range(len(requests)), held, verdicts, wait=wait)
            if not mine or locked is None:
                return verdicts
            standings = await self._rules.standings(conn, list(locked.circles.values()))
            moments = moments_of(standings, locked.now)
            chosen = [requests[position] for position in mine]
            windows, trails = windows_of(chosen, standings, moments)
            loaded = await claim_and_load(conn, chosen, windows, now=locked.now)
            if trails:
                loaded.usage.update(await read_trails(conn, trails))
            to_decide = await sort_out(conn, chosen, mine, loaded, locked, verdicts)
            deciding = [chosen[index] for index in to_decide]
            fares = await Fares.read(conn, deciding, now=locked.now)
            written = decide_all(deciding, standings, moments, loaded.usage, locked, fares)
            if written.charges:
                await write_batch(conn, written, now=locked.now)
        for index, charge in zip(to_decide, written.charges, strict=True):
            verdicts.answers[mine[index]] = Authorized(charge, fresh=True)
        return verdicts


def _answer(item: _Waiting, verdict: Authorized | Exception) -> None:
    if item.answer.done():
        return  # The asker went away; the charge stands, and its key will find it.
    if isinstance(verdict, Exception):
        item.answer.set_exception(verdict)
    else:
        item.answer.set_result(verdict)
