"""What never left is told from what nobody knows, over real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from wire_double import Request, on_the_wire, peer

from kinpay.providers import http
from kinpay.providers.contract import NotExecuted, UnknownOutcome
from kinpay.providers.http import Transport


@asynccontextmanager
async def transport(timeout_s: float = 1.0, max_connections: int = 8) -> AsyncIterator[Transport]:
    opened = Transport(timeout_s=timeout_s, max_connections=max_connections)
    try:
        yield opened
    finally:
        await opened.close()


def fine(request: Request) -> bytes:
    return on_the_wire(200, {"X-Twice": "a"}, b"fine " + request.body)


async def slowly(_: Request) -> bytes:
    await asyncio.sleep(5)
    return b""


async def test_an_answer_comes_back_byte_for_byte_whatever_its_status() -> None:
    async with peer(lambda r: on_the_wire(503, {"X-Name": "v"}, b"\x00\xff"), verify=False) as double, transport() as out:
        answer = await out.send("POST", double.base_url + "/p?q=1", headers={"A": "b"}, body=b"x")
        assert (answer.status, answer.body, answer.headers["x-name"]) == (503, b"\x00\xff", "v")
        assert (double.requests[0].path, double.requests[0].headers["a"], double.requests[0].body) == ("/p?q=1", "b", b"x")


async def test_a_closed_port_was_never_reached() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with transport() as out:
        with pytest.raises(NotExecuted):
            await out.send("POST", f"http://127.0.0.1:{port}/", headers={})


async def test_a_name_that_does_not_resolve_was_never_reached() -> None:
    async with transport() as out:
        with pytest.raises(NotExecuted):
            await out.send("POST", "http://bank.invalid/", headers={})


async def test_a_peer_that_speaks_no_tls_was_never_sent_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "CONNECT_TIMEOUT_S", 0.2)
    async with peer(fine, verify=False) as double, transport() as out:
        with pytest.raises(NotExecuted):
            await out.send("POST", double.base_url.replace("http:", "https:"), headers={}, body=b"secret")
        assert double.requests == []


async def test_a_pool_that_stays_full_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "CONNECT_TIMEOUT_S", 0.2)
    async with peer(slowly, verify=False) as double, transport(max_connections=1) as out:
        first = asyncio.create_task(out.send("POST", double.base_url, headers={}))
        await asyncio.sleep(0.05)
        with pytest.raises(NotExecuted):
            await out.send("POST", double.base_url, headers={})
        with pytest.raises(UnknownOutcome):
            await first
        assert len(double.requests) == 1


async def test_a_closed_transport_sends_nothing() -> None:
    async with peer(fine, verify=False) as double:
        async with transport() as out:
            pass
        with pytest.raises(NotExecuted):
            await out.send("POST", double.base_url, headers={})
        assert double.requests == []


async def test_a_peer_that_hangs_past_the_time_out_is_unknown() -> None:
    async with peer(slowly, verify=False) as double, transport(timeout_s=0.2) as out:
        with pytest.raises(UnknownOutcome):
            await out.send("POST", double.base_url, headers={})


async def test_a_call_may_have_its_own_time_out() -> None:
    async with peer(slowly, verify=False) as double, transport(timeout_s=60) as out:
        with pytest.raises(UnknownOutcome):
            await out.send("POST", double.base_url, headers={}, timeout_s=0.1)


async def test_a_peer_that_drips_single_bytes_meets_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "CONNECT_TIMEOUT_S", 0.1)

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        try:
            while not writer.is_closing():
                writer.write(b".")
                await writer.drain()
                await asyncio.sleep(0.05)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with transport(timeout_s=0.2) as out:
        with pytest.raises(UnknownOutcome):
            await asyncio.wait_for(out.send("GET", f"http://127.0.0.1:{port}/", headers={}), 3)
    server.close()


async def test_a_connection_cut_before_an_answer_is_unknown() -> None:
    async with peer(lambda r: None, verify=False) as double, transport() as out:
        with pytest.raises(UnknownOutcome):
            await out.send("POST", double.base_url, headers={})


async def test_a_body_cut_midway_is_unknown() -> None:
    def half(_: Request) -> bytes:
        return on_the_wire(200, {}, b"half", promised=100)

    async with peer(half, verify=False, cut_after_answer=True) as double, transport() as out:
        with pytest.raises(UnknownOutcome):
            await out.send("POST", double.base_url, headers={})


async def test_what_is_not_http_is_unknown() -> None:
    async with peer(lambda r: b"gibberish\r\n\r\n", verify=False, cut_after_answer=True) as double, transport() as out:
        with pytest.raises(UnknownOutcome):
            await out.send("POST", double.base_url, headers={})


async def test_a_kept_alive_connection_that_dies_before_the_first_byte_is_unknown_and_nothing_is_sent_again() -> None:
    answered = 0

    def once(request: Request) -> bytes | None:
        nonlocal answered
        answered += 1
        return fine(request) if answered == 1 else None

    async with peer(once, verify=False) as double, transport() as out:
        await out.send("POST", double.base_url, headers={}, body=b"1")
        with pytest.raises(UnknownOutcome):
            await out.send("POST", double.base_url, headers={}, body=b"2")
        await asyncio.sleep(0.1)
        assert double.connections == 1
        assert [request.body for request in double.requests] == [b"1", b"2"]


async def test_an_answer_longer_than_the_cap_is_unknown_even_if_its_length_is_not_told() -> None:
    def endless(_: Request) -> bytes:
        return b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 2000

    async with peer(endless, verify=False, cut_after_answer=True) as double, transport() as out:
        with pytest.raises(UnknownOutcome, match="answer_too_long"):
            await out.send("GET", double.base_url, headers={}, max_bytes=1999)
        assert len((await out.send("GET", double.base_url, headers={}, max_bytes=2000)).body) == 2000


async def test_redirects_are_answers_and_cookies_are_forgotten() -> None:
    def away(_: Request) -> bytes:
        return on_the_wire(307, {"Location": "/elsewhere", "Set-Cookie": "a=b"}, b"")

    async with peer(away, verify=False) as double, transport() as out:
        assert (await out.send("POST", double.base_url, headers={})).status == 307
        await out.send("POST", double.base_url, headers={})
        assert [request.path for request in double.requests] == ["/", "/"]
        assert "cookie" not in double.requests[1].headers


async def test_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    async with peer(fine, verify=False) as double, transport() as out:
        assert (await out.send("GET", double.base_url, headers={})).body == b"fine "
