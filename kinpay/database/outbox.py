"""What has to happen after a commit, written with it: telling people, calling providers, commanding terminals."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from kinpay.database.sql import Connection, Sql

ENQUEUE = Sql("""
    INSERT INTO outbox (lane, topic, subject_id, body, created_at, available_at)
    VALUES (:lane, :topic, :subject_id, :body, :now, :available_at)
""")
WAKE = Sql("SELECT pg_notify('outbox', '')")


async def enqueue(
    conn: Connection,
    topic: str,
    *,
    lane: str,
    subject_id: str,
    now: datetime,
    body: dict[str, Any] | None = None,
    delay: timedelta = timedelta(0),
) -> None:
    """Adds a message for the worker (`worker/tasks.py` maps topics to functions); delivered at least once, after commit.

    `lane` is the circle, operator or person concerned; messages of one lane are delivered in order.
    """
    await ENQUEUE.run(conn, lane=lane, topic=topic, subject_id=subject_id, body=body or {}, now=now, available_at=now + delay)
    await WAKE.value(conn)
