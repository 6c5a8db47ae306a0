"""A family and a till, whose clock the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest_asyncio

from kinpay.charges.batch import Batcher
from kinpay.database.pool import Database
from kinpay.statements.export import CsvLine, export_for
from kinpay.statements.statement import Line, Part, Statement
from kinpay.statements.store import statement_of
from tests.charges.seeds import Family, found_families, open_shop
from tests.notifications.till import Till

SHANGHAI = ZoneInfo("Asia/Shanghai")


def wall(text: str) -> datetime:
    """What the circle's wall shows, such as `2026-03-02 07:10`."""
    return datetime.fromisoformat(text).replace(tzinfo=SHANGHAI).astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Home:
    """A family of two and its till."""

    db: Database
    till: Till
    family: Family

    async def at(self, text: str) -> None:
        """Moves the clock to what the wall shows."""
        await self.till.at(wall(text))

    async def statement(self, month: str, **who: Any) -> Statement:
        """The month's statement."""
        async with self.db.transaction() as conn:
            return await statement_of(conn, self.family.circle_id, month=month, **who)

    async def part(self, month: str, **who: Any) -> Part:
        """Its only currency."""
        (part,) = (await self.statement(month, **who)).parts
        return part

    async def value(self, sql: str, *given: Any) -> Any:
        """One value straight from the tables."""
        async with self.db.connection() as conn:
            return await conn.fetchval(sql, *given)


@pytest_asyncio.fixture
async def home(db: Database) -> AsyncIterator[Home]:
    """Open since the first of March 2026."""
    batcher, opened = Batcher(db), wall("2026-03-01 07:00")
    async with db.transaction() as conn:
        shop = await open_shop(conn, opened)
        (family,) = await found_families(conn, shop, opened)
    yield Home(db, Till(db, batcher, shop), family)
    await batcher.close()


def figures(line: Line) -> tuple[int, int, int, int]:
    """Count, gross, refunded, and the net of the month before."""
    return line.count, line.gross_minor, line.refunded_minor, line.before_net_minor


async def lines_of(home: Home, month: str) -> list[CsvLine]:
    """The month's file, as the payer gets it."""
    async with home.db.transaction() as conn:
        return await export_for(conn, home.family.payer_id, circle_id=home.family.circle_id, month=month)
