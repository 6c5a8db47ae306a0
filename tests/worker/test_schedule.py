"""What is due by time is done by one process at a time, whatever went wrong before."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from kinpay.database.pool import Database
from kinpay.worker.listen import Listener
from kinpay.worker.schedule import Errand, Schedule, attempt


async def run_until(event: asyncio.Event, db: Database, errands: list[Errand]) -> None:
    """Runs the errands over and over until `event` is set."""
    schedule = Schedule(db, errands, jitter=lambda: 0.0)
    running = asyncio.create_task(schedule.run())
    async with asyncio.timeout(20):
        await event.wait()
    schedule.stop()
    await running


async def test_an_errand_that_fails_comes_again_and_stops_no_other(db: Database) -> None:
    counts = {"bad": 0, "good": 0}
    enough = asyncio.Event()

    def count(name: str) -> None:
        counts[name] += 1
        if min(counts.values()) >= 3:
            enough.set()

    async def bad() -> None:
        count("bad")
        raise RuntimeError

    async def good() -> None:
        count("good")

    errands = [Errand(name="bad", every_s=0.02, run=bad), Errand(name="good", every_s=0.02, run=good)]
    await run_until(enough, db, errands)


async def test_an_errand_is_run_by_one_process_at_a_time(db: Database) -> None:
    inside = at_most = 0

    async def slow() -> None:
        nonlocal inside, at_most
        inside += 1
        at_most = max(at_most, inside)
        await asyncio.sleep(0.05)
        inside -= 1

    errand = Errand(name="slow", every_s=1, run=slow)
    ran = await asyncio.gather(*(attempt(db, errand) for _ in range(6)))
    assert at_most == 1
    assert ran.count(True) >= 1
    assert await attempt(db, errand), "the lock is free again"


async def test_many_errands_share_a_small_pool(database_url: str) -> None:
    """A dozen errands that all want a connection for their work, on the smallest pool that the settings allow."""
    db = await Database.open(database_url, max_connections=6)
    done: set[str] = set()
    everybody = asyncio.Event()

    async def work(name: str) -> None:
        async with db.connection() as conn:
            await conn.fetchval("SELECT pg_sleep(0.01)")
        done.add(name)
        if len(done) == 13:
            everybody.set()

    errands = [Errand(name=f"errand {at}", every_s=0.02, run=partial(work, str(at))) for at in range(13)]
    await run_until(everybody, db, errands)
    await db.close()


async def test_two_errands_of_one_name_are_a_mistake(db: Database) -> None:
    async def nothing() -> None: ...

    errand = Errand(name="a", every_s=1, run=nothing)
    with pytest.raises(ValueError, match="one name"):
        Schedule(db, [errand, errand])


async def test_listening_survives_a_broken_connection(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinpay.worker.listen.RETRY_S", 0.05)
    heard: list[str] = []
    listener = Listener(db)
    listener.on("outbox", heard.append)
    running = asyncio.create_task(listener.run())

    async def hears(text: str) -> None:
        async with asyncio.timeout(10):
            while text not in heard:
                async with db.connection() as conn:
                    await conn.execute("SELECT pg_notify('outbox', $1)", text)
                await asyncio.sleep(0.02)

    await hears("before")
    async with db.connection() as conn:
        await conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database() AND query LIKE '%LISTEN%'"
        )
    await hears("after")
    assert heard.count("") >= 2, "after a gap everybody looks for themselves"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
