"""What happens to charges reaches a merchant's endpoint: signed, in order, at least once, whatever either side goes through."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import get_args

from kinpay.charges.reconcile import commit_retry
from kinpay.charges.refund import refund_charge
from kinpay.notifications.deliver import CHARGE_TOPICS
from kinpay.providers.contract import FailureCause
from kinpay.webhooks import bodies, manage
from kinpay.webhooks.announce import tasks
from kinpay.webhooks.endpoint import TOLD
from kinpay.worker.tasks import Message
from tests.webhooks.conftest import Canteen, Open, types, verify
from tests.webhooks.consumer import answer

SEEN_BY_A_TILL = {
    "id", "state", "amount_minor", "currency", "captured_minor", "refunded_minor", "merchant_id", "terminal_id", "method",
    "decided_at", "hold_expires_at", "finished_at", "reference", "late", "refusal", "items", "refund", "fare_minor", "due_on",
}  # fmt: skip


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
