"""The stage of the stories: real server processes on the shared cluster, one real bank, and a clock that the story sets.

Each story (each file) has a database and a server of its own, because its days lie where it says; the bank is one for all and
goes by its own clock. When a story is over the books are checked like after every other test.
"""

from __future__ import annotations

import base64
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest
import pytest_asyncio

import kinpay_postgres
from kinpay.cli.demo.cast import Device, Player, merchant
from kinpay.cli.demo.stage import Running, codes_file, remove_cluster, server_environment, start_bank, start_server
from kinpay.cli.demo.world import World, open_world
from tests.conftest import check_books, set_clock

ZONE = "Asia/Shanghai"
_numbers = count(1)


@pytest.fixture(scope="session")
def story_bank() -> Iterator[Running]:
    """One sandbox bank with a cluster of its own."""
    folder = Path(tempfile.mkdtemp(prefix="story-bank-", dir="/tmp"))
    folder.chmod(0o711)
    bank = start_bank(folder / "bank", folder / "bank.log")
    try:
        bank.wait_ready()
        yield bank
    finally:
        bank.stop()
        remove_cluster(folder / "bank" / "cluster")
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class House:
    """A story's house: its world, its database and its server processes."""

    world: World
    environment: dict[str, str]
    folder: Path
    conn: Any
    servers: list[Running]

    async def clock(self, wall: str, *, zone: str = ZONE) -> datetime:
        """Moves kinpay's clock to what the circle's wall shows, such as `2026-03-02 07:10`; it goes on running from there."""
        moment = datetime.fromisoformat(wall).replace(tzinfo=ZoneInfo(zone))
        await set_clock(self.conn, moment)
        return moment

    async def value(self, sql: str, *given: Any) -> Any:
        """One value straight from the tables."""
        return await self.conn.fetchval(sql, *given)

    def start_another(self) -> World:
        """A second server process on the same database."""
        log = self.folder / f"server-{len(self.servers)}.log"
        server = start_server(self.environment | {"KINPAY_PORT": "0"}, log)
        self.servers.append(server)
        return self.world.at(server.wait_ready())

    def restart(self) -> None:
        """Stops the first server and starts it again at the same address."""
        first = self.servers[0]
        first.stop()
        port = first.url.rpartition(":")[2]
        self.servers[0] = start_server(self.environment | {"KINPAY_PORT": port}, first.log)
        self.servers[0].wait_ready()

    async def join(
        self, account: str, *, name: str, born: str | None = "1980-05-01", balance_minor: int | None = None
    ) -> Player:
        """Somebody with an account name that the shared bank has not seen, and perhaps with money there."""
        player = await Player.join(self.world, f"{account}.{secrets.token_hex(3)}", name=name, born=born)
        if balance_minor is not None:
            await player.open_bank_account(balance_minor)
        return player

    async def bank_debits(self) -> list[dict[str, Any]]:
        """What the bank debited for this operator, and kept or gave back."""
        found = await self.world.control.debits(self.world.bank_client_id)
        return [one for one in found if one["state"] == "succeeded"]


@pytest_asyncio.fixture(scope="module")
async def house(
    request: pytest.FixtureRequest, cluster: kinpay_postgres.Cluster, administrator: Any, template: str, story_bank: Running
) -> AsyncIterator[House]:
    """The story's house, whose day begins at the module's `BEGINS` (the circle's wall clock) or, without one, now.

    The module's `SETTINGS`, if it has some, are the server's besides.
    """
    name = f"story_{next(_numbers)}"
    await administrator.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    folder = Path(tempfile.mkdtemp(prefix="kinpay-story-", dir="/tmp"))
    secret = folder / "secret"
    secret.write_text(base64.b64encode(secrets.token_bytes(32)).decode())
    secret.chmod(0o600)
    url = cluster.url(name)
    more = {"KINPAY_DATABASE_URL": url, "KINPAY_MAX_CONNECTIONS": "12", **getattr(request.module, "SETTINGS", {})}
    environment = server_environment(folder, more=more)
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.push_async_callback(administrator.execute, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        conn = await asyncpg.connect(url)
        stack.push_async_callback(conn.close)
        begins = getattr(request.module, "BEGINS", None)
        if begins is not None:
            await set_clock(conn, datetime.fromisoformat(begins).replace(tzinfo=ZoneInfo(ZONE)))
        servers = [start_server(environment, folder / "server.log")]
        stack.callback(lambda: [server.stop() for server in servers])
        servers[0].wait_ready()
        world = await stack.enter_async_context(
            open_world(environment, url=servers[0].url, bank_url=story_bank.url, codes=codes_file(folder))
        )
        yield House(world, environment, folder, conn, servers)
        await world.control.heal()
        await check_books(url)
        books = await world.control.books()
        assert books["balanced"], books["faults"]


class Mall:
    """A till and a kiosk beside it."""

    till: Device
    kiosk: Device


@pytest_asyncio.fixture(scope="module")
async def mall(house: House) -> Mall:
    """Both installed at one merchant."""
    mall = Mall()
    owner = await Player.sign_in(house.world, "owner")
    merchant_id, site_id = await merchant(owner, name="Canteen", mcc="5814", site="Mall")
    mall.till = await Device.install(owner, merchant_id=merchant_id, site_id=site_id, name="Till")
    mall.kiosk = await Device.install(owner, merchant_id=merchant_id, site_id=site_id, name="Kiosk", kind="kiosk")
    return mall
