"""The outbox is delivered at least once and in order, whatever happens to the workers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from kinpay.database.outbox import enqueue
from kinpay.database.pool import Database
from kinpay.primitives.ids import new_id
from kinpay.worker.run import MAX_ATTEMPTS, Pace, Worker
from kinpay.worker.tasks import LeaseLost, Message, hold

QUICK = Pace(at_once=4, poll_s=0.02, lease_s=0.4, task_timeout_s=5.0, first_retry_s=0.01, longest_retry_s=0.02)


async def put(db: Database, topic: str, lane: str, *, count: int = 1, delay: timedelta = timedelta(0)) -> None:
    async with db.transaction() as conn:
        now = await conn.fetchval("SELECT kinpay_now()")
        for number in range(count):
            await enqueue(conn, topic, lane=lane, subject_id=new_id(), body={"number": number}, now=now, delay=delay)


async def rows(db: Database, what: str = "count(*)", where: str = "true") -> Any:
    async with db.connection() as conn:
        return await conn.fetchval(f"SELECT {what} FROM outbox WHERE {where}")


async def until(said: Callable[[], Awaitable[bool]], timeout_s: float = 10.0) -> None:
    end = asyncio.get_running_loop().time() + timeout_s
    while not await said():
        assert asyncio.get_running_loop().time() < end, "waited too long"
        await asyncio.sleep(0.02)


async def all_done(db: Database) -> bool:
    return bool(await rows(db, "count(*) = 0", "done_at IS NULL AND dead_at IS NULL"))


async def test_everything_is_delivered_once_and_in_order_within_a_lane(db: Database) -> None:
    lanes = [new_id() for _ in range(5)]
    for lane in lanes:
        await put(db, "notice.a", lane, count=8)
    seen: dict[str, list[int]] = {lane: [] for lane in lanes}

    async def note(message: Message) -> None:
        await asyncio.sleep(0.001)
        seen[message.lane].append(message.body["number"])

    workers = [Worker(db, {"notice.*": note}, pace=Pace(at_once=3, poll_s=0.02)) for _ in range(2)]
    running = [asyncio.create_task(worker.run()) for worker in workers]
    await until(lambda: all_done(db))
    for worker in workers:
        worker.stop()
    await asyncio.gather(*running)
    assert seen == {lane: list(range(8)) for lane in lanes}


async def test_what_is_not_committed_is_not_delivered(db: Database) -> None:
    async def fail_after_enqueueing() -> None:
        async with db.transaction() as conn:
            now = await conn.fetchval("SELECT kinpay_now()")
            await enqueue(conn, "notice.a", lane=new_id(), subject_id=new_id(), now=now)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail_after_enqueueing()
    assert await Worker(db, {}).run_until_idle() == 0


async def test_a_worker_that_dies_is_followed_by_another(db: Database) -> None:
    lane = new_id()
    await put(db, "notice.a", lane, count=3)
    begun, seen = asyncio.Event(), []

    async def hang(_: Message) -> None:
        begun.set()
        await asyncio.sleep(3600)

    async def note(message: Message) -> None:
        seen.append(message.body["number"])

    dying = asyncio.create_task(Worker(db, {"notice.*": hang}, pace=QUICK).run())
    await begun.wait()
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    assert await rows(db, "count(*)", "lease_until IS NOT NULL") == 1, "its lease must run out by itself"

    heir = Worker(db, {"notice.*": note}, pace=QUICK)
    running = asyncio.create_task(heir.run())
    await until(lambda: all_done(db))
    heir.stop()
    await running
    assert seen == [0, 1, 2]


async def test_a_poisoned_message_is_given_up_and_stops_nobody_else(db: Database) -> None:
    sick, sound = new_id(), new_id()
    await put(db, "notice.a", sick, count=2)
    await put(db, "notice.a", sound, count=2)
    seen: list[tuple[str, int]] = []

    async def task(message: Message) -> None:
        if message.lane == sick and message.body["number"] == 0:
            raise ValueError("a name that must not be kept")
        seen.append((message.lane, message.body["number"]))

    worker = Worker(db, {"notice.*": task}, pace=QUICK)
    running = asyncio.create_task(worker.run())
    await until(lambda: all_done(db))
    worker.stop()
    await running
    assert await rows(db, "attempts", "dead_at IS NOT NULL") == MAX_ATTEMPTS
    assert await rows(db, "error", "dead_at IS NOT NULL") == "ValueError"
    assert seen[:2] == [(sound, 0), (sound, 1)], "another lane does not wait"
    assert seen[2:] == [(sick, 1)], "the rest of the lane follows once the poisoned one is given up"


async def test_a_message_that_kills_its_workers_is_given_up_too(db: Database) -> None:
    await put(db, "notice.a", new_id())
    async with db.connection() as conn:
        await conn.execute("UPDATE outbox SET attempts = $1, lease_until = kinpay_now() - interval '1 second'", MAX_ATTEMPTS)
    assert await Worker(db, {}).run_until_idle() == 0
    assert await rows(db, "count(*)", "dead_at IS NOT NULL") == 1


async def test_a_worker_that_lost_its_lease_cannot_finish_or_write(db: Database) -> None:
    await put(db, "notice.a", new_id())
    asleep, awake, lost = asyncio.Event(), asyncio.Event(), []

    async def sleepy(message: Message) -> None:
        asleep.set()
        await awake.wait()
        async with db.transaction() as conn:
            try:
                await hold(conn, message)
            except LeaseLost:
                lost.append(message.fence)
                raise

    async def lively(_: Message) -> None:
        async with db.connection() as conn:
            await conn.fetchval("SELECT 1")

    zombie = asyncio.create_task(Worker(db, {"notice.*": sleepy}, pace=QUICK).run_until_idle())
    await asleep.wait()
    await asyncio.sleep(QUICK.lease_s + 0.1)
    assert await Worker(db, {"notice.*": lively}, pace=QUICK).run_until_idle() == 1
    awake.set()
    await zombie
    assert lost == [1]
    assert await rows(db, "fence", "done_at IS NOT NULL") == 2
    assert await rows(db, "attempts") == 2, "the zombie's failure was not counted"


async def test_a_lost_lease_is_noticed_although_the_task_went_well(db: Database) -> None:
    await put(db, "notice.a", new_id())

    async def robbed(message: Message) -> None:
        async with db.connection() as conn:
            await conn.execute("UPDATE outbox SET fence = fence + 1 WHERE id = $1", message.id)

    await Worker(db, {"notice.*": robbed}, pace=QUICK)._fill()
    await asyncio.sleep(0.2)
    assert await rows(db, "count(*)", "done_at IS NULL AND dead_at IS NULL") == 1


async def test_what_was_put_off_from_the_start_holds_nobody_up(db: Database) -> None:
    lane, seen = new_id(), []
    await put(db, "task.a", lane, delay=timedelta(hours=1))
    await put(db, "task.b", lane)

    async def note(message: Message) -> None:
        seen.append(message.topic)

    assert await Worker(db, {"task.*": note}).run_until_idle() == 1
    assert seen == ["task.b"]


async def test_a_topic_that_nobody_knows_waits_for_somebody_who_does(db: Database) -> None:
    await put(db, "novelty", new_id())
    assert await Worker(db, {}).run_until_idle() == 1
    assert await rows(db, "error") == "TopicUnknown"
    assert await rows(db, "available_at > kinpay_now()")
