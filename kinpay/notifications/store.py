"""How notices are kept, once for each person and cause, and read again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kinpay.database.sql import Connection, Record, Sql
from kinpay.notifications.message import Notice, NoticeKind, Posted, Recipient, Words
from kinpay.primitives.errors import NotFound
from kinpay.primitives.ids import new_id

# Whoever is not verified, is gone, or has no device of their own is told nothing.
RECIPIENTS = Sql("""
    SELECT p.id, p.locale, o.time_zone FROM person p JOIN operator o ON o.id = p.operator_id
    WHERE p.id = ANY(:ids) AND p.state = 'active' AND NOT p.assisted ORDER BY p.id
""")


async def recipients(conn: Connection, ids: Iterable[str]) -> list[Recipient]:
    """Those of `ids` who may be told something."""
    return [Recipient(**row) for row in await RECIPIENTS.rows(conn, ids=sorted(set(ids)))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressed:
    """What one person is to be told."""

    recipient: Recipient
    words: Words
    facts: dict[str, Any]


# Their live streams are woken when this commits; the payload is the person, so that nothing is said on the channel.
WRITE = Sql("""
    WITH written AS (
        INSERT INTO notice (id, person_id, outbox_id, kind, subject_id, body, created_at)
        SELECT id, person_id, :outbox_id, :kind, :subject_id, body, :created_at
        FROM unnest(:ids::uuid[], :people::uuid[], :bodies::jsonb[]) AS n (id, person_id, body)
        ON CONFLICT (outbox_id, person_id, kind) DO NOTHING
        RETURNING person_id
    )
    SELECT pg_notify('notice', replace(person_id::text, '-', '')) FROM written
""")


async def write_notices(conn: Connection, posted: Posted, kind: NoticeKind, addressed: Sequence[Addressed]) -> int:
    """Keeps one notice a person and wakes their streams; returns how many are new. Written before: left as it is."""
    rows = await WRITE.rows(
        conn,
        outbox_id=posted.id,
        kind=kind.value,
        subject_id=posted.subject_id,
        created_at=posted.created_at,
        ids=[new_id() for _ in addressed],
        people=[one.recipient.id for one in addressed],
        bodies=[
            {"title": one.words.title, "text": one.words.text, "locale": one.recipient.locale, "facts": one.facts}
            for one in addressed
        ],
    )
    return len(rows)


PAGE = Sql("""
    SELECT id, kind, subject_id, body, created_at, read_at FROM notice
    WHERE person_id = :person_id AND (:after::uuid IS NULL OR id < :after) AND (NOT :unread OR read_at IS NULL)
    ORDER BY id DESC LIMIT :at_most
""")


async def notices_of(conn: Connection, person_id: str, *, after: str | None, limit: int, unread: bool) -> list[Notice]:
    """A page of a person's notices, newest first, from the one before `after`; with `unread` only those not read yet."""
    return [_read(row) for row in await PAGE.rows(conn, person_id=person_id, after=after, at_most=limit, unread=unread)]


# Reading twice keeps the first moment.
MARK = Sql("""
    UPDATE notice SET read_at = coalesce(read_at, kinpay_now()) WHERE id = :notice_id AND person_id = :person_id
    RETURNING id, kind, subject_id, body, created_at, read_at
""")


async def mark_read(conn: Connection, person_id: str, *, notice_id: str) -> Notice:
    """Notes that the person has read it. Raises: NotFound for another's."""
    row = await MARK.row(conn, notice_id=notice_id, person_id=person_id)
    if row is None:
        raise NotFound()
    return _read(row)


MARK_ALL = Sql("""
    UPDATE notice SET read_at = kinpay_now()
    WHERE person_id = :person_id AND read_at IS NULL AND (:up_to::uuid IS NULL OR id <= :up_to)
""")


async def mark_all_read(conn: Connection, person_id: str, *, up_to: str | None) -> int:
    """Notes that everything was read, or everything up to the one that was newest on the screen; returns how many."""
    return await MARK_ALL.run(conn, person_id=person_id, up_to=up_to)


def _read(row: Record) -> Notice:
    body = row["body"]
    return Notice(
        id=row["id"],
        kind=row["kind"],
        subject_id=row["subject_id"],
        title=body["title"],
        text=body["text"],
        facts=body["facts"],
        created_at=row["created_at"],
        read_at=row["read_at"],
    )
