"""Whoever does not finish the head of a request is hung up on; whoever does is answered, also later on the same connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio
import uvicorn

from kinpay.server.punctual import Punctual

HEAD = b"GET / HTTP/1.1\r\nHost: kinpay\r\n"


class Hasty(Punctual):
    """So that a test need not wait."""

    head_timeout_s = 0.3


async def app(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(0.6)  # An answer may take longer than a head.
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest_asyncio.fixture
async def port() -> AsyncIterator[int]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, http=Hasty, ws="none", lifespan="off", log_config=None))
    running = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  uvicorn tells nobody
        await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await running


async def test_half_a_head_is_not_waited_for(port: int) -> None:
    for begun in (b"", HEAD, b"\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(begun)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_requests_are_answered_one_after_the_other_and_only_a_late_one_is_hung_up_on(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(2):
        writer.write(HEAD + b"\r\n")
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).startswith(b"HTTP/1.1 204")
        await asyncio.sleep(0.5)  # Idle in between: not late.
    writer.write(HEAD)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_an_empty_line_after_an_answer_keeps_no_connection_open(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HEAD + b"\r\n")
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).startswith(b"HTTP/1.1 204")
    writer.write(b"\r\n")
    assert await asyncio.wait_for(reader.read(), 3) == b"", "uvicorn's own patience with idle connections is longer"
    writer.close()
