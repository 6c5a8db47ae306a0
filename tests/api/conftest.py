"""The town of `town.py` on a database of its own, its background work stopped once everything stands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import count
from typing import Any

import pytest
import pytest_asyncio

import kinpay_postgres
from kinpay.cli.demo.stage import Running
from tests.api.standing import Listen, standing_bank, standing_town
from tests.api.town import Town
from tests.conftest import check_books

_numbers = count(1)


@pytest.fixture(scope="module")
def town_bank() -> Iterator[Running]:
    """A sandbox bank with a cluster of its own."""
    with standing_bank() as bank:
        yield bank


@pytest.fixture(scope="module")
def listen() -> Listen | None:
    """What hears everything that the town's client is told, its coming to stand included; a file may have one."""
    return None


@pytest_asyncio.fixture(scope="module")
async def town(
    cluster: kinpay_postgres.Cluster, administrator: Any, template: str, town_bank: Running, listen: Listen | None
) -> AsyncIterator[Town]:
    """One town a file: bad input must not change it; whoever is let in uses it up, so that test comes last in its file."""
    name = f"town_{next(_numbers)}"
    await administrator.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    try:
        async with standing_town(cluster.url(name), town_bank, listen=listen) as found:
            yield found
            await check_books(cluster.url(name))
    finally:
        await administrator.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
