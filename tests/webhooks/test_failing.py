"""Endpoints that fail, hang, are gone or lead elsewhere, and senders that die: nothing is lost, and nobody else waits."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from kinpay.primitives.errors import WrongState
from kinpay.webhooks import log, manage
from kinpay.webhooks.delivery import RETRY_AFTER, message_id, retry_after
from kinpay.webhooks.send import SendingPace
from tests.webhooks.conftest import Canteen, Open, types
from tests.webhooks.consumer import Consumer, Heard, answer, drip, hang


def test_the_schedule_lasts_three_days() -> None:
    assert sum(RETRY_AFTER, timedelta(0)) >= timedelta(days=3)
    assert retry_after(1, jitter=0) == timedelta(seconds=5)
    assert retry_after(len(RETRY_AFTER) + 1, jitter=0) is None
    assert all(pause <= (retry_after(n, jitter=0.99) or pause) < pause * 1.1 for n, pause in enumerate(RETRY_AFTER, 1))


async def test_what_is_never_taken_is_given_up_and_the_endpoint_disabled(canteen: Canteen, open_consumer: Open) -> None:
    consumer = open_consumer(answer(500, body=b"<b>no\x00</b>" * 100))
    endpoint_id = await canteen.listen(consumer)
    paid = await canteen.till.pay(canteen.family, 1400)
    await canteen.send()
    await canteen.till.refund(paid, 100)
    for pause in RETRY_AFTER:
        assert (await canteen.endpoint(endpoint_id)).enabled
        await canteen.later(pause + timedelta(seconds=1))
        assert await canteen.send() == 1
    assert len(consumer.heard) == 10
    assert len({heard.message_id for heard in consumer.heard}) == 1
    found = await canteen.endpoint(endpoint_id)
    assert (found.enabled, found.disabled_reason) == (False, "failing")
    (failed,) = await canteen.rows("SELECT id FROM webhook_delivery WHERE state = 'failed'")
    async with canteen.db.connection() as conn:
        logged, body, attempts = await log.delivery_of(conn, failed["id"], actor=canteen.office)
    assert [one.number for one in attempts] == list(range(10, 0, -1))
    assert body.encode() == consumer.heard[0].body
    assert logged.attempts == 10
    assert all(one.status == 500 and one.error == "status" and one.answer and len(one.answer) == 500 for one in attempts)
    # Switched on again, what was given up goes first, by the id of then, and what waited behind it next.
    consumer.behave = answer(200)
    async with canteen.db.transaction() as conn:
        await manage.change_endpoint(conn, endpoint_id, actor=canteen.office, change=manage.Change(enabled=True))
    await canteen.send()
    assert types(consumer)[10:] == ["charge.succeeded", "charge.refunded", "refund.succeeded"]
    assert consumer.heard[10].message_id == consumer.heard[0].message_id


async def test_one_message_that_is_never_taken_is_given_up_and_asked_for_again(canteen: Canteen, open_consumer: Open) -> None:
    well, ill = answer(204, body=b""), answer(500)
    refused: list[str] = []

    def behave(conn: socket.socket, heard: Heard) -> None:
        (ill if heard.message_id in refused else well)(conn, heard)

    consumer = open_consumer(behave)
    endpoint_id = await canteen.listen(consumer)
    await canteen.till.pay(canteen.family, 1400)
    await canteen.announce()
    (event,) = await canteen.rows("SELECT id FROM webhook_event")
    refused.append(message_id(event["id"]))
    await canteen.send()
    for pause in RETRY_AFTER:
        await canteen.later(pause + timedelta(seconds=1))
        await canteen.till.pay(canteen.family, 10)
        await canteen.send()
    assert (await canteen.endpoint(endpoint_id)).enabled, "the others were taken"
    refused.clear()
    async with canteen.db.transaction() as conn:
        early, late = canteen.now - timedelta(days=9), canteen.now
        assert await log.deliver_failed_again(conn, endpoint_id, actor=canteen.office, since=late) == 0
        assert await log.deliver_failed_again(conn, endpoint_id, actor=canteen.office, since=early) == 1
    assert await canteen.send() == 1
    assert consumer.heard[-1].message_id == consumer.heard[0].message_id


async def test_an_endpoint_that_is_gone_is_disabled_at_once(canteen: Canteen, open_consumer: Open) -> None:
    consumer = open_consumer(answer(410))
    endpoint_id = await canteen.listen(consumer)
    for amount in (100, 200, 300):
        await canteen.till.pay(canteen.family, amount)
    await canteen.announce()
    await canteen.sender(pace=SendingPace(each=1)).run_until_idle()
    assert len(consumer.heard) == 1
    found = await canteen.endpoint(endpoint_id)
    assert (found.enabled, found.disabled_reason) == (False, "gone")
    by_state = await canteen.rows("SELECT state, count(*) AS number FROM webhook_delivery GROUP BY state ORDER BY state")
    assert [(row["state"], row["number"]) for row in by_state] == [("failed", 1), ("pending", 2)], "nobody asks it again"
    (one, *_) = await canteen.rows("SELECT id FROM webhook_delivery")
    for asked in (
        lambda conn: manage.send_test(conn, endpoint_id, actor=canteen.office),
        lambda conn: log.deliver_again(conn, one["id"], actor=canteen.office),
        lambda conn: log.deliver_failed_again(conn, endpoint_id, actor=canteen.office, since=canteen.now),
    ):
        with pytest.raises(WrongState):
            async with canteen.db.transaction() as conn:
                await asked(conn)
    (told,) = await canteen.rows("SELECT kind FROM audit_event WHERE kind = 'webhook.disabled'")
    assert told


async def test_one_event_is_delivered_again_on_demand_under_its_id(canteen: Canteen, open_consumer: Open) -> None:
    consumer = open_consumer()
    await canteen.listen(consumer)
    await canteen.till.pay(canteen.family, 1400)
    await canteen.send()
    (row,) = await canteen.rows("SELECT id FROM webhook_delivery")
    async with canteen.db.transaction() as conn:
        await log.deliver_again(conn, row["id"], actor=canteen.office)
    assert await canteen.send() == 1
    assert [heard.message_id for heard in consumer.heard] == [consumer.heard[0].message_id] * 2
    assert consumer.heard[0].body == consumer.heard[1].body


async def test_a_crash_between_sending_and_recording_sends_the_same_message_again(
    canteen: Canteen, open_consumer: Open
) -> None:
    consumer = open_consumer(hang)
    await canteen.listen(consumer)
    await canteen.till.pay(canteen.family, 1400)
    await canteen.announce()
    dying = asyncio.create_task(canteen.sender().run())
    await consumer.hears()
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    consumer.behave = answer(204, body=b"")
    assert await canteen.send() == 0, "its lease must run out by itself"
    assert await canteen.rows("SELECT 1 FROM webhook_attempt") == []
    await canteen.later(timedelta(seconds=61))
    assert await canteen.send() == 1
    first, second = consumer.heard
    assert (first.message_id, first.body) == (second.message_id, second.body)
    assert [row["state"] for row in await canteen.rows("SELECT state FROM webhook_delivery")] == ["delivered"]


@pytest.mark.parametrize(("status", "state"), [(204, "delivered"), (503, "pending")])
async def test_a_sender_that_slept_past_its_lease_records_nothing(
    canteen: Canteen, open_consumer: Open, status: int, state: str
) -> None:
    consumer = open_consumer(hang)
    await canteen.listen(consumer)
    await canteen.till.pay(canteen.family, 1400)
    await canteen.announce()
    slow = asyncio.create_task(canteen.sender().run_until_idle())
    await consumer.hears()
    consumer.behave = answer(status, body=b"")
    await canteen.later(timedelta(seconds=61))
    assert await canteen.send() == 1
    await slow
    (row,) = await canteen.rows("SELECT state, attempts FROM webhook_delivery")
    assert (row["state"], row["attempts"]) == (state, 2)
    assert [one["number"] for one in await canteen.rows("SELECT number FROM webhook_attempt")] == [2]


@pytest.mark.parametrize("behave", [hang, drip])
async def test_an_endpoint_that_hangs_delays_no_other_and_holds_no_connection(
    canteen: Canteen, open_consumer: Open, behave: Callable[..., None]
) -> None:
    hanging, quick = open_consumer(behave), open_consumer()
    await canteen.listen(hanging)
    await canteen.listen(quick)
    for number in range(20):
        await canteen.till.pay(canteen.family, 100 + number)
    await canteen.announce()
    # As little as a small house would have: were a connection held while sending, the quick one would starve.
    sender = canteen.sender(pace=SendingPace(at_once=8, each=4, poll_s=0.05))
    running = asyncio.create_task(sender.run())
    began = time.monotonic()
    while len(quick.heard) < 20:
        assert time.monotonic() - began < 1.5, "the quick one waits for the hanging one"
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.4)
    assert len(hanging.heard) <= 4
    async with canteen.db.connection() as conn:
        held = await conn.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND clock_timestamp() - xact_start > interval '300 ms'"
        )
    assert held == 0
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_time_out_is_a_failure_of_the_attempt_only(canteen: Canteen, open_consumer: Open) -> None:
    consumer = open_consumer(hang)
    await canteen.listen(consumer)
    await canteen.till.pay(canteen.family, 1400)
    await canteen.send()
    (attempt,) = await canteen.rows("SELECT status, error, duration_ms FROM webhook_attempt")
    assert (attempt["status"], attempt["error"]) == (None, "timeout")
    assert 1_900 < attempt["duration_ms"] < 4_000
    consumer.behave = answer(204, body=b"")
    await canteen.later(timedelta(seconds=9))
    assert await canteen.send() == 1


async def test_a_redirect_is_a_failure(canteen: Canteen, open_consumer: Open) -> None:
    elsewhere = open_consumer()
    await canteen.listen(open_consumer(answer(307, headers=f"location: {elsewhere.url}\r\n")))
    await canteen.till.pay(canteen.family, 1400)
    await canteen.send()
    (attempt,) = await canteen.rows("SELECT status, error FROM webhook_attempt")
    assert (attempt["status"], attempt["error"], elsewhere.heard) == (307, "redirect", [])


async def test_an_endpoint_that_turns_inward_gets_nothing(canteen: Canteen) -> None:
    """However its address came into the table."""
    endpoint_id = await canteen.listen(Consumer(), url="https://10.0.0.1/")
    await canteen.till.pay(canteen.family, 1400)
    await canteen.send()
    (attempt,) = await canteen.rows("SELECT status, error FROM webhook_attempt")
    assert (attempt["status"], attempt["error"]) == (None, "no_public_address")
    assert (await canteen.endpoint(endpoint_id)).failing_since is not None
