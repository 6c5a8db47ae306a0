"""Endpoints' secrets: sealed, replaced with an overlap, and nothing of them is left once the endpoint is gone."""

from __future__ import annotations

from datetime import timedelta

import pytest
from standardwebhooks.webhooks import Webhook

from kinpay.database.pool import Database
from kinpay.primitives.errors import NotFound, TooMany
from kinpay.primitives.server_keys import ServerKeys
from kinpay.webhooks import manage
from kinpay.webhooks.secret import MAX_SECRETS, seal_anew
from kinpay.webhooks.signature import secret_text
from kinpay.webhooks.store import forget_events
from tests.webhooks.conftest import Canteen, Open, verify


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
