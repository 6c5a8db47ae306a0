"""The log of deliveries, and asking for them again."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from kinpay.database.sql import Connection, Record, Sql
from kinpay.primitives.actor import Actor
from kinpay.primitives.errors import NotFound
from kinpay.webhooks.delivery import message_id
from kinpay.webhooks.endpoint import Attempt, Logged
from kinpay.webhooks.manage import require_enabled, see_endpoint

ATTEMPTS_SHOWN: Final = 100

PAGE = Sql("""
    SELECT d.id, d.endpoint_id, d.event_id, v.type, d.subject_id, d.state, d.attempts, d.next_attempt_at, d.created_at,
           d.finished_at, l.number, l.at, l.duration_ms, l.status, l.answer, l.error
    FROM webhook_delivery d JOIN webhook_event v ON v.id = d.event_id
    LEFT JOIN LATERAL (SELECT * FROM webhook_attempt a WHERE a.delivery_id = d.id ORDER BY a.number DESC LIMIT 1) l ON true
    WHERE d.endpoint_id = :endpoint_id AND (:after::uuid IS NULL OR d.id < :after)
      AND (:state::text IS NULL OR d.state = :state)
    ORDER BY d.id DESC LIMIT :most
""")


async def deliveries_of(
    conn: Connection, endpoint_id: str, *, actor: Actor, state: str | None, after: str | None, limit: int
) -> list[Logged]:
    """A page of an endpoint's deliveries, newest first, each with its last attempt. Raises: NotFound."""
    await see_endpoint(conn, endpoint_id, actor=actor)
    rows = await PAGE.rows(conn, endpoint_id=endpoint_id, after=after, state=state, most=limit)
    return [_logged(row) for row in rows]


def _logged(row: Record) -> Logged:
    names = ("id", "endpoint_id", "type", "subject_id", "state", "attempts", "next_attempt_at", "created_at", "finished_at")
    last = None if row["number"] is None else _attempt(row)
    return Logged(**{name: row[name] for name in names}, message_id=message_id(row["event_id"]), last=last)


def _attempt(row: Record) -> Attempt:
    return Attempt(**{name: row[name] for name in ("number", "at", "duration_ms", "status", "answer", "error")})


ONE = Sql("""
    SELECT d.id, d.endpoint_id, d.event_id, v.type, d.subject_id, d.state, d.attempts, d.next_attempt_at, d.created_at,
           d.finished_at, v.body, NULL::integer AS number
    FROM webhook_delivery d JOIN webhook_event v ON v.id = d.event_id JOIN webhook_endpoint e ON e.id = d.endpoint_id
    WHERE d.id = :id AND e.operator_id = :operator_id AND (:merchant_id::uuid IS NULL OR e.merchant_id = :merchant_id)
""")
ATTEMPTS = Sql("""
    SELECT number, at, duration_ms, status, answer, error FROM webhook_attempt
    WHERE delivery_id = :id ORDER BY number DESC LIMIT :most
""")


async def delivery_of(conn: Connection, delivery_id: str, *, actor: Actor) -> tuple[Logged, str, list[Attempt]]:
    """A delivery within the asker's reach, the body that is sent, and its attempts, newest first. Raises: NotFound."""
    row = await ONE.row(conn, id=delivery_id, operator_id=actor.operator_id, merchant_id=actor.merchant_id)
    if row is None:
        raise NotFound()
    attempts = [_attempt(one) for one in await ATTEMPTS.rows(conn, id=delivery_id, most=ATTEMPTS_SHOWN)]
    return _logged(row), row["body"], attempts


# What is under way goes on; its schedule begins anew either way.
AGAIN = Sql("""
    UPDATE webhook_delivery d
    SET state = 'pending', tries = 0, finished_at = NULL, next_attempt_at = kinpay_now()
    FROM webhook_endpoint e
    WHERE d.id = :id AND e.id = d.endpoint_id AND e.operator_id = :operator_id
      AND (:merchant_id::uuid IS NULL OR e.merchant_id = :merchant_id)
    RETURNING d.endpoint_id
""")
WAKE = Sql("SELECT pg_notify('webhook', '')")


async def deliver_again(conn: Connection, delivery_id: str, *, actor: Actor) -> None:
    """Has one delivery made again, whatever became of it, under the id that it always had.

    Raises: NotFound; WrongState while its endpoint is disabled.
    """
    endpoint_id = await AGAIN.value(conn, id=delivery_id, operator_id=actor.operator_id, merchant_id=actor.merchant_id)
    if endpoint_id is None:
        raise NotFound()
    await require_enabled(conn, endpoint_id, actor=actor, event="redeliver")
    await WAKE.value(conn)


ALL_AGAIN = Sql("""
    UPDATE webhook_delivery SET state = 'pending', tries = 0, finished_at = NULL, next_attempt_at = kinpay_now()
    WHERE endpoint_id = :endpoint_id AND state = 'failed' AND created_at >= :since
""")


async def deliver_failed_again(conn: Connection, endpoint_id: str, *, actor: Actor, since: datetime) -> int:
    """Has everything delivered again that happened since then and was given up; returns how many.

    Raises: NotFound; WrongState while the endpoint is disabled.
    """
    await require_enabled(conn, endpoint_id, actor=actor, event="redeliver")
    count = await ALL_AGAIN.run(conn, endpoint_id=endpoint_id, since=since)
    await WAKE.value(conn)
    return count
