"""From a message of the outbox to the event it means, with one delivery for each endpoint that wants to hear of it.

Written in one transaction under the number of its cause, so that a message that is delivered again makes no second event.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Final, Protocol

import msgspec

from kinpay.charges.answer import told
from kinpay.charges.request import Charge
from kinpay.charges.store import read_charges
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection, Sql
from kinpay.primitives.errors import NotFound
from kinpay.primitives.ids import new_id
from kinpay.webhooks.endpoint import TOLD, EventType


class Posted(Protocol):
    """A message of the outbox as it is needed here."""

    @property
    def id(self) -> int: ...
    @property
    def topic(self) -> str: ...
    @property
    def subject_id(self) -> str: ...
    @property
    def body(self) -> Mapping[str, Any]: ...
    @property
    def created_at(self) -> datetime: ...


class _Cause(msgspec.Struct, frozen=True):
    """A message of the outbox that was read here."""

    id: int
    topic: str
    subject_id: str
    body: dict[str, Any]
    created_at: datetime


TOPICS: Final = frozenset(kind.value for kind in TOLD)
_OF_REFUNDS: Final = frozenset({EventType.REFUND_SUCCEEDED.value, EventType.REFUND_FAILED.value})


def tasks(db: Database) -> dict[str, Callable[[Posted], Awaitable[None]]]:
    """Topic → function, for the worker: every topic that merchants can be told of."""

    async def tell(posted: Posted) -> None:
        await announce(db, posted)

    return dict.fromkeys(sorted(TOPICS), tell)


async def announce(db: Database, posted: Posted) -> int:
    """Makes the event of a message, and those of earlier messages about the same charge that nobody has come to yet.

    Returns how many deliveries are new. Raises: NotFound for a charge that is not ours, which a later attempt may find.
    """
    charge_id = _charge_of(posted)
    async with db.transaction() as conn:
        if not await LISTENED.value(conn, charge_id=charge_id):
            return 0
        charge = (await read_charges(conn, [charge_id])).get(charge_id)
        if charge is None:
            raise NotFound()
        causes: list[Posted] = [*await _earlier(conn, posted, charge), posted]
        return sum([await _write(conn, cause, charge) for cause in causes])


def _charge_of(posted: Posted) -> str:
    charge_id: str = posted.body["charge_id"] if posted.topic in _OF_REFUNDS else posted.subject_id
    return charge_id


# Asked first, as most merchants of most operators listen to nothing. What was disabled by itself, and not by anybody, misses
# nothing: it is written down until the endpoint is switched on or removed, and forgotten when it is as old as everything else.
LISTENED = Sql("""
    SELECT EXISTS (
        SELECT 1 FROM charge c
        JOIN webhook_endpoint e ON e.operator_id = c.operator_id AND (e.merchant_id IS NULL OR e.merchant_id = c.merchant_id)
        WHERE c.id = :charge_id AND (e.enabled OR e.disabled_reason IN ('gone', 'failing')))
""")
REFUNDED = Sql("SELECT EXISTS (SELECT 1 FROM refund WHERE charge_id = :charge_id)")
EARLIER = Sql("""
    SELECT id, topic, subject_id, body, created_at FROM outbox
    WHERE id < :id AND done_at IS NULL AND dead_at IS NULL AND topic = ANY(:topics)
      AND (subject_id = :charge_id OR body ->> 'charge_id' = :charge_text)
    ORDER BY id
""")


async def _earlier(conn: Connection, posted: Posted, charge: Charge) -> list[_Cause]:
    """Messages of charges come in order, and so do those of refunds; but one kind may overtake the other."""
    if not await REFUNDED.value(conn, charge_id=charge.id):
        return []
    rows = await EARLIER.rows(conn, id=posted.id, topics=sorted(TOPICS), charge_id=charge.id, charge_text=charge.id)
    return [_Cause(**row) for row in rows]


LISTENERS = Sql("""
    SELECT id FROM webhook_endpoint
    WHERE operator_id = :operator_id AND (merchant_id IS NULL OR merchant_id = :merchant_id)
      AND (enabled OR disabled_reason IN ('gone', 'failing')) AND :type = ANY(types)
    ORDER BY id
""")
# Behind what is not delivered yet of the same charge, an event is not due before that is.
WRITE = Sql("""
    WITH event AS (
        INSERT INTO webhook_event (id, operator_id, merchant_id, outbox_id, type, subject_id, body, created_at)
        VALUES (:event_id, :operator_id, :merchant_id, :outbox_id, :type, :subject_id, :body, :now)
        ON CONFLICT (outbox_id) DO NOTHING RETURNING id
    ), written AS (
        INSERT INTO webhook_delivery (id, event_id, endpoint_id, subject_id, seq, state, next_attempt_at, created_at)
        SELECT n.id, e.id, n.endpoint_id, :subject_id, coalesce(:outbox_id::bigint, 0), 'pending',
               greatest(:now, (SELECT max(p.next_attempt_at) FROM webhook_delivery p
                               WHERE p.endpoint_id = n.endpoint_id AND p.subject_id = :subject_id AND p.state = 'pending')),
               :now
        FROM event e, unnest(:ids::uuid[], :endpoints::uuid[]) AS n (id, endpoint_id)
        RETURNING 1
    )
    SELECT count(*), pg_notify('webhook', '') FROM written
""")


async def _write(conn: Connection, cause: Posted, charge: Charge) -> int:
    data = await _data(conn, cause, charge)
    if data is None:
        return 0
    wanted = {"operator_id": charge.operator_id, "merchant_id": charge.merchant_id, "type": cause.topic}
    endpoints = [row["id"] for row in await LISTENERS.rows(conn, **wanted)]
    if not endpoints:
        return 0
    written: int = await WRITE.value(
        conn,
        event_id=new_id(),
        **wanted,
        outbox_id=cause.id,
        subject_id=charge.id,
        body=payload(cause.topic, cause.created_at, data),
        now=await database_now(conn),
        ids=[new_id() for _ in endpoints],
        endpoints=endpoints,
    )
    return written


def payload(kind: str, at: datetime, data: Mapping[str, Any]) -> str:
    """A message's body as it is kept, signed and sent: `at` is the moment of the cause."""
    return msgspec.json.encode({"type": kind, "timestamp": at, "data": data}).decode()


REFUND = Sql("SELECT amount_minor, state, reason FROM refund WHERE id = :refund_id")


async def _data(conn: Connection, cause: Posted, charge: Charge) -> dict[str, Any] | None:
    """What a till sees of the charge, and of the refund if it is about one; None where there is nothing to tell a merchant."""
    if cause.topic == EventType.CHARGE_HELD and charge.capture_at_once:
        return None
    data: dict[str, Any] = msgspec.to_builtins(told(charge, to_circle=False))
    if cause.topic == EventType.CHARGE_REFUNDED:
        data["refund"] = {"amount_minor": cause.body["amount_minor"]}
    if cause.topic in _OF_REFUNDS:
        refund = await REFUND.row(conn, refund_id=cause.subject_id)
        if refund is None or refund["reason"] == "surplus":
            return None  # A surplus is between the payer and the provider.
        data["refund"] = {"id": cause.subject_id, "amount_minor": refund["amount_minor"], "state": refund["state"]}
    return data


async def announce_test(conn: Connection, *, endpoint_id: str, operator_id: str, merchant_id: str | None) -> str:
    """Makes a test event for one endpoint alone; returns its id."""
    event_id, now = new_id(), await database_now(conn)
    await WRITE.value(
        conn,
        event_id=event_id,
        operator_id=operator_id,
        merchant_id=merchant_id,
        type=EventType.TEST.value,
        outbox_id=None,
        subject_id=event_id,
        body=payload(EventType.TEST.value, now, {"endpoint_id": endpoint_id}),
        now=now,
        ids=[new_id()],
        endpoints=[endpoint_id],
    )
    return event_id
