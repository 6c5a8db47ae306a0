"""How the town of `town.py` comes to stand: a sandbox bank, a database, an application in this process.

Used by the fixtures and by the commands of this folder, which have no fixtures.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import httpx

from kinpay.cli.demo.stage import Running, codes_file, remove_cluster, server_environment, start_bank
from kinpay.cli.demo.world import World, open_world
from kinpay.server.assemble import application
from kinpay.server.house import House, open_house
from kinpay.server.serve import Background
from kinpay.server.settings import read_settings
from tests.api.asking import URL
from tests.api.town import Town, build, same_world, stop_quietly

Listen = Callable[[httpx.AsyncClient], None]


@contextmanager
def standing_bank() -> Iterator[Running]:
    """A sandbox bank with a cluster of its own."""
    folder = Path(tempfile.mkdtemp(prefix="town-bank-", dir="/tmp"))
    folder.chmod(0o711)
    bank = start_bank(folder / "bank", folder / "bank.log")
    try:
        bank.wait_ready()
        yield bank
    finally:
        bank.stop()
        remove_cluster(folder / "bank" / "cluster")
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def standing_town(url: str, bank: Running, *, listen: Listen | None = None) -> AsyncIterator[Town]:
    """A town in the migrated, empty database at `url`; `listen` is given the client by which everything is asked."""
    folder = Path(tempfile.mkdtemp(prefix="kinpay-town-", dir="/tmp"))
    secret = folder / "secret"
    secret.write_text(base64.b64encode(secrets.token_bytes(32)).decode())
    secret.chmod(0o600)
    more = {"KINPAY_DATABASE_URL": url, "KINPAY_MAX_CONNECTIONS": "12", "KINPAY_WEBHOOK_NETWORKS": "127.0.0.0/8"}
    more["KINPAY_WEBHOOK_HTTP"] = "1"
    environment = server_environment(folder, more=more)
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        house = await stack.enter_async_context(open_house(read_settings(environment), url, public_url=URL))
        worlds = [
            await stack.enter_async_context(open_world(environment, url=URL, bank_url=bank.url, codes=codes_file(folder)))
            for _ in range(2)
        ]
        yield await _built(stack, house, worlds, listen=listen)


async def _built(stack: AsyncExitStack, house: House, worlds: list[World], *, listen: Listen | None) -> Town:
    """Builds with the worker running, and stops it: from then on only requests change anything."""
    transport = httpx.ASGITransport(app=application(house))
    http = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url=URL, timeout=30))
    if listen is not None:
        listen(http)
    background = Background(house, work=True)
    working = asyncio.create_task(background.run())
    try:
        town = await build(house, [same_world(world, http) for world in worlds])
    finally:
        background.stop()
        await stop_quietly(working)
    # A stream would never end; so there are none, and whoever may listen hears only the greeting.
    house.board.close()
    return town
