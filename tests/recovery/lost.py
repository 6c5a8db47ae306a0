"""A database as it was at some moment, beside a bank that went on: what a restore leaves, without a cluster of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any

from kinpay.charges.batch import Batcher
from kinpay.charges.refund import refund_charge, send_refund
from kinpay.database.pool import Database, database_now
from kinpay.recovery.closed import RECOVERING, close_restored
from kinpay.recovery.gap import Asked, ask_for_gap
from kinpay.server.provider_accounts import ProviderAccounts
from tests.charges.bank import PROVIDER_TIMEOUT_S, PUBLIC_URL, AtBank
from tests.conftest import check_books

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Lost:
    """The restored database: `db` may write while it is closed, `outside` is what a server has."""

    house: AtBank
    url: str
    db: Database
    outside: Database
    providers: ProviderAccounts

    async def ask(self, **more: Any) -> Asked:
        """`kinpay requery`."""
        return await ask_for_gap(self.db, self.providers, public_url=PUBLIC_URL, **more)

    async def rows(self, sql: str, *given: Any) -> list[tuple[Any, ...]]:
        """Straight from the tables."""
        async with self.db.connection() as conn:
            return [tuple(row) for row in await conn.fetch(sql, *given)]

    async def agrees_with_bank(self) -> None:
        """Debits and refunds are the bank's, and the books add up."""
        control, client = self.house.control, self.house.client_id
        for kind, theirs in (("debit", await control.debits(client)), ("refund", await control.refunds(client))):
            bank = {one["key"]: one["amount_minor"] for one in theirs if one["state"] == "succeeded"}
            ours = dict(await self.rows(f"SELECT id, amount_minor FROM {kind} WHERE state = 'succeeded'"))
            assert ours == bank, kind
        await check_books(self.url)


@dataclass
class Snapshots:
    """Takes them, and removes them in the end."""

    administrator: Any
    house: AtBank
    url: str

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[Lost]:
        """The database as it is now, to be looked at later; closed as after a restore."""
        async with self.house.db.connection() as conn:
            name, point_at = await conn.fetchval("SELECT current_database()"), await database_now(conn)
        copy = f"{name}_restored_{next(_numbers)}"
        # A template must be nobody's; pools come back by themselves.
        await self.administrator.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        await self.administrator.execute(f"CREATE DATABASE {copy} TEMPLATE {name} STRATEGY file_copy")
        url = self.url.replace(f"/{name}?", f"/{copy}?")
        db = await Database.open(url, max_connections=6, settings=RECOVERING)
        outside = await Database.open(url, max_connections=6)
        providers = ProviderAccounts(db, self.house.keys, timeout_s=PROVIDER_TIMEOUT_S)
        try:
            await self._close(db, point_at)
            yield Lost(self.house, url, db, outside, providers)
        finally:
            await providers.close()
            await outside.close()
            await db.close()
            await self.administrator.execute(f"DROP DATABASE {copy} WITH (FORCE)")

    async def _close(self, db: Database, point_at: datetime) -> None:
        async with db.transaction() as conn:
            await close_restored(conn, point_at=point_at, backup="base-test", now=await database_now(conn))


async def refund(house: AtBank, charge_id: str, amount_minor: int, *, mark: str | None = None) -> str:
    """Gives some of a charge back."""
    async with house.db.transaction() as conn:
        (refund_id,) = await refund_charge(
            conn, charge_id, amount_minor=amount_minor, actor_id=house.shop.terminal_id, mark=mark
        )
    await send_refund(house.db, house.providers, refund_id)
    return refund_id


@asynccontextmanager
async def batcher_on(db: Database) -> AsyncIterator[Batcher]:
    """Authorises on another database than the house's."""
    batcher = Batcher(db)
    try:
        yield batcher
    finally:
        await batcher.close()
