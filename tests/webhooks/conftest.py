"""A canteen that listens: charges decided and settled by the real functions, the outbox and the sender run when told to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from kinpay.charges.batch import Batcher
from kinpay.database.pool import Database
from kinpay.primitives.actor import Actor, ActorKind, Scope
from kinpay.primitives.ids import new_id
from kinpay.primitives.sealed import Sealed
from kinpay.primitives.server_keys import ServerKeys
from kinpay.webhooks import manage
from kinpay.webhooks.address import Rules, networks_of
from kinpay.webhooks.announce import tasks
from kinpay.webhooks.endpoint import TOLD, Endpoint
from kinpay.webhooks.outbound import Outbound
from kinpay.webhooks.send import Sender, SendingPace
from kinpay.webhooks.signature import signature
from kinpay.worker.run import Worker
from tests.charges.seeds import Family, found_families, open_shop
from tests.notifications.till import Till
from tests.webhooks.consumer import Consumer, Heard

NOON = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
Open = Callable[..., Consumer]
EVERYTHING = tuple(kind.value for kind in TOLD)


@dataclass
class Canteen:
    """The shop, a family, the till; and a back office whose key is of the shop's merchant."""

    db: Database
    keys: ServerKeys
    till: Till
    family: Family
    outbound: Outbound
    now: datetime = NOON
    secrets: dict[str, Sealed[bytes]] = field(default_factory=dict)

    @property
    def office(self) -> Actor:
        """The merchant's key."""
        shop = self.till.shop
        scopes = frozenset(Scope)
        return Actor(ActorKind.API_KEY, new_id(), shop.operator_id, scopes=scopes, merchant_id=shop.merchant_id)

    async def listen(self, consumer: Consumer, *, types: tuple[str, ...] = EVERYTHING, url: str = "") -> str:
        """Makes an endpoint; its id."""
        wanted = manage.NewEndpoint(merchant_id=None, url=url or consumer.url, types=types, description=None)
        async with self.db.transaction() as conn:
            made, secret = await manage.make_endpoint(conn, self.keys, actor=self.office, wanted=wanted)
        self.secrets[made.id] = secret
        return made.id

    async def later(self, by: timedelta) -> None:
        """Moves the clock."""
        self.now += by
        await self.till.at(self.now)

    async def announce(self) -> None:
        """The outbox is delivered."""
        await Worker(self.db, tasks(self.db) | {"notice.*": nothing}).run_until_idle()

    def sender(self, **changed: Any) -> Sender:
        """A sender without spread."""
        pace = changed.pop("pace", SendingPace())
        return Sender(self.db, self.keys, self.outbound, pace=pace, jitter=lambda: 0.0)

    async def send(self) -> int:
        """The outbox is delivered, and what is due is sent; how many attempts that took."""
        await self.announce()
        return await self.sender().run_until_idle()

    async def endpoint(self, endpoint_id: str) -> Endpoint:
        """As it is."""
        async with self.db.transaction() as conn:
            return await manage.find_endpoint(conn, endpoint_id, actor=self.office)

    async def rows(self, sql: str, *given: Any) -> list[dict[str, Any]]:
        """What stands in the tables."""
        async with self.db.connection() as conn:
            return [dict(row) for row in await conn.fetch(sql, *given)]


async def nothing(_: Any) -> None:
    """People are told by others."""


@pytest_asyncio.fixture
async def canteen(db: Database, keys: ServerKeys) -> AsyncIterator[Canteen]:
    """At noon."""
    batcher = Batcher(db)
    outbound = Outbound(Rules(http=True, networks=networks_of("127.0.0.0/8")), timeout_s=2.0)
    async with db.transaction() as conn:
        shop = await open_shop(conn, NOON)
        (family,) = await found_families(conn, shop, NOON)
    till = Till(db, batcher, shop)
    await till.at(NOON)
    yield Canteen(db, keys, till, family, outbound)
    await outbound.close()
    await batcher.close()


@pytest.fixture
def open_consumer() -> Iterator[Callable[..., Consumer]]:
    """Makes consumers that are stopped afterwards."""
    made: list[Consumer] = []

    def make(*given: Any) -> Consumer:
        made.append(Consumer(*given).start())
        return made[-1]

    yield make
    for consumer in made:
        consumer.stop()


def types(consumer: Consumer) -> list[str]:
    """What a consumer heard, in order."""
    return [heard.told["type"] for heard in consumer.heard]


def verify(canteen: Canteen, endpoint_id: str, heard: Heard) -> bool:
    """By hand, at any virtual time."""
    wanted = signature(
        canteen.secrets[endpoint_id],
        message_id=heard.message_id,
        timestamp_s=int(heard.headers["webhook-timestamp"]),
        body=heard.body,
    )
    return wanted in heard.headers["webhook-signature"].split(" ")
