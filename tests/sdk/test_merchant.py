"""A merchant's back office against a real server: charges, refunds, settlements, and webhooks verified where they arrive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest

from kinpay_client import Merchant, NotGenuine, Problem, SyncMerchant, Unreachable, new_key, read_webhook
from kinpay_client.merchant_results import Delivery, WebhookEndpoint
from tests.sdk.losing import LosingWire
from tests.sdk.shop import Asking, Shop
from tests.webhooks.consumer import Consumer, Heard, answer

SETTINGS = {"KINPAY_WEBHOOK_HTTP": "1", "KINPAY_WEBHOOK_NETWORKS": "127.0.0.0/8"}
SCOPES = ["charges:read", "charges:refund", "webhooks:manage", "settlements:read", "terminals:read"]
LONG_S = 20.0

T = TypeVar("T")


@asynccontextmanager
async def office(shop: Shop, kind: str, *, url: str | None = None, scopes: list[str] = SCOPES) -> AsyncIterator[Asking]:
    """A back office of the canteen, of either kind, with a key of its own."""
    asked = {"name": "Back office", "scopes": scopes, "merchant_id": shop.merchant_id}
    token = (await shop.owner.ask("POST", "/v1/api-keys", asked))["token"]
    address = url or shop.house.world.url
    if kind == "async":
        async with Merchant(address, token) as merchant:
            yield Asking(merchant)
    else:
        with SyncMerchant(address, token) as waiting:
            yield Asking(waiting)


@pytest.fixture
def consumer() -> Iterator[Consumer]:
    consumer = Consumer().start()
    yield consumer
    consumer.stop()


async def soon(look: Callable[[], Awaitable[T]]) -> T:
    """What is looked for, once it is there."""
    async with asyncio.timeout(LONG_S):
        while not (found := await look()):  # noqa: ASYNC110 (another process makes it so)
            await asyncio.sleep(0.05)
    return found


async def arrived(consumer: Consumer, type_: str) -> Heard:
    """The newest message of that type, once it is there."""

    async def look() -> list[Heard]:
        return [one for one in consumer.heard if one.told["type"] == type_]

    return (await soon(look))[-1]


async def sold(shop: Shop, amount_minor: int) -> str:
    """A charge at the canteen."""
    charge = await shop.till.terminal.charge({"code": await shop.spender.pay_code(shop.circle_id)}, amount_minor, "CNY")
    assert charge.succeeded
    return charge.id


async def test_a_refund_survives_lost_answers_and_is_given_back_once(shop: Shop, kind: str) -> None:
    charge_id, key = await sold(shop, 1_000), new_key()
    async with LosingWire(shop.house.world.url) as wire, office(shop, kind, url=wire.url) as back:
        page = await back.charges(limit=1)
        assert (page.charges[0].id, page.charges[0].payer_id, page.after) == (charge_id, None, charge_id)
        wire.lose = [f"/v1/charges/{charge_id}/refunds"] * 7
        with pytest.raises(Unreachable):
            await back.refund(charge_id, 400, key=key)
        given = await back.refund(charge_id, 400, key=key)
        assert (given.refunded_minor, given.replayed) == (400, True)
        assert (await back.settled(await back.charge_state(charge_id))).refunded_minor == 400
        assert [one.name for one in (await back.terminals()).terminals] == ["Till 1"]


async def test_settlements_are_read_page_by_page(shop: Shop, kind: str) -> None:
    await sold(shop, 700)
    async with office(shop, kind) as back:
        assert (await back.settlements(shop.merchant_id)).settlements == ()  # today is not over
        with pytest.raises(Problem) as open_day:
            await back.settlement_lines(shop.merchant_id, "2026-01-01")
        assert open_day.value.status == 404


async def test_what_is_told_is_verified_where_it_arrives(shop: Shop, kind: str, consumer: Consumer) -> None:
    async with office(shop, kind) as back:
        made = await back.make_webhook(f"http://127.0.0.1:{consumer.port}/hooks", ["charge.succeeded"], description="Books")
        charge_id = await sold(shop, 350)
        heard = await arrived(consumer, "charge.succeeded")
        message = read_webhook(made.secret, heard.headers, heard.body)
        assert (message.type, message.charge.id, message.charge.amount_minor) == ("charge.succeeded", charge_id, 350)

        async def delivered() -> tuple[Delivery, ...]:
            return tuple((await back.deliveries(made.endpoint.id, state="delivered")).deliveries)

        (delivery,) = await soon(delivered)
        told = await back.delivery(delivery.id)
        assert (told.delivery.message_id, told.text.encode(), told.attempts[0].status) == (message.id, heard.body, 204)

        rotated = await back.rotate_secret(made.endpoint.id)
        assert await back.redeliver(delivery.id) == 1
        assert await back.test_webhook(made.endpoint.id)
        tested = await arrived(consumer, "test")
        for secret in (made.secret, rotated.secret, [rotated.secret, made.secret]):
            assert read_webhook(secret, tested.headers, tested.body).type == "test"

        async def twice() -> bool:
            return [one.message_id for one in consumer.heard if one.told["type"] == message.type] == [message.id] * 2

        assert await soon(twice)
        await back.remove_webhook(made.endpoint.id)
        assert made.endpoint.id not in [one.id for one in (await back.webhooks()).endpoints]


async def test_what_was_given_up_is_asked_for_again(shop: Shop, kind: str, consumer: Consumer) -> None:
    consumer.behave = answer(410)
    async with office(shop, kind) as back:
        made = await back.make_webhook(f"http://127.0.0.1:{consumer.port}/hooks", ["charge.refunded", "charge.succeeded"])
        await sold(shop, 360)

        async def disabled() -> list[WebhookEndpoint]:
            found = (await back.webhooks()).endpoints
            return [one for one in found if one.id == made.endpoint.id and not one.enabled]

        (gone,) = await soon(disabled)
        assert gone.disabled_reason == "gone"
        consumer.behave = answer(204, body=b"")
        changed = await back.change_webhook(made.endpoint.id, enabled=True, description="Mended")
        assert (changed.enabled, changed.description, changed.disabled_reason) == (True, "Mended", None)
        await back.redeliver_failed(made.endpoint.id, gone.created_at)

        async def nothing_pending() -> bool:
            return not (await back.deliveries(made.endpoint.id, state="pending")).deliveries

        assert await soon(nothing_pending)
        await back.remove_webhook(made.endpoint.id)


async def test_a_key_does_what_its_scopes_say(shop: Shop, kind: str) -> None:
    async with office(shop, kind, scopes=["charges:read"]) as back:
        with pytest.raises(Problem) as lacking:
            await back.webhooks()
        assert (lacking.value.status, lacking.value.code) == (403, "forbidden")


VECTOR = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
VECTOR_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.mark.parametrize(
    ("changed", "secret", "later_s"),
    [
        ({"webhook-id": "msg_2"}, VECTOR_SECRET, 0),
        ({"webhook-timestamp": "1614265331"}, VECTOR_SECRET, 0),
        ({"webhook-signature": "v1a,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}, VECTOR_SECRET, 0),
        ({"webhook-signature": ""}, VECTOR_SECRET, 0),
        ({}, "whsec_" + "A" * 32, 0),
        ({}, VECTOR_SECRET, 301),
        ({}, VECTOR_SECRET, -301),
    ],
)
def test_what_is_forged_or_old_is_not_believed(changed: dict[str, str], secret: str, later_s: int) -> None:
    with pytest.raises(NotGenuine):
        read_webhook(secret, VECTOR | changed, b'{"test": 2432232314}', clock=lambda: 1614265330 + later_s)


def test_the_published_vector_is_genuine_and_no_message_of_ours() -> None:
    with pytest.raises(Exception, match="of another form"):  # the signature holds, and then it is read
        read_webhook([VECTOR_SECRET], VECTOR, b'{"test": 2432232314}', clock=lambda: 1614265330 + 299)
    with pytest.raises(ValueError, match="whsec_"):
        read_webhook("whsec_%%%", VECTOR, b"{}")
