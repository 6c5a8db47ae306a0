"""The log is written turn by turn of the event loop, and nothing that was logged stays unwritten."""

from __future__ import annotations

import asyncio
import io
import json
import logging

from kinpay.server.journal import JsonLines, Together


def begun() -> tuple[io.StringIO, Together, logging.Logger]:
    stream = io.StringIO()
    handler = Together(stream)
    handler.setFormatter(JsonLines())
    log = logging.Logger("test", logging.INFO)
    log.addHandler(handler)
    return stream, handler, log


def events(stream: io.StringIO) -> list[str]:
    return [json.loads(line)["event"] for line in stream.getvalue().splitlines()]


async def test_the_lines_of_one_turn_are_written_together() -> None:
    stream, _, log = begun()
    log.info("one", extra={"n": 1})
    log.info("two")
    assert events(stream) == []
    await asyncio.sleep(0)
    assert events(stream) == ["one", "two"]
    log.info("three")
    await asyncio.sleep(0)
    assert events(stream) == ["one", "two", "three"]


async def test_a_warning_is_written_at_once_with_what_came_before() -> None:
    stream, _, log = begun()
    log.info("before")
    log.warning("warning")
    assert events(stream) == ["before", "warning"]


async def test_another_thread_is_in_no_turn() -> None:
    stream, _, log = begun()
    await asyncio.to_thread(log.info, "elsewhere")
    assert events(stream) == ["elsewhere"]


def test_outside_a_loop_and_at_the_end() -> None:
    stream, handler, log = begun()
    log.info("outside")
    assert events(stream) == ["outside"]

    async def last() -> None:
        asyncio.get_running_loop().stop()
        log.info("last")

    loop = asyncio.new_event_loop()
    task = loop.create_task(last())
    loop.run_forever()
    assert task.done()
    loop.close()
    handler.flush()
    assert events(stream) == ["outside", "last"]


def test_a_stream_that_is_gone_stops_nobody() -> None:
    stream, _, log = begun()
    stream.close()
    log.error("nobody reads this")
