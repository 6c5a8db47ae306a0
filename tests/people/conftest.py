from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from kinpay.database.pool import Database
from kinpay.primitives.server_keys import ServerKeys
from tests.people.house import House, open_house


@pytest_asyncio.fixture
async def house(db: Database, keys: ServerKeys, tmp_path: Path) -> AsyncIterator[House]:
    """An operator and our routes over a fresh database."""
    opened = await open_house(db, keys, tmp_path / "codes.jsonl")
    try:
        yield opened
    finally:
        await opened.client.aclose()
