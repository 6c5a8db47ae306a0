from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from kinpay.database.pool import Database
from kinpay.primitives.server_keys import ServerKeys
from tests.mandates.scene import Family, open_family


@pytest_asyncio.fixture
async def family(db: Database, keys: ServerKeys, tmp_path: Path) -> AsyncIterator[Family]:
    """A payer and a spender in a circle, with nothing granted yet."""
    opened = await open_family(db, keys, tmp_path)
    try:
        yield opened
    finally:
        await opened.house.client.aclose()
