"""A database as it was at some moment, beside a bank that went on: what a restore leaves, without a cluster of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any

from kinpay.charges.batch import Batcher
from kinpay.charges.daily import freeze_due, retry_days
from kinpay.charges.reconcile import reconcile_debits, reconcile_refunds, retry_arrears
from kinpay.charges.refund import refund_charge, send_refund
from kinpay.charges.request import Charge
from kinpay.charges.submit import send_debit
from kinpay.database.pool import Database, database_now
from kinpay.recovery.closed import RECOVERING, close_restored
from kinpay.recovery.gap import Asked, ask_for_gap
from kinpay.server.provider_accounts import ProviderAccounts
from tests.charges.bank import PROVIDER_TIMEOUT_S, PUBLIC_URL, AtBank, BankFamily
from tests.charges.household import Household
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

    async def charge(self, charge_id: str) -> Charge:
        """As it is in the restored database."""
        return await BankFamily(self.db, self.house.shop, "", "", "").charge(charge_id)

    async def charges(self) -> list[tuple[Any, ...]]:
        """State and captured amount of every charge."""
        return sorted(await self.rows("SELECT state, captured_minor FROM charge"))

    async def at_bank(self) -> tuple[list[int], list[int]]:
        """Debits and refunds that succeeded, by the bank's own word."""
        control, client = self.house.control, self.house.client_id
        debits = [one["amount_minor"] for one in await control.debits(client) if one["state"] == "succeeded"]
        refunds = [one["amount_minor"] for one in await control.refunds(client) if one["state"] == "succeeded"]
        return sorted(debits), sorted(refunds)

    async def work(self) -> None:
        """What the worker does when the time of everything has come."""
        async with self.db.transaction() as conn:
            await conn.execute("UPDATE debit SET next_check_at = kinpay_now() WHERE next_check_at IS NOT NULL")
            await conn.execute("UPDATE refund SET next_check_at = kinpay_now() WHERE next_check_at IS NOT NULL")
            await conn.execute("UPDATE charge SET retry_at = kinpay_now() WHERE retry_at IS NOT NULL")
        await reconcile_debits(self.outside, self.providers)
        await reconcile_refunds(self.outside, self.providers)
        await retry_days(self.outside, self.providers)
        await retry_arrears(self.outside, self.providers)

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


async def daily(house: AtBank) -> None:
    """Every payer of the house is debited once a day."""
    async with house.db.transaction() as conn:
        await conn.execute("ALTER TABLE settlement_rule DISABLE TRIGGER append_only")
        await conn.execute("UPDATE settlement_rule SET debited = 'daily'")
        await conn.execute("ALTER TABLE settlement_rule ENABLE TRIGGER append_only")


async def close_day(db: Database, providers: ProviderAccounts, family: Household, *, send: bool = True) -> list[str]:
    """Ends the day of a family's first agreement: its debits."""
    async with db.transaction() as conn:
        debit_ids = await freeze_due(conn, family.circle_id, ending_id=family.agreements[0])
    for debit_id in debit_ids if send else ():
        await send_debit(db, providers, debit_id)
    return debit_ids


async def refund(house: AtBank, charge_id: str, amount_minor: int, *, mark: str | None = None) -> str:
    """Gives some of a charge back."""
    (refund_id,) = await _refund(house.db, house, charge_id, amount_minor, mark)
    return refund_id


async def refund_again(lost: Lost, charge_id: str, amount_minor: int, *, mark: str) -> list[str]:
    """The till repeats its request at the restored house; what is sent for it."""
    return await _refund(lost.outside, lost.house, charge_id, amount_minor, mark)


async def _refund(db: Database, house: AtBank, charge_id: str, amount_minor: int, mark: str | None) -> list[str]:
    async with db.transaction() as conn:
        refund_ids = await refund_charge(conn, charge_id, amount_minor=amount_minor, actor_id=house.shop.terminal_id, mark=mark)
    for refund_id in refund_ids:
        await send_refund(db, house.providers, refund_id)
    return refund_ids


@asynccontextmanager
async def batcher_on(db: Database) -> AsyncIterator[Batcher]:
    """Authorises on another database than the house's."""
    batcher = Batcher(db)
    try:
        yield batcher
    finally:
        await batcher.close()
