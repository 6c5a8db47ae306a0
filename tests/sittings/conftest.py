"""The stand of `stand.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from kinpay.database.pool import Database
from kinpay.primitives.server_keys import ServerKeys
from tests.sittings.stand import Stand, open_stand


@pytest_asyncio.fixture
async def stand(db: Database, keys: ServerKeys, tmp_path: Path) -> AsyncIterator[Stand]:
    """A canteen where faces may pay."""
    opened = await open_stand(db, keys, tmp_path / "keyring")
    yield opened
    await opened.client.aclose()
    opened.desk.examiner.close()
    await opened.desk.galleries.close()
