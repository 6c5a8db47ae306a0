"""Statements: what summing days up costs beside authorising, and what reading a month costs when its days hold few or many.

The database's clock stands in the week after the charges, so that their days are over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import cycle
from typing import Any, Final

from bench.cell import Cell, percentile
from bench.circles import World
from bench.drive import drive
from bench.ground import Ground
from bench.machine import server_time_s
from kinpay.charges.batch import CONNECTIONS, Batcher
from kinpay.database.pool import Database
from kinpay.statements.roll import roll_circle
from kinpay.statements.store import statement_of
from tests.audit.story import Story
from tests.charges.seeds import Family
from tests.conftest import set_clock

PARTY: Final = "kinpay statements"
_AT_ONCE: Final = 64


class Statements:
    """Circles with a few and circles with many captured charges on each of some days of one month."""

    def __init__(self, ground: Ground, db: Database, month: str, *, few: Sequence[Family], many: Sequence[Family]) -> None:
        self._ground = ground
        self._db = db
        self._month = month
        self._few = few
        self._many = many

    @classmethod
    async def open(cls, ground: Ground, database: str, world: World, *, circles: int, a_day: int, days: int) -> Statements:
        """Has every charge decided, captured and settled by the functions that do it; `a_day` in each circle of many."""
        db = await Database.open(ground.url(database), max_connections=CONNECTIONS, by_index=True)
        story = Story(db, world.shop, list(world.families), Batcher(db))
        few, many = world.families[:circles], world.families[circles : 2 * circles]
        async with ground.connected(database) as conn:
            first = await _second_of_next_month(conn)
            for number in range(days):
                await set_clock(conn, first + timedelta(days=number))
                await _spend(story, [*few, *(family for family in many for _ in range(a_day))])
            await set_clock(conn, first + timedelta(days=days + 1))
            await conn.execute("VACUUM (ANALYZE)")
        await story.batcher.close()
        return cls(ground, db, f"{first:%Y-%m}", few=few, many=many)

    async def close(self) -> None:
        """Lets go of the database."""
        await self._db.close()

    async def sum_up(self) -> Cell:
        """Every day of every circle once, from nothing; an operation is a charge, a latency that of a circle."""
        async with self._db.transaction() as conn:
            await conn.execute("DELETE FROM rolled_day")
            charges = await conn.fetchval("SELECT count(*) FROM charge")
        latencies: list[float] = []
        began, client_s, server_s = time.perf_counter(), time.process_time(), server_time_s(self._ground.postmaster)
        for family in (*self._few, *self._many):
            since = time.perf_counter()
            async with self._db.transaction() as conn:
                if not await roll_circle(conn, family.circle_id):
                    raise RuntimeError("no day of it is over")
            latencies.append(time.perf_counter() - since)
        seconds, client_s = time.perf_counter() - began, time.process_time() - client_s
        latencies.sort()
        return Cell(
            party=PARTY,
            shape="summing up",
            callers=1,
            operations=charges,
            seconds=seconds,
            p50_ms=percentile(latencies, 0.5) * 1e3,
            p99_ms=percentile(latencies, 0.99) * 1e3,
            client_us=client_s / charges * 1e6,
            server_us=(server_time_s(self._ground.postmaster) - server_s) / charges * 1e6,
        )

    async def read(self, shape: str, *, warm_s: float, seconds: float) -> Cell:
        """A month's statement, again and again. `shape`: `few a day` or `many a day`."""
        turns = cycle(self._few if shape == "few a day" else self._many)

        async def ask(_: int) -> None:
            async with self._db.connection() as conn:
                await statement_of(conn, next(turns).circle_id, month=self._month)

        return await drive(
            ask, party=PARTY, shape=shape, callers=1, warm_s=warm_s, seconds=seconds, postmaster=self._ground.postmaster
        )


async def _second_of_next_month(conn: Any) -> datetime:
    """Noon of that day in UTC: whatever zone the circles are in, the days that follow are in the same month."""
    now: datetime = await conn.fetchval("SELECT kinpay_now()")
    following = (now.replace(day=1) + timedelta(days=32)).replace(day=2)
    return following.replace(hour=4, minute=0, second=0, microsecond=0)


async def _spend(story: Story, families: Sequence[Family]) -> None:
    """One captured and settled charge for each of `families`."""
    turns = iter(families)

    async def caller() -> None:
        for family in turns:
            await story.settle(await story.capture(await story.ask(family, 100)))

    await asyncio.gather(*(caller() for _ in range(_AT_ONCE)))
