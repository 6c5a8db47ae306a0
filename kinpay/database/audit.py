"""The audit log: one hash chain a lane (a circle, an operator, a person without a circle). It is the event log, too:
every move of a life cycle is an event here, written in the transaction that makes it.

Source: semantics.md "Concurrency"; architecture.md §4.3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import msgspec

from kinpay.database.sql import Connection, Sql

GENESIS: Final = bytes(32)
_encoder = msgspec.json.Encoder(order="sorted")


class Event(msgspec.Struct, frozen=True, gc=False):
    """What happened to `subject_id`. `kind` is `<thing>.<event>`; `body` holds plain JSON values, no names of people."""

    kind: str
    subject_id: str
    body: dict[str, Any] | msgspec.Struct
    actor_id: str | None = None


class Link(msgspec.Struct, frozen=True, gc=False):
    """An event in its place in a lane's chain; `body` is canonical JSON exactly as hashed."""

    lane: str
    seq: int
    at: datetime
    kind: str
    subject_id: str
    actor_id: str | None
    body: str
    hash: bytes


class Head(msgspec.Struct, frozen=True, gc=False):
    """The end of a lane's chain."""

    seq: int
    hash: bytes


def link_hash(
    previous: bytes, *, lane: str, seq: int, at: datetime, kind: str, subject_id: str, actor_id: str | None, body: str
) -> bytes:
    """SHA-256 over the previous hash and every column of the row; `at` to the microsecond in UTC."""
    text = f"{lane}\n{seq}\n{_written(at)}\n{kind}\n{subject_id}\n{actor_id or ''}\n{body}"
    return hashlib.sha256(previous + text.encode()).digest()


@lru_cache(maxsize=64)  # the events of one batch share their moment
def _written(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def chain(lane: str, head: Head, events: Iterable[Event], *, at: datetime) -> tuple[list[Link], Head]:
    """Appends `events` to a lane whose end is `head`; pure. Returns the new links and the new end."""
    links: list[Link] = []
    seq, last = head.seq, head.hash
    for event in events:
        seq += 1
        body = _encoder.encode(event.body).decode()
        last = link_hash(
            last,
            lane=lane,
            seq=seq,
            at=at,
            kind=event.kind,
            subject_id=event.subject_id,
            actor_id=event.actor_id,
            body=body,
        )
        links.append(Link(lane, seq, at, event.kind, event.subject_id, event.actor_id, body, last))
    return links, Head(seq, last)


OPEN_LANE = Sql("INSERT INTO audit_lane (id, hash) VALUES (:lane, :genesis) ON CONFLICT DO NOTHING")
LOCK_LANE = Sql("SELECT seq, hash FROM audit_lane WHERE id = :lane FOR UPDATE")


async def lock_head(conn: Connection, lane: str) -> Head:
    """Locks the lane to the end of the transaction and returns its end; opens it if it is new."""
    row = await LOCK_LANE.row(conn, lane=lane)
    if row is None:
        await OPEN_LANE.run(conn, lane=lane, genesis=GENESIS)
        row = await LOCK_LANE.row(conn, lane=lane)
    assert row is not None
    return Head(row["seq"], row["hash"])


WRITE_LINKS = Sql("""
    WITH written AS (
        INSERT INTO audit_event (lane, seq, at, kind, subject_id, actor_id, body, hash)
        SELECT * FROM unnest(:lanes::uuid[], :seqs::bigint[], :ats::timestamptz[], :kinds::text[], :subjects::uuid[],
                             :actors::uuid[], :bodies::text[], :hashes::bytea[]))
    UPDATE audit_lane l SET seq = h.seq, hash = h.hash
    FROM (SELECT DISTINCT ON (lane) lane, seq, hash
          FROM unnest(:lanes::uuid[], :seqs::bigint[], :hashes::bytea[]) AS n (lane, seq, hash)
          ORDER BY lane, seq DESC) h
    WHERE l.id = h.lane
""")


async def write_links(conn: Connection, links: Sequence[Link]) -> None:
    """Writes links whose lanes are locked, and moves the ends of those lanes."""
    await WRITE_LINKS.run(
        conn,
        lanes=[link.lane for link in links],
        seqs=[link.seq for link in links],
        ats=[link.at for link in links],
        kinds=[link.kind for link in links],
        subjects=[link.subject_id for link in links],
        actors=[link.actor_id for link in links],
        bodies=[link.body for link in links],
        hashes=[link.hash for link in links],
    )


async def record(conn: Connection, lane: str, *events: Event, now: datetime) -> None:
    """Appends events to a lane inside the caller's transaction. Whoever changes a circle holds its row's lock already."""
    links, _ = chain(lane, await lock_head(conn, lane), events, at=now)
    await write_links(conn, links)
