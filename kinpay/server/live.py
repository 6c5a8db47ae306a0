"""What happens to a person, as it happens: `GET /v1/live`, server-sent events.

A notice is a row first and an event second: whoever missed the stream finds it in the list, and whoever comes back names the
last one they saw. Source: HTML Living Standard, "Server-sent events".
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse

from kinpay.database.pool import Database
from kinpay.database.sql import Sql
from kinpay.primitives.actor import Actor, person_of
from kinpay.primitives.errors import Busy, Invalid, TooMany
from kinpay.primitives.ids import is_id
from kinpay.server.auth import token_of

CHANNEL: Final = "notice"
"""Where whoever writes a notice says so; the payload is the person's id."""
LOOK_EVERY_S: Final = 3.0
HEARTBEAT_S: Final = 15.0
MAX_STREAMS: Final = 8
MAX_AT_ONCE: Final = 100
_OVERLAP_MS: Final = 10_000
_SIGNED_OUT: Final = b"event: signed-out\ndata: {}\n\n"

SignedIn = Callable[[str], Awaitable[Actor | None]]

NEWER = Sql("""
    SELECT id, kind, subject_id, body, created_at FROM notice
    WHERE person_id = :person_id AND id > :after ORDER BY id LIMIT :at_most
""")
NEWEST = Sql("SELECT id FROM notice WHERE person_id = :person_id ORDER BY id DESC LIMIT 1")


class NoticeBoard:
    """Who is waiting for notices in this process."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self.closed = False

    def heard(self, person_id: str) -> None:
        """Wakes that person's streams; all of them for "". For `Listener.on(CHANNEL, …)`."""
        several = [self._waiting.get(person_id, set())] if person_id else list(self._waiting.values())
        for events in several:
            for event in events:
                event.set()

    @property
    def streams(self) -> int:
        """How many streams are open in this process."""
        return sum(map(len, self._waiting.values()))

    def close(self) -> None:
        """Ends every stream; their people come back to another process."""
        self.closed = True
        self.heard("")

    def check_room(self, person_id: str) -> None:
        """Raises: TooMany if that person has as many streams here as anybody may."""
        if len(self._waiting.get(person_id, ())) >= MAX_STREAMS:
            raise TooMany(retry_after_s=int(HEARTBEAT_S))

    @contextmanager
    def waiting(self, person_id: str) -> Iterator[asyncio.Event]:
        """An event that is set when there may be something for that person."""
        events = self._waiting.setdefault(person_id, set())
        event = asyncio.Event()
        events.add(event)
        try:
            yield event
        finally:
            events.discard(event)
            if not events:
                self._waiting.pop(person_id, None)


def router(db: Database, *, board: NoticeBoard, signed_in: SignedIn) -> APIRouter:
    """`GET /v1/live`."""
    routes = APIRouter(tags=["notices"])

    @routes.get(
        "/v1/live",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "Events `notice`."}},
    )
    async def live(request: Request, last_event_id: Annotated[str | None, Header()] = None) -> StreamingResponse:
        """The asking person's notices from now on, or from the one named by `Last-Event-ID`; ends when they sign out."""
        actor = person_of(request.state)
        board.check_room(actor.id)
        if last_event_id is not None and not is_id(last_event_id):
            raise Invalid("not_an_id", field="Last-Event-ID")
        token = token_of(request.headers["authorization"].encode("latin-1"))
        after = last_event_id or await _newest(db, actor.id)
        stream = Stream(db, actor.id, after=after, still_there=lambda: _is_still(signed_in, token, actor.id))
        events = stream.events(board)
        return StreamingResponse(events, media_type="text/event-stream", headers={"x-accel-buffering": "no"})

    return routes


async def _is_still(signed_in: SignedIn, token: str, person_id: str) -> bool:
    actor = await signed_in(token)
    return actor is not None and actor.id == person_id


async def _newest(db: Database, person_id: str) -> str:
    async with db.connection() as conn:
        newest: str | None = await NEWEST.value(conn, person_id=person_id)
    return newest or "0" * 32


class Stream:
    """One person's events from one point on. Ids are sorted by the clock of whoever made them, so that one committed late
    may have an earlier id than one already told: each look therefore goes back a little, and skips what it told before."""

    def __init__(self, db: Database, person_id: str, *, after: str, still_there: Callable[[], Awaitable[bool]]) -> None:
        self._db = db
        self._person_id = person_id
        self._start = self._after = after
        self._told: set[str] = set()
        self._still_there = still_there

    async def events(self, board: NoticeBoard) -> AsyncIterator[bytes]:
        """Events, and a heartbeat where nothing happens; until sign-out or the end of this process."""
        yield b"retry: 2000\n\n"
        spoke_at = time.monotonic()
        with board.waiting(self._person_id) as rung:
            while not board.closed:
                rung.clear()
                parts = await self._look()
                if not parts and time.monotonic() - spoke_at >= HEARTBEAT_S:
                    parts = [b": alive\n\n"]
                for part in parts:
                    yield part
                    spoke_at = time.monotonic()
                if parts == [_SIGNED_OUT]:
                    return
                if len(parts) < MAX_AT_ONCE:
                    await _rest(rung)

    async def _look(self) -> list[bytes]:
        """What there is to say now; nothing while the database is away."""
        try:
            if not await self._still_there():
                return [_SIGNED_OUT]
            return [_event(row) for row in await self._fresh()]
        except Busy:
            return []

    async def _fresh(self) -> list[Any]:
        async with self._db.connection() as conn:
            rows = await NEWER.rows(conn, person_id=self._person_id, after=self._after, at_most=MAX_AT_ONCE + len(self._told))
        fresh = [row for row in rows if row["id"] not in self._told][:MAX_AT_ONCE]
        self._told.update(row["id"] for row in fresh)
        if fresh:
            self._after = max(self._start, _a_little_before(fresh[-1]["id"]))
            self._told = {known for known in self._told if known > self._after}
        return fresh


async def _rest(rung: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(LOOK_EVERY_S):
            await rung.wait()
    except TimeoutError:
        pass


def _a_little_before(notice_id: str) -> str:
    """The smallest id of some seconds earlier (the first twelve digits of an id are its millisecond)."""
    return f"{max(0, int(notice_id[:12], 16) - _OVERLAP_MS):012x}{'0' * 20}"


def _event(row: Any) -> bytes:
    told: dict[str, Any] = row["body"]
    data = {
        "id": row["id"],
        "kind": row["kind"],
        "subject_id": row["subject_id"],
        "title": told["title"],
        "text": told["text"],
        "facts": told["facts"],
        "created_at": row["created_at"],
    }
    notice_id: str = row["id"]
    return b"id: " + notice_id.encode() + b"\nevent: notice\ndata: " + msgspec.json.encode(data) + b"\n\n"
