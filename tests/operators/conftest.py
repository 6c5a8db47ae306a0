from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from kinpay.database.pool import Database
from kinpay.operators.api_key_routes import router as api_key_routes
from kinpay.operators.routes import router as operator_routes
from kinpay.primitives.server_keys import ServerKeys
from kinpay.reconciliation.routes import router as reconciliation_routes
from kinpay.settlements.routes import router as settlement_routes
from kinpay.webhooks.address import Rules, networks_of
from kinpay.webhooks.outbound import Outbound
from kinpay.webhooks.routes import router as webhook_routes
from tests.people.house import House, open_house


@pytest_asyncio.fixture
async def house(db: Database, keys: ServerKeys, tmp_path: Path) -> AsyncIterator[House]:
    """An operator, its owner `boss`, and whatever its staff may ask."""
    outbound = Outbound(Rules(networks=networks_of("127.0.0.0/8")))
    more = [
        operator_routes(db, keys=keys),
        api_key_routes(db, keys=keys),
        settlement_routes(db),
        reconciliation_routes(db),
        webhook_routes(db, keys=keys, outbound=outbound),
    ]
    opened = await open_house(db, keys, tmp_path / "codes.jsonl", more=more)
    try:
        yield opened
    finally:
        await opened.client.aclose()
        await outbound.close()
