"""A person's notices arrive as they happen, once, and stop when they sign out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest

from kinpay.database.pool import Database
from kinpay.primitives.actor import Actor, ActorKind
from kinpay.primitives.ids import new_id
from kinpay.server import live
from kinpay.server.auth import Checks
from kinpay.server.live import CHANNEL, MAX_STREAMS, NoticeBoard
from kinpay.worker.listen import Listener
from tests.server.conftest import served, small_app, terminal_check


@dataclass
class Scene:
    """A server with two signed-in people."""

    db: Database
    url: str
    board: NoticeBoard
    people: dict[str, str] = field(default_factory=dict)
    signed_out: set[str] = field(default_factory=set)

    async def notice(self, person_id: str, kind: str = "charge_succeeded") -> str:
        notice_id = new_id()
        async with self.db.transaction() as conn:
            await conn.execute(
                "INSERT INTO notice (id, person_id, outbox_id, kind, subject_id, body, created_at) "
                "VALUES ($1, $2, (random() * 1e15)::bigint, $3, $2, $4, kinpay_now())",
                notice_id,
                person_id,
                kind,
                {"title": "付款", "text": "14.00", "facts": {"amount_minor": 1400}},
            )
            await conn.execute("SELECT pg_notify($1, $2)", CHANNEL, person_id)
        return notice_id


@pytest.fixture
async def scene(db: Database) -> AsyncIterator[Scene]:
    board = NoticeBoard()
    here = Scene(db, "", board)
    operator_id = new_id()
    async with db.transaction() as conn:
        await conn.execute("INSERT INTO operator VALUES ($1, 'o', 'UTC', kinpay_now())", operator_id)
        for name in ("ming", "li"):
            here.people[name] = new_id()
            await conn.execute(
                "INSERT INTO person (id, operator_id, account, display_name, locale, state, created_at) "
                "VALUES ($1, $2, $3, $3, 'zh', 'active', kinpay_now())",
                here.people[name],
                operator_id,
                name,
            )

    async def person(token: str) -> Actor | None:
        known = None if token in here.signed_out else here.people.get(token)
        return Actor(ActorKind.PERSON, known, operator_id) if known else None

    listener = Listener(db)
    listener.on(CHANNEL, board.heard)
    listening = asyncio.create_task(listener.run())
    app = small_app(live.router(db, board=board, signed_in=person), checks=Checks(person, terminal_check))
    async with served(app) as (host, port):
        here.url = f"http://{host}:{port}/v1/live"
        yield here
        board.close()
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


class Stream:
    """What an EventSource would see."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._lines = answer.aiter_lines()

    async def event(self, timeout_s: float = 5.0) -> dict[str, str]:
        """The next event; comments and `retry` are passed over."""
        found: dict[str, str] = {}
        async with asyncio.timeout(timeout_s):
            async for line in self._lines:
                name, _, value = line.partition(": ")
                if name in ("id", "event", "data"):
                    found[name] = value
                elif not line and found:
                    return found
        return found


@asynccontextmanager
async def streaming(scene: Scene, who: str, **headers: str) -> AsyncIterator[Stream]:
    async with httpx.AsyncClient(timeout=10) as client:
        sent = {"authorization": f"Bearer {who}", **{name.replace("_", "-"): value for name, value in headers.items()}}
        async with client.stream("GET", scene.url, headers=sent) as answer:
            yield Stream(answer)


async def test_a_notice_arrives_at_once_and_at_nobody_else(scene: Scene) -> None:
    async with streaming(scene, "ming") as ming, streaming(scene, "li") as li:
        assert ming.answer.headers["content-type"].startswith("text/event-stream")
        await asyncio.sleep(0.3)
        to_li = await scene.notice(scene.people["li"])
        to_ming = await scene.notice(scene.people["ming"])
        seen = await ming.event(timeout_s=2)
        assert (seen["id"], seen["event"]) == (to_ming, "notice")
        assert (json.loads(seen["data"])["facts"], json.loads(seen["data"])["title"]) == ({"amount_minor": 1400}, "付款")
        assert (await li.event())["id"] == to_li


async def test_who_comes_back_hears_what_they_missed_and_nothing_twice(scene: Scene) -> None:
    before = [await scene.notice(scene.people["ming"]) for _ in range(2)]
    async with streaming(scene, "ming") as stream:
        await asyncio.sleep(0.3)
        last = await scene.notice(scene.people["ming"])
        assert (await stream.event())["id"] == last, f"not {before}"
    missed = [await scene.notice(scene.people["ming"]) for _ in range(250)]
    async with streaming(scene, "ming", last_event_id=last) as stream:
        # Ids of one millisecond have no order among themselves.
        assert [(await stream.event())["id"] for _ in missed] == sorted(missed)
        later = await scene.notice(scene.people["ming"])
        assert (await stream.event())["id"] == later


async def test_a_notice_committed_late_with_an_earlier_id_is_not_lost(scene: Scene) -> None:
    async with streaming(scene, "ming") as stream:
        await asyncio.sleep(0.3)
        async with scene.db.transaction() as conn:
            early = new_id()
            await conn.execute(
                "INSERT INTO notice (id, person_id, outbox_id, kind, subject_id, body, created_at) "
                'VALUES ($1, $2, 1, \'k\', $2, \'{"title": "t", "text": "t", "facts": {}}\', kinpay_now())',
                early,
                scene.people["ming"],
            )
            await asyncio.sleep(0.05)
            late = await scene.notice(scene.people["ming"])
            assert (await stream.event())["id"] == late
        assert (await stream.event())["id"] == early


async def test_signing_out_ends_the_stream_within_seconds(scene: Scene) -> None:
    async with streaming(scene, "ming") as stream:
        await asyncio.sleep(0.3)
        scene.signed_out.add("ming")
        assert (await stream.event(timeout_s=5))["event"] == "signed-out"
        assert await stream.event() == {}


async def test_the_end_of_the_process_ends_streams(scene: Scene) -> None:
    async with streaming(scene, "ming") as stream:
        await asyncio.sleep(0.3)
        scene.board.close()
        assert await stream.event(timeout_s=2) == {}


async def test_one_person_has_so_many_streams_and_a_bad_last_id_is_refused(scene: Scene) -> None:
    async with httpx.AsyncClient() as client:
        bad = await client.get(scene.url, headers={"authorization": "Bearer ming", "last-event-id": "x"})
        assert bad.status_code == 422
        assert (await client.get(scene.url)).status_code == 401
        open_streams = []
        for _ in range(MAX_STREAMS):
            request = client.build_request("GET", scene.url, headers={"authorization": "Bearer ming"})
            open_streams.append(await client.send(request, stream=True))
        await asyncio.sleep(0.3)
        one_more = await client.get(scene.url, headers={"authorization": "Bearer ming"})
        assert (one_more.status_code, one_more.json()["code"]) == (429, "too-many-requests")
        for answer in open_streams:
            await answer.aclose()
