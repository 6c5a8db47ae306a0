"""Whatever an endpoint did for hours or days, all of it arrives afterwards, in order, under the same ids; and however many
hang, whoever takes its messages gets them."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest

from kinpay.webhooks import manage
from kinpay.webhooks.address import Rules, networks_of
from kinpay.webhooks.delivery import Share
from kinpay.webhooks.outbound import Outbound
from kinpay.webhooks.send import SendingPace
from kinpay.webhooks.store import claim
from tests.webhooks.conftest import Canteen, Open
from tests.webhooks.consumer import Behave, answer, hang

TAKE = answer(204, body=b"")


async def _switch_on(canteen: Canteen, endpoint_id: str) -> None:
    async with canteen.db.transaction() as conn:
        await manage.change_endpoint(conn, endpoint_id, actor=canteen.office, change=manage.Change(enabled=True))


@pytest.mark.parametrize(
    "behave",
    [answer(410), answer(307, headers="location: http://127.0.0.1:9/\r\n"), hang, None],
    ids=["gone", "away", "hangs", "down"],
)
async def test_after_six_hours_of_anything_all_of_it_arrives(
    canteen: Canteen, open_consumer: Open, behave: Behave | None
) -> None:
    await canteen.outbound.close()
    canteen.outbound = Outbound(Rules(http=True, networks=networks_of("127.0.0.0/8")), timeout_s=0.2)
    consumer = open_consumer(*([] if behave is None else [behave]))
    endpoint_id = await canteen.listen(consumer)
    if behave is None:
        consumer.stop()
    charges = []
    for _ in range(6):
        charge = await canteen.till.pay(canteen.family, 1000)
        charges.append(charge.id)
        await canteen.send()
        await canteen.till.refund(charge, 100)
        await canteen.send()
        await canteen.later(timedelta(hours=1))
    tried = {heard.message_id: heard.body for heard in consumer.heard}
    consumer.heard.clear()
    consumer.behave = TAKE
    if behave is None:
        consumer.start()
    if not (await canteen.endpoint(endpoint_id)).enabled:
        await _switch_on(canteen, endpoint_id)
    for _ in range(12):
        await canteen.send()
        await canteen.later(timedelta(hours=1))
    assert len(consumer.heard) == 18, "each once: nothing lost, nothing twice"
    for charge_id in charges:
        of_charge = [heard.told["type"] for heard in consumer.heard if heard.told["data"]["id"] == charge_id]
        assert of_charge == ["charge.succeeded", "charge.refunded", "refund.succeeded"]
    heard = {one.message_id: one.body for one in consumer.heard}
    assert tried.items() <= heard.items(), "the same ids and bytes as in the attempts before"
    assert (behave is None) == (not tried)


async def test_one_that_was_gone_for_weeks_gets_what_is_kept_and_at_once(canteen: Canteen, open_consumer: Open) -> None:
    consumer = open_consumer(answer(410))
    endpoint_id = await canteen.listen(consumer)
    first = await canteen.till.pay(canteen.family, 100)
    await canteen.send()
    await canteen.later(timedelta(days=20))
    second = await canteen.till.pay(canteen.family, 200)
    await canteen.till.refund(first, 40)
    await canteen.send()
    assert len(consumer.heard) == 1, "nobody asks it meanwhile"
    consumer.behave = TAKE
    await _switch_on(canteen, endpoint_id)
    assert await canteen.send() == 4
    of_first = [one for one in consumer.heard if one.told["data"]["id"] == first.id]
    assert [one.told["type"] for one in of_first] == [
        "charge.succeeded", "charge.succeeded", "charge.refunded", "refund.succeeded",
    ]  # fmt: skip
    assert of_first[0].message_id == of_first[1].message_id
    assert [one.told["type"] for one in consumer.heard if one.told["data"]["id"] == second.id] == ["charge.succeeded"]


async def test_what_somebody_switched_off_misses_what_happens_meanwhile(canteen: Canteen, open_consumer: Open) -> None:
    consumer = open_consumer()
    endpoint_id = await canteen.listen(consumer)
    async with canteen.db.transaction() as conn:
        await manage.change_endpoint(conn, endpoint_id, actor=canteen.office, change=manage.Change(enabled=False))
    await canteen.till.pay(canteen.family, 100)
    await canteen.send()
    await _switch_on(canteen, endpoint_id)
    assert await canteen.send() == 0
    assert await canteen.rows("SELECT 1 FROM webhook_event") == []


async def test_two_of_three_that_hang_take_none_of_the_third_ones_time(canteen: Canteen, open_consumer: Open) -> None:
    hanging, quick = [open_consumer(hang), open_consumer(hang)], open_consumer()
    for consumer in (*hanging, quick):
        await canteen.listen(consumer)
    for number in range(40):
        await canteen.till.pay(canteen.family, 100 + number)
    await canteen.announce()
    sender = canteen.sender(pace=SendingPace(at_once=8, each=4, poll_s=0.05))
    running = asyncio.create_task(sender.run())
    began = time.monotonic()
    while len(quick.heard) < 40:
        assert time.monotonic() - began < 4, f"the quick one waits: {len(quick.heard)} of 40"
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_all_the_endpoints_of_a_merchant_hang_and_the_operators_own_does_not_wait(
    canteen: Canteen, open_consumer: Open
) -> None:
    hanging, quick = [open_consumer(hang) for _ in range(6)], open_consumer()
    for consumer in hanging:
        await canteen.listen(consumer)
    of_all = await canteen.listen(quick)
    async with canteen.db.transaction() as conn:
        await conn.execute("UPDATE webhook_endpoint SET merchant_id = NULL WHERE id = $1", of_all)
    for number in range(20):
        await canteen.till.pay(canteen.family, 100 + number)
    await canteen.announce()
    running = asyncio.create_task(canteen.sender(pace=SendingPace(at_once=16, poll_s=0.05)).run())
    began = time.monotonic()
    while len(quick.heard) < 20:
        assert time.monotonic() - began < 1.8, "it waits for the others to time out"
        await asyncio.sleep(0.01)
    assert sum(len(consumer.heard) for consumer in hanging) <= 4, "a merchant's bound"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_shares_are_kept_over_all_senders(canteen: Canteen, open_consumer: Open) -> None:
    ids = [await canteen.listen(open_consumer()) for _ in range(4)]
    for number in range(6):
        await canteen.till.pay(canteen.family, 100 + number)
    await canteen.announce()

    async def leased(share: Share, *, failing: list[str]) -> dict[str, int]:
        """What a sender claims while those fail, and another right after it; given back."""
        found: dict[str, int] = {}
        async with canteen.db.connection() as conn:
            await conn.execute("BEGIN")
            await conn.execute("UPDATE webhook_endpoint SET failing_since = kinpay_now() WHERE id = ANY($1::uuid[])", failing)
            for _ in range(2):
                for one in await claim(conn, at_most=100, share=share, lease=timedelta(seconds=60)):
                    found[one.endpoint_id] = found.get(one.endpoint_id, 0) + 1
            await conn.execute("ROLLBACK")
        return found

    plenty = 100
    every = Share(each=4, of_one=plenty, further=plenty, failing=plenty)
    assert await leased(every, failing=[]) == dict.fromkeys(ids, 4)
    assert await leased(every, failing=ids[:1]) == {ids[0]: 1} | dict.fromkeys(ids[1:], 4)
    few = Share(each=4, of_one=plenty, further=plenty, failing=2)
    assert sorted((await leased(few, failing=ids)).values()) == [1, 1]
    firsts = Share(each=4, of_one=plenty, further=3, failing=plenty)
    assert sorted((await leased(firsts, failing=[])).values(), reverse=True)[-1] == 1
    assert sum((await leased(firsts, failing=[])).values()) == 4 + 3
    assert await leased(Share(each=4, of_one=4, further=plenty, failing=plenty), failing=[]) == dict.fromkeys(ids, 1)
