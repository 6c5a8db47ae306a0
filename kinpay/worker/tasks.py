"""What a message of the outbox asks for: a topic's function, given by whoever assembles the house."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kinpay.database.sql import Connection, Sql
from kinpay.primitives.errors import KinpayError


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One row of the outbox, leased to us. `attempt` counts from 1; `fence` names this lease."""

    id: int
    lane: str
    topic: str
    subject_id: str
    body: Mapping[str, Any]
    created_at: datetime
    attempt: int
    fence: int


Task = Callable[[Message], Awaitable[None]]
"""Does what the message asks for; doing it twice is the same as once. Returning is success, any exception means again."""

Tasks = Mapping[str, Task]
"""Topic → function. A topic ending in `.*` serves all that begin with what stands before the star."""


class TopicUnknown(KinpayError):
    """No function for this topic in this process; a newer one may have it."""

    code = "topic-unknown"


class LeaseLost(KinpayError):
    """Another worker has this message now: whatever was about to be written must not be."""

    code = "lease-lost"


def find(tasks: Tasks, topic: str) -> Task:
    """The function for `topic`. Raises: TopicUnknown."""
    task = tasks.get(topic) or tasks.get(topic.partition(".")[0] + ".*")
    if task is None:
        raise TopicUnknown(topic=topic)
    return task


HOLD = Sql("""
    SELECT 1 FROM outbox WHERE id = :id AND fence = :fence AND done_at IS NULL AND dead_at IS NULL FOR UPDATE
""")


async def hold(conn: Connection, message: Message) -> None:
    """Makes a task's own transaction depend on its lease: until it ends, nobody else can take the message.

    Raises: LeaseLost.
    """
    if await HOLD.value(conn, id=message.id, fence=message.fence) is None:
        raise LeaseLost(message=message.id)
