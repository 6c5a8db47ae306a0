"""The house of this folder's tests."""

from __future__ import annotations

import pytest_asyncio

from kinpay.database.pool import Database
from kinpay.primitives.server_keys import ServerKeys
from tests.terminals.house import House, build_house


@pytest_asyncio.fixture
async def house(db: Database, keys: ServerKeys) -> House:
    """An operator with a merchant, a site, and the routes of terminals."""
    return await build_house(db, keys)
