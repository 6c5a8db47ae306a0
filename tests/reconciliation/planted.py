"""A day of many debits and refunds in our books, the provider's statement of it, and breaks planted in both.

    python -m tests.reconciliation.planted --lines 1000000

matches so many lines on a PostgreSQL of its own and says how long it took; exit status 0 only if exactly the planted breaks
were named.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import kinpay_postgres
from kinpay.database.migrate import migrate
from kinpay.database.pool import Database
from kinpay.primitives.ids import new_id
from kinpay.primitives.money import Money
from kinpay.providers.contract import StatementLine
from kinpay.reconciliation.reconcile_day import take_statement
from kinpay_postgres.folder import Folder
from tests.charges.seeds import Shop, found_families, open_shop

DAY = date(2026, 3, 2)
START = datetime(2026, 3, 2, tzinfo=UTC)


@dataclass
class Planted:
    """What a day was made of: the lines as the provider tells them, and every break by (what, kind, key)."""

    shop: Shop
    lines: list[StatementLine] = field(default_factory=list)
    breaks: set[tuple[str, str, str]] = field(default_factory=set)

    async def told(self) -> AsyncIterator[StatementLine]:
        """The statement, line by line."""
        for line in self.lines:
            yield line


async def plant(conn: Any, *, lines: int, breaks: int, seed: int = 1) -> Planted:
    """Writes `lines` debits (and a refund for every tenth) straight into our books, and plants `breaks` of each kind."""
    dice = random.Random(seed)
    shop = await open_shop(conn, START - timedelta(days=30))
    (family,) = await found_families(conn, shop, START - timedelta(days=30))
    planted = Planted(shop)
    debits, refunds = [], []
    for number in range(lines):
        debit_id, amount = new_id(), dice.randint(1, 50_000)
        at = START + timedelta(seconds=dice.uniform(700, 85_000))
        debits.append((debit_id, family.circle_id, shop.operator_id, family.payer_id, family.agreement_id,
                       shop.provider_account_id, "CNY", amount, "succeeded", at - timedelta(seconds=2), at))  # fmt: skip
        planted.lines.append(_line("debit", debit_id, None, amount, at))
        if number % 10 == 0:
            refund_id = new_id()
            refunds.append((refund_id, family.circle_id, new_id(), debit_id, "CNY", amount, "asked", "succeeded", at, at))
            planted.lines.append(_line("refund", refund_id, debit_id, amount, at))
    await conn.copy_records_to_table("debit", records=debits, columns=[
        "id", "circle_id", "operator_id", "payer_id", "agreement_id", "provider_account_id", "currency", "amount_minor",
        "state", "created_at", "finished_at"])  # fmt: skip
    await conn.copy_records_to_table("refund", records=refunds, columns=[
        "id", "circle_id", "charge_id", "debit_id", "currency", "amount_minor", "reason", "state", "created_at",
        "finished_at"])  # fmt: skip
    _break(planted, dice, breaks)
    return planted


def _line(kind: str, key: str, debit_key: str | None, amount: int, at: datetime) -> StatementLine:
    return StatementLine(kind=kind, key=key, debit_key=debit_key, amount=Money(amount, "CNY"), finished_at=at)


def _break(planted: Planted, dice: random.Random, breaks: int) -> None:
    """Takes lines away, adds some, tells some twice and some with another amount, currency or debit: each another line."""
    victims = dice.sample(range(len(planted.lines)), breaks * 5)
    gone = set(victims[:breaks])
    for place in victims[:breaks]:
        line = planted.lines[place]
        planted.breaks.add(("missing", line.kind, line.key))
    for place in victims[breaks : 2 * breaks]:
        line = planted.lines[place]
        planted.lines.append(line)
        planted.breaks.add(("doubled", line.kind, line.key))
    for place in victims[2 * breaks : 3 * breaks]:
        line = planted.lines[place]
        planted.lines[place] = _line(line.kind, line.key, line.debit_key, line.amount.minor + 1, line.finished_at)
        planted.breaks.add(("differing", line.kind, line.key))
    for place in victims[3 * breaks : 4 * breaks]:
        line = planted.lines[place]
        other = Money(line.amount.minor, "USD")
        planted.lines[place] = StatementLine(
            kind=line.kind, key=line.key, debit_key=line.debit_key, amount=other, finished_at=line.finished_at
        )
        planted.breaks.add(("differing", line.kind, line.key))
    for place in victims[4 * breaks :]:
        line = planted.lines[place]
        key = "f" + line.key[1:]
        planted.lines.append(_line(line.kind, key, line.debit_key, 7, line.finished_at))
        planted.breaks.add(("orphan", line.kind, key))
    planted.lines = [line for place, line in enumerate(planted.lines) if place not in gone]


async def nothing() -> AsyncIterator[StatementLine]:
    """A day without lines."""
    for line in ():
        yield line


async def reconcile(db: Database, planted: Planted) -> set[tuple[str, str, str]]:
    """The day, and the days around it that could tell what is missing; every break that was named."""
    account = planted.shop.provider_account_id
    await take_statement(db, nothing(), provider_account_id=account, day=DAY - timedelta(days=1))
    await take_statement(db, nothing(), provider_account_id=account, day=DAY + timedelta(days=1))
    await take_statement(db, planted.told(), provider_account_id=account, day=DAY)
    async with db.connection() as conn:
        rows = await conn.fetch("SELECT what, kind, key FROM recon_break")
    return {(row["what"], row["kind"], row["key"]) for row in rows}


async def campaign(url: str, *, lines: int, breaks: int) -> bool:
    """One run; prints what it took. Whether exactly the planted breaks were named."""
    db = await Database.open(url, max_connections=3)
    try:
        async with db.transaction() as conn:
            planted = await plant(conn, lines=lines, breaks=breaks)
        async with db.connection() as conn:
            await conn.execute("ANALYZE")
        begun = time.monotonic()
        named = await reconcile(db, planted)
        took = time.monotonic() - begun
    finally:
        await db.close()
    print(f"{len(planted.lines)} lines in {took:.1f} s; {len(planted.breaks)} breaks planted, {len(named)} named")
    for one in sorted(named ^ planted.breaks)[:20]:
        print("not as planted:", one)
    return named == planted.breaks


@contextmanager
def _database() -> Iterator[str]:
    """A migrated database on a PostgreSQL of its own."""
    folder = Path(tempfile.mkdtemp(prefix="kinpay-reconcile-", dir="/tmp"))
    try:
        cluster = kinpay_postgres.start(folder, settings={"shared_buffers": "256MB"})
        url = kinpay_postgres.create_database(cluster, "kinpay")
        asyncio.run(migrate(url))
        yield url
    finally:
        kinpay_postgres.stop(folder, mode="immediate")
        shutil.rmtree(Folder(folder).socket_dir, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="reconcile a day of many lines with planted breaks")
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--breaks", type=int, default=40, help="of each of five kinds")
    asked = parser.parse_args()
    with _database() as url:
        return 0 if asyncio.run(campaign(url, lines=asked.lines, breaks=asked.breaks)) else 1


if __name__ == "__main__":
    sys.exit(main())
