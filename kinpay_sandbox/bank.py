"""What every request of the bank works with, put together once in `app.open_bank`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from kinpay_sandbox.books import Connection, Pool
from kinpay_sandbox.events import Postman
from kinpay_sandbox.faults import Faults
from kinpay_sandbox.signing import BankKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Bank:
    """The bank's books, its key, its faults, its postman, and the address people see."""

    db: Pool
    nonces: Pool
    key: BankKey
    faults: Faults
    postman: Postman
    base_url: str

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Open a transaction that commits when the block ends well."""
        async with self.db.acquire() as conn, conn.transaction():
            yield conn

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """Open a read-only view of one single moment."""
        async with self.db.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            yield conn
