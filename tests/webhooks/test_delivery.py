"""What happens to charges reaches a merchant's endpoint: signed, in order, at least once, whatever either side goes through."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import get_args

import pytest
from standardwebhooks.webhooks import Webhook

from kinpay.charges.reconcile import commit_retry
from kinpay.charges.refund import refund_charge
from kinpay.database.pool import Database
from kinpay.notifications.deliver import CHARGE_TOPICS
from kinpay.primitives.errors import NotFound, TooMany, WrongState
from kinpay.primitives.server_keys import ServerKeys
from kinpay.providers.contract import FailureCause
from kinpay.webhooks import bodies, log, manage
from kinpay.webhooks.announce import tasks
from kinpay.webhooks.delivery import RETRY_AFTER, retry_after
from kinpay.webhooks.endpoint import TOLD
from kinpay.webhooks.secret import MAX_SECRETS, seal_anew
from kinpay.webhooks.send import SendingPace
from kinpay.webhooks.signature import secret_text, signature
from kinpay.webhooks.store import forget_events
from kinpay.worker.tasks import Message
from tests.webhooks.conftest import Canteen
from tests.webhooks.consumer import Consumer, Heard, answer, drip, hang

Open = Callable[..., Consumer]
SEEN_BY_A_TILL = {
    "id", "state", "amount_minor", "currency", "captured_minor", "refunded_minor", "merchant_id", "terminal_id", "method",
    "decided_at", "hold_expires_at", "finished_at", "reference", "late", "refusal", "items", "refund", "fare_minor", "due_on",
}  # fmt: skip


def types(consumer: Consumer) -> list[str]:
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


async def test_everything_that_becomes_of_charges_is_told_and_nothing_of_the_family(
    canteen: Canteen, open_consumer: Open
) -> None:
    consumer = open_consumer()
    endpoint_id = await canteen.listen(consumer)
    till, family = canteen.till, canteen.family
    paid = await till.pay(family, 1400, reference="R-7")
    await till.refund(paid, 400)
    await till.refund(paid, 100, succeeded=False)
    assert (await till.ask(family, 60_000_00)).state.value == "refused"
    await till.void(await till.ask(family, 300), reason="asked")
    declined = await till.capture(await till.ask(family, 301))
    owed = await till.capture(owed_charge := await till.ask(family, 302), delivered=True)
    assert declined is not None
    assert owed is not None
    await till.says(declined, failure=FailureCause.FUNDS)
    await till.says(owed, failure=FailureCause.FUNDS)
    async with canteen.db.transaction() as conn:
        again = await commit_retry(conn, owed_charge.id)
    assert again is not None
    await till.says(again)
    await till.says(owed)
    await canteen.send()
    told = types(consumer)
    assert set(told) == {kind.value for kind in TOLD} - {"charge.due"}, "no operator debits whole days here"
    person = [family.payer_id, family.spender_id, family.circle_id, family.mandate_id, family.agreement_id]
    for heard in consumer.heard:
        assert verify(canteen, endpoint_id, heard)
        assert set(heard.told) == {"type", "timestamp", "data"}
        assert set(heard.told["data"]) <= SEEN_BY_A_TILL
        assert not any(ident in heard.body.decode() for ident in person)
        assert heard.headers["content-type"] == "application/json"
        for reason in heard.told["data"].get("refusal", {}).get("reasons", []):
            assert set(reason) <= {"code", "resets_at"}, "how far limits are used is the family's"
    of_paid = [heard.told["type"] for heard in consumer.heard if heard.told["data"]["id"] == paid.id]
    assert of_paid == [
        "charge.succeeded", "charge.refunded", "refund.succeeded", "charge.refunded", "refund.failed",
    ], "what was captured at once was never merely held"  # fmt: skip
    assert [heard.told["data"]["refund"]["amount_minor"] for heard in consumer.heard if "refund" in heard.told["data"]]
    assert len({heard.message_id for heard in consumer.heard}) == len(consumer.heard)


async def test_a_surplus_that_goes_back_is_no_refund_of_the_merchant(canteen: Canteen, open_consumer: Open) -> None:
    consumer = open_consumer()
    await canteen.listen(consumer, types=("refund.succeeded", "charge.debited_twice"))
    till = canteen.till
    debit = await till.capture(charge := await till.ask(canteen.family, 302), delivered=True)
    assert debit is not None
    await till.says(debit, failure=FailureCause.FUNDS)
    async with canteen.db.transaction() as conn:
        again = await commit_retry(conn, charge.id)
    assert again is not None
    await till.says(again)
    await till.says(debit)
    (surplus,) = await canteen.rows("SELECT id FROM refund WHERE reason = 'surplus'")
    await till.says_of_refund(surplus["id"])
    await canteen.send()
    assert types(consumer) == ["charge.debited_twice"]


async def test_only_what_is_asked_for_and_only_to_whom_it_concerns(canteen: Canteen, open_consumer: Open) -> None:
    wide, narrow, foreign, off = (open_consumer() for _ in range(4))
    await canteen.listen(wide)
    await canteen.listen(narrow, types=("charge.voided",))
    shop, off_id = canteen.till.shop, await canteen.listen(off)
    async with canteen.db.transaction() as conn:
        await manage.change_endpoint(conn, off_id, actor=canteen.office, change=manage.Change(enabled=False))
        await conn.execute(
            "INSERT INTO merchant (id, operator_id, name, mcc, created_at)"
            " SELECT gen_random_uuid(), operator_id, 'Other', '5462', created_at FROM merchant"
        )
        other = await conn.fetchval("SELECT id FROM merchant WHERE id <> $1", shop.merchant_id)
    foreign_id = await canteen.listen(foreign)
    async with canteen.db.transaction() as conn:
        await conn.execute("UPDATE webhook_endpoint SET merchant_id = $1 WHERE id = $2", other, foreign_id)
    await canteen.till.pay(canteen.family, 1400)
    await canteen.send()
    assert (types(wide), narrow.heard, foreign.heard, off.heard) == (["charge.succeeded"], [], [], [])


async def test_without_an_endpoint_nothing_is_written(canteen: Canteen) -> None:
    await canteen.till.pay(canteen.family, 1400)
    assert await canteen.send() == 0
    assert await canteen.rows("SELECT 1 FROM webhook_event") == []


async def test_messages_of_the_outbox_that_come_again_make_no_second_event(canteen: Canteen, open_consumer: Open) -> None:
    consumer = open_consumer()
    await canteen.listen(consumer)
    paid = await canteen.till.pay(canteen.family, 1400)
    await canteen.till.refund(paid, 400)
    rows = await canteen.rows("SELECT id, lane, topic, subject_id, body, created_at FROM outbox ORDER BY id")
    every = tasks(canteen.db)
    messages = [Message(**row, attempt=1, fence=1) for row in rows]
    # All at once, many times, the last first: as workers that lost their leases would.
    await asyncio.gather(*(every[message.topic](message) for message in reversed(messages * 4)))
    await canteen.send()
    assert types(consumer) == ["charge.succeeded", "charge.refunded", "refund.succeeded"]


async def test_a_refunds_end_never_overtakes_its_beginning(canteen: Canteen, open_consumer: Open) -> None:
    """Charges and refunds are two kinds in the outbox; here the second kind is delivered and the first not yet."""
    consumer = open_consumer()
    await canteen.listen(consumer)
    paid = await canteen.till.pay(canteen.family, 1400)
    await canteen.till.refund(paid, 400)
    (row,) = await canteen.rows("SELECT id, lane, topic, subject_id, body, created_at FROM outbox WHERE topic LIKE 'refund.%'")
    await tasks(canteen.db)[row["topic"]](Message(**row, attempt=1, fence=1))
    await canteen.sender().run_until_idle()
    assert types(consumer) == ["charge.succeeded", "charge.refunded", "refund.succeeded"]
    await canteen.send()
    assert len(consumer.heard) == 3


async def test_a_consumer_that_is_down_for_six_hours_gets_everything_in_order_under_the_same_ids(
    canteen: Canteen, open_consumer: Open
) -> None:
    consumer = open_consumer(answer(503))
    endpoint_id = await canteen.listen(consumer)
    charges = []
    for step in range(12):
        if step < 6:
            charge = await canteen.till.pay(canteen.family, 1000 + step)
            charges.append(charge)
            await canteen.send()
            await canteen.till.refund(charge, 100)
        if step == 3:
            consumer.stop()  # From answering badly to not being there.
        await canteen.send()
        await canteen.later(timedelta(minutes=30))
    tried = list(consumer.heard)
    assert (await canteen.endpoint(endpoint_id)).failing_since is not None
    consumer.heard.clear()
    consumer.behave = answer(204, body=b"")
    consumer.start()
    # Nobody asks for anything: the schedule alone brings it within the next pauses.
    for _ in range(20):
        await canteen.send()
        await canteen.later(timedelta(minutes=30))
    assert len(consumer.heard) == 18, "each once: nothing lost, nothing twice"
    for charge in charges:
        of_charge = [heard.told["type"] for heard in consumer.heard if heard.told["data"]["id"] == charge.id]
        assert of_charge == ["charge.succeeded", "charge.refunded", "refund.succeeded"]
    by_id = {heard.message_id: heard for heard in consumer.heard}
    assert tried
    assert {heard.message_id for heard in tried} <= set(by_id), "the same ids as in the attempts before"
    assert all(by_id[heard.message_id].body == heard.body for heard in tried), "and the same bytes"
    assert all(verify(canteen, endpoint_id, heard) for heard in consumer.heard)
    # Never anything but the earliest of a charge while that was open.
    assert {heard.told["type"] for heard in tried} == {"charge.succeeded"}
    assert (await canteen.endpoint(endpoint_id)).failing_since is None
    assert {row["state"] for row in await canteen.rows("SELECT state FROM webhook_delivery")} == {"delivered"}


def test_what_can_be_asked_for_is_what_there_is() -> None:
    """The route's list, the types, and what is put into the outbox about charges, which people are told of, too."""
    assert set(get_args(bodies.Kind)) == {kind.value for kind in TOLD} == set(CHARGE_TOPICS)


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
    # Switched on again, what was still open goes; and what was given up if it is asked for, by the ids of then.
    consumer.behave = answer(200)
    async with canteen.db.transaction() as conn:
        await manage.change_endpoint(conn, endpoint_id, actor=canteen.office, change=manage.Change(enabled=True))
    await canteen.send()
    assert types(consumer)[10:] == ["charge.refunded", "refund.succeeded"]
    async with canteen.db.transaction() as conn:
        early, late = canteen.now - timedelta(days=9), canteen.now
        assert await log.deliver_failed_again(conn, endpoint_id, actor=canteen.office, since=late) == 0
        assert await log.deliver_failed_again(conn, endpoint_id, actor=canteen.office, since=early) == 1
    await canteen.send()
    assert consumer.heard[-1].message_id == consumer.heard[0].message_id
    assert len(consumer.heard) == 13


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
    with pytest.raises(WrongState):
        async with canteen.db.transaction() as conn:
            await manage.send_test(conn, endpoint_id, actor=canteen.office)
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


# ----------------------------------------------------------------------------------------------------- secrets, tests


async def test_while_secrets_overlap_both_verify_and_then_only_the_new_one(canteen: Canteen, open_consumer: Open) -> None:
    consumer = open_consumer()
    endpoint_id = await canteen.listen(consumer)
    old = canteen.secrets[endpoint_id]
    async with canteen.db.transaction() as conn:
        new, until = await manage.rotate_secret(
            conn, canteen.keys, endpoint_id, actor=canteen.office, overlap=timedelta(hours=1)
        )
    assert until > canteen.now + timedelta(minutes=59)
    signed_by: list[list[bool]] = []
    for pause in (timedelta(0), timedelta(hours=2)):
        await canteen.later(pause)
        await canteen.till.pay(canteen.family, 1400)
        await canteen.send()
        given = consumer.heard[-1].headers["webhook-signature"].split(" ")
        known = []
        for secret in (new, old):
            canteen.secrets[endpoint_id] = secret
            known.append(verify(canteen, endpoint_id, consumer.heard[-1]))
        signed_by.append(known)
        assert len(given) == sum(known)
    assert signed_by == [[True, True], [True, False]]


async def test_a_known_secret_stops_signing_at_once_and_too_many_are_refused(canteen: Canteen, open_consumer: Open) -> None:
    endpoint_id = await canteen.listen(open_consumer())
    async with canteen.db.transaction() as conn:
        for _ in range(MAX_SECRETS - 1):
            await manage.rotate_secret(conn, canteen.keys, endpoint_id, actor=canteen.office, overlap=timedelta(hours=1))
        with pytest.raises(TooMany):
            await manage.rotate_secret(conn, canteen.keys, endpoint_id, actor=canteen.office, overlap=timedelta(hours=1))
        await manage.rotate_secret(conn, canteen.keys, endpoint_id, actor=canteen.office, overlap=timedelta(0))
    live = "SELECT 1 FROM webhook_secret WHERE expires_at IS NULL OR expires_at > kinpay_now()"
    assert len(await canteen.rows(live)) == 1


async def test_the_reference_library_takes_a_message_off_the_wire(db: Database, canteen: Canteen, open_consumer: Open) -> None:
    """At the present time, which its tolerance asks for; by way of a test message."""
    consumer = open_consumer()
    endpoint_id = await canteen.listen(consumer, types=("charge.voided",))
    async with db.connection() as conn:
        await canteen.till.at(await conn.fetchval("SELECT clock_timestamp()"))
    async with db.transaction() as conn:
        event_id = await manage.send_test(conn, endpoint_id, actor=canteen.office)
    await canteen.send()
    (heard,) = consumer.heard
    told = Webhook(secret_text(canteen.secrets[endpoint_id])).verify(heard.body, heard.headers)
    assert (told["type"], told["data"]) == ("test", {"endpoint_id": endpoint_id})
    assert heard.message_id == f"msg_{event_id}"


async def test_secrets_are_sealed_and_sealed_anew_after_a_rotation_of_the_servers(
    canteen: Canteen, open_consumer: Open
) -> None:
    consumer = open_consumer()
    endpoint_id = await canteen.listen(consumer)
    (kept,) = await canteen.rows("SELECT sealed FROM webhook_secret")
    assert canteen.secrets[endpoint_id].open() not in kept["sealed"]
    old, new = bytes(range(32)), bytes(reversed(range(32)))
    both = ServerKeys.of([new, old])
    assert await seal_anew(canteen.db, both) == 1
    assert await seal_anew(canteen.db, both) == 0
    canteen.keys = ServerKeys.of([new])
    await canteen.till.pay(canteen.family, 1400)
    await canteen.send()
    assert verify(canteen, endpoint_id, consumer.heard[0])


async def test_what_is_removed_or_old_leaves_nothing_behind(canteen: Canteen, open_consumer: Open) -> None:
    consumer = open_consumer()
    endpoint_id = await canteen.listen(consumer)
    await canteen.listen(consumer)
    await canteen.till.pay(canteen.family, 1400)
    await canteen.send()
    stranger = canteen.office.__class__(canteen.office.kind, "0" * 32, "0" * 32)
    for actor, raises in ((stranger, True), (canteen.office, False)):
        async with canteen.db.transaction() as conn:
            if raises:
                with pytest.raises(NotFound):
                    await manage.delete_endpoint(conn, endpoint_id, actor=actor)
            else:
                await manage.delete_endpoint(conn, endpoint_id, actor=actor)
    assert len(await canteen.rows("SELECT 1 FROM webhook_delivery")) == 1
    assert len(await canteen.rows("SELECT 1 FROM webhook_secret")) == 1
    await canteen.later(timedelta(days=31))
    assert await forget_events(canteen.db, kept=timedelta(days=30), at_once=1) == 1
    for table in ("webhook_event", "webhook_delivery", "webhook_attempt"):
        assert await canteen.rows(f"SELECT 1 FROM {table}") == []


async def test_a_refund_asked_for_by_a_back_office_is_told_like_any_other(canteen: Canteen, open_consumer: Open) -> None:
    consumer = open_consumer()
    await canteen.listen(consumer, types=("charge.refunded",))
    paid = await canteen.till.pay(canteen.family, 1400)
    async with canteen.db.transaction() as conn:
        await refund_charge(conn, paid.id, amount_minor=250, actor_id=canteen.office.id)
    await canteen.send()
    (heard,) = consumer.heard
    assert heard.told["data"]["refund"] == {"amount_minor": 250}
    assert heard.told["data"]["refunded_minor"] == 250
