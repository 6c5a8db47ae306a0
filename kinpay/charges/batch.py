"""Authorisation in batches: orders that arrive while a batch is at the database form the next one.

One transaction a batch: lock the circles that are free, claim keys and load usage, decide every order in plain Python (orders
of one batch see each other), write everything, commit. A busy circle's orders wait for a following batch, boundedly; a batch
that fails is cut in half until the one that spoils it is alone. Source: architecture.md §5; semantics.md "Concurrency".
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, cast

from kinpay.charges.charge import ChargeState
from kinpay.charges.decide import Approve, decide
from kinpay.charges.fares import Fares
from kinpay.charges.kept import audited
from kinpay.charges.order import Order
from kinpay.charges.repetition import sort_out
from kinpay.charges.request import Authorized, AuthorizeRequest, Charge, Verdicts, refusal_json
from kinpay.charges.rules import RulesCache
from kinpay.charges.standing import TRAIL, CircleStanding, CounterKey, Moment, Trail
from kinpay.charges.store import Loaded, Locked, Uses, Written, claim_and_load, lock_circles, write_batch
from kinpay.charges.usage import read_trails
from kinpay.database.audit import Event, chain
from kinpay.database.pool import Database
from kinpay.primitives.errors import Busy, NotFound

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


class Batcher:
    """One a process. `authorize` joins the batch that is being collected.

    Under load two batches are under way, so that one is decided here while the other is at the database. They never hold the
    same circle: an order waits in the queue for as long as a batch of ours has its circle.
    """

    def __init__(self, db: Database, rules: RulesCache | None = None, *, max_batch: int = MAX_BATCH) -> None:
        self._db = db
        self._rules = rules or RulesCache()
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
        try:
            put_off = self._without_patient(await self._carry_out(batch, wait=False))
            if put_off and not self._queue:
                await asyncio.sleep(0.002)  # Only busy circles are left: let whoever holds them commit.
        finally:
            self._queue.extendleft(reversed(put_off))
            self._held -= circles
            self._batches.remove(cast("asyncio.Task[None]", asyncio.current_task()))
            self._begin_soon()

    async def _carry_out(self, batch: list[_Waiting], *, wait: bool) -> list[_Waiting]:
        """Carries out a batch and answers; returns the orders to put into a following one."""
        try:
            verdicts = await self._transaction([item.request for item in batch], wait=wait)
        except Exception as error:
            return await self._after_failure(batch, error, wait=wait)
        for position, verdict in verdicts.answers.items():
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
                left = await self._carry_out(batch, wait=True)
        del self._waiting[circle_id]

    async def _after_failure(self, batch: list[_Waiting], error: Exception, *, wait: bool) -> list[_Waiting]:
        """A database that is away, or a deadlock, is no order's fault: the batch is tried again as it is, then told.

        Anything else is cut in half until the order that spoils the batch is alone. The commit may have happened although its
        acknowledgement was lost: the next try finds the keys and the charges.
        """
        if not isinstance(error, Busy) and len(batch) > 1:
            middle = len(batch) // 2
            first = await self._carry_out(batch[:middle], wait=wait)
            return first + await self._carry_out(batch[middle:], wait=wait)
        for item in batch:
            item.failures += 1
        if isinstance(error, Busy) and max(item.failures for item in batch) < _ATTEMPTS:
            await asyncio.sleep(0.05 * 4 ** batch[0].failures)
            return await self._carry_out(batch, wait=wait)
        for item in batch:
            log.warning("charge not authorised", extra={"charge_id": item.request.charge_id, "error": type(error).__name__})
            _answer(item, error)
        return []

    async def _transaction(self, requests: list[AuthorizeRequest], *, wait: bool) -> Verdicts:
        verdicts = Verdicts()
        async with self._db.transaction() as conn:
            locked = await lock_circles(conn, {request.circle_id for request in requests}, wait=wait)
            mine = _first_of_each(requests, locked, verdicts, wait=wait)
            if not mine or locked is None:
                return verdicts
            standings = await self._rules.standings(conn, list(locked.circles.values()))
            moments = _moments(standings, locked)
            chosen = [requests[position] for position in mine]
            windows, trails = _windows(chosen, standings, moments)
            loaded = await claim_and_load(conn, chosen, windows, now=locked.now)
            if trails:
                loaded.usage.update(await read_trails(conn, trails))
            to_decide = await sort_out(conn, chosen, mine, loaded, locked, verdicts)
            deciding = [chosen[index] for index in to_decide]
            fares = await Fares.read(conn, deciding, now=locked.now)
            written = _decide_all(deciding, standings, moments, loaded, locked, fares)
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


def _first_of_each(requests: Sequence[AuthorizeRequest], locked: Locked | None, verdicts: Verdicts, *, wait: bool) -> list[int]:
    """Positions whose circle is held. The second use of a key, code or nonce within a batch waits for the next one."""
    held = locked.circles if locked else {}
    seen: set[tuple[str, ...]] = set()
    mine: list[int] = []
    for position, request in enumerate(requests):
        if request.circle_id not in held:
            if wait:
                verdicts.answers[position] = NotFound()
            else:
                verdicts.deferred.append(position)
            continue
        marks: set[tuple[str, ...]] = {("key", request.key.principal_id, request.key.operation, request.key.key)}
        if request.burn:
            marks.add(("code", request.burn.code_id))
        if request.signed:
            marks.add(("nonce", request.signed.signer_id, request.signed.nonce))
        if marks & seen:
            verdicts.deferred.append(position)
        else:
            seen |= marks
            mine.append(position)
    return mine


def _moments(standings: dict[str, CircleStanding], locked: Locked) -> dict[str, Moment]:
    """The one `now` on each circle's wall; circles of one zone share it."""
    by_zone = {time_zone: Moment(locked.now, time_zone) for time_zone in {circle.time_zone for circle in standings.values()}}
    return {circle.id: by_zone[circle.time_zone] for circle in standings.values()}


def _windows(
    requests: Sequence[AuthorizeRequest], standings: dict[str, CircleStanding], moments: dict[str, Moment]
) -> tuple[list[CounterKey], dict[str, datetime]]:
    """Every window that some order of the batch may look at or use, and from when on each trailing counter's uses matter."""
    wanted: dict[CounterKey, None] = {}
    trails: dict[str, datetime] = {}
    for request in requests:
        circle, moment = standings[request.circle_id], moments[request.circle_id]
        starts = moment.starts
        for bounds in circle.counting(request.order.spender_id, request.order.credential_id):
            for counter in bounds.counters:
                if counter.trailing is None:
                    wanted[(counter.id, starts[counter.window])] = None
                else:
                    trails[counter.id] = moment.now - counter.trailing
    return list(wanted), trails


def _decide_all(
    requests: Sequence[AuthorizeRequest],
    standings: dict[str, CircleStanding],
    moments: dict[str, Moment],
    loaded: Loaded,
    locked: Locked,
    fares: Fares,
) -> Written:
    """Decides in order of arrival; each approval is added to the usage that the next order sees. No I/O."""
    written = Written([], [], [], {}, dict(locked.heads), dict(locked.seqs))
    for request in requests:
        circle, moment = standings[request.circle_id], moments[request.circle_id]
        order, fare_minor = fares.priced(request) if request.at_gate else (request.order, None)
        decision = decide(order, circle, loaded.usage, moment)
        charge = _charge(request, order, decision if isinstance(decision, Approve) else None, locked)
        charge.fare_minor = fare_minor
        if isinstance(decision, Approve):
            _take(order, decision, circle.id, loaded, written)
            if fare_minor is not None:
                fares.ride(request, order)
        else:
            charge.state = ChargeState.REFUSED
            charge.finished_at = locked.now
            charge.refusal = refusal_json(decision)
            if decision.mandate is not None:
                charge.mandate_id, charge.mandate_version = decision.mandate.id, decision.mandate.version
                charge.payer_id = decision.mandate.payer_id
        _note(written, charge, request, locked)
    return written


def _take(order: Order, approval: Approve, circle_id: str, loaded: Loaded, written: Written) -> None:
    """Adds an approved order to what the next one sees, and to what will be written."""
    for counter, span in approval.uses:
        key = (counter.id, span.start)
        part = order.amount_minor if counter.filter is None else counter.filter.part_of(order)
        gained = written.uses.get(key)
        if gained is None:
            gained = written.uses[key] = Uses(circle_id, span)
        gained.amount_minor += part
        gained.count += 1
        if counter.trailing is None:
            seen = loaded.usage[key]
            seen.amount_minor += part
            seen.count += 1
        else:
            trail = loaded.usage[(counter.id, TRAIL)]
            assert isinstance(trail, Trail)
            trail.made.append((span.start, part, 1))


def _note(written: Written, charge: Charge, request: AuthorizeRequest, locked: Locked) -> None:
    """Gives the charge its place in its circle and its link in the circle's audit lane."""
    lane = charge.circle_id
    written.last_seqs[lane] += 1
    event = Event(f"charge.{charge.state}", charge.id, audited(charge), request.key.principal_id)
    links, written.heads[lane] = chain(lane, written.heads[lane], (event,), at=locked.now)
    written.links.extend(links)
    written.charges.append(charge)
    written.seqs.append(written.last_seqs[lane])


def _charge(request: AuthorizeRequest, order: Order, approval: Approve | None, locked: Locked) -> Charge:
    return Charge(
        id=request.charge_id,
        circle_id=request.circle_id,
        operator_id=request.operator_id,
        merchant_id=order.merchant_id,
        terminal_id=request.terminal_id,
        spender_id=order.spender_id,
        mandate_id=approval.mandate.id if approval else None,
        mandate_version=approval.mandate.version if approval else None,
        agreement_id=approval.agreement.id if approval else None,
        payer_id=approval.mandate.payer_id if approval else None,
        credential_id=order.credential_id,
        method=request.method,
        mcc=order.mcc,
        currency=order.currency,
        amount_minor=order.amount_minor,
        captured_minor=None,
        refunded_minor=0,
        state=ChargeState.HELD,
        capture_at_once=request.capture,
        delivered=False,
        void_requested=False,
        late=False,
        reference=request.reference,
        refusal=None,
        items=order.items,
        decided_at=locked.now,
        hold_expires_at=locked.now + timedelta(seconds=request.hold_s) if approval else None,
        finished_at=None,
    )
