"""Nothing that a client can send ends in a 500, and nobody else is held up by it."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from kinpay.server.guard import MAX_BODY_BYTES, MAX_DEPTH, BodyMalformed, Limits, check_json
from tests.server.conftest import client_of, served, small_app

JSON = {"content-type": "application/json"}


def malformed() -> Iterator[bytes]:
    """Bodies that are not JSON as two careful readers would read it."""
    yield from (b"{", b"}", b"[", b'{"a"', b'{"a":}', b'{"a":1,}', b"[1,]", b"nul", b"'a'", b"{a:1}", b"// c", b"1 2", b"\x00")
    yield from (b"NaN", b"[NaN]", b"Infinity", b"-Infinity", b'{"a":NaN}', b"1e999", b"-1e999", b"01", b"+1", b".5", b"0x10")
    yield from (
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        "{}".encode("utf-32"),
        b"\xff\xfe",
        b'"\xc3"',
        b'"\xed\xa0\x80"',
        b"\x80",
    )
    yield from (
        b'"\\ud800"',
        b'"\\udfff"',
        b'"\\udc00\\ud800"',
        b'{"\\ud83d":1}',
        b'["a","\\ude00"]',
        b'"\\u0000"',
        b'{"\\u0000":1}',
    )
    yield from (b'{"a":1,"a":2}', b'{"a":{"b":1,"b":1}}', b'[{"x":1,"x":1}]', b'{"a":1,"\\u0061":2}')
    yield from (b"9" * 20, b"-" + b"9" * 5000, b"[1" + b"0" * 400 + b"]", b'"\x01"', b'"\n"', b'"\t"', b'"\\x"', b'"\\u12"')
    for depth in (MAX_DEPTH + 1, 200, 1000, 20_000):
        yield b"[" * depth + b"]" * depth
        yield b'{"a":' * (depth if depth < 10_000 else 9_000) + b"1" + b"}" * (depth if depth < 10_000 else 9_000)
    dice = random.Random(7)
    sound = json.dumps({"name": "小明", "amount_minor": 1400, "list": [1, {"a": None}]}, ensure_ascii=False).encode()
    while True:
        cut = bytearray(sound[: dice.randrange(3, len(sound))])
        cut[dice.randrange(len(cut))] = dice.choice(b"\x00\x1f\x80\xff{}[],")
        yield bytes(cut)


def test_depth_up_to_the_limit_is_read() -> None:
    check_json(b"[" * (MAX_DEPTH - 1) + b"1" + b"]" * (MAX_DEPTH - 1))
    check_json('{"名":"小明 👨\u200d👩\u200d👧", "n": -1.5e3, "b": [true, null]}'.encode())


@pytest.mark.parametrize(
    "reason", ["nul", "lone_surrogate", "name_repeated", "not_a_number", "too_deep", "not_utf8", "not_json"]
)
def test_every_oddity_has_its_reason(reason: str) -> None:
    bodies = {
        "nul": b'"\\u0000"',
        "lone_surrogate": b'"\\ud800"',
        "name_repeated": b'{"a":1,"a":1}',
        "not_a_number": b"NaN",
        "too_deep": b"[" * 5000,
        "not_utf8": b"\xff",
        "not_json": b"{",
    }
    with pytest.raises(BodyMalformed) as caught:
        check_json(bodies[reason])
    assert caught.value.detail["reason"] == reason


async def test_two_hundred_malformed_bodies_are_each_a_problem_and_change_nothing() -> None:
    async with client_of(small_app()) as client:
        bodies = malformed()
        for _ in range(200):
            body = next(bodies)
            for path in ("/v1/orders", "/v1/hot"):
                answer = await client.post(path, content=body, headers=JSON)
                assert 400 <= answer.status_code < 500, (path, body[:80], answer.status_code)
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["status"] == answer.status_code
        assert (await client.post("/v1/orders", json={"name": "小明", "amount_minor": 1400})).status_code == 201


ODD: list[Any] = [
    {}, [], "", 0, None, True, {"name": "a"}, {"name": "a", "amount_minor": 0}, {"name": "a", "amount_minor": -1},
    {"name": "a", "amount_minor": 1.5}, {"name": "a", "amount_minor": "14"}, {"name": "a", "amount_minor": True},
    {"name": "a", "amount_minor": 10**17}, {"name": "", "amount_minor": 1}, {"name": " ", "amount_minor": 1},
    {"name": "a" * 81, "amount_minor": 1}, {"name": "a\u202eb", "amount_minor": 1}, {"name": "a\u0007", "amount_minor": 1},
    {"name": "\ufeffa", "amount_minor": 1}, {"name": "\ue000", "amount_minor": 1}, {"name": ["a"], "amount_minor": 1},
    {"name": "a", "amount_minor": 1, "secret-of-mine": 2}, {"name": "a", "amount_minor": {"$gt": 0}},
]  # fmt: skip


@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
async def test_wrong_values_are_named_by_place_and_rule_and_not_repeated(value: Any) -> None:
    async with client_of(small_app()) as client:
        answer = await client.post("/v1/orders", content=json.dumps(value).encode(), headers=JSON)
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert problem["code"] == "validation-failed"
    assert problem["errors"]
    assert "secret-of-mine" not in answer.text
    assert "\u202e" not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json; charset=utf-16"},
        {"content-type": "application/json", "content-encoding": "gzip"},
        {"content-type": "application/jsonp"},
        {},
    ],
)
async def test_a_body_of_another_kind_is_refused(headers: dict[str, str]) -> None:
    async with client_of(small_app()) as client:
        assert (await client.post("/v1/orders", content=b"{}", headers=headers)).status_code == 415


async def test_a_callback_is_not_read_by_the_guard_but_measured() -> None:
    async with client_of(small_app()) as client:
        odd = await client.post("/v1/providers/a/callback", content=b"\xff\x00a=b", headers={"content-type": "text/plain"})
        large = await client.post("/v1/providers/a/callback", content=bytes(MAX_BODY_BYTES + 1))
    assert odd.json() == {"bytes": 5}
    assert large.status_code == 413


async def test_headers_that_decide_are_said_once() -> None:
    async with client_of(small_app()) as client:
        headers = [("content-type", "application/json"), ("idempotency-key", "a"), ("idempotency-key", "b")]
        answer = await client.post("/v1/orders", content=b"{}", headers=headers)
    assert (answer.status_code, answer.json()["reason"]) == (400, "header_repeated")


@pytest.mark.parametrize("target", ["/v1/orders?a=%00", "/v1/%00", "/v1/" + "a" * 3000])
async def test_odd_targets_are_refused(target: str) -> None:
    async with client_of(small_app()) as client:
        assert (await client.get(target)).status_code == 400


async def talk(address: tuple[str, int], *parts: bytes, pause_s: float = 0.0) -> bytes:
    """Sends bytes as they are; returns what came back until the server hung up."""
    reader, writer = await asyncio.open_connection(*address)
    told = asyncio.create_task(reader.read(100_000))
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)
    except ConnectionError:
        pass  # It has hung up on us; what it said before is read all the same.
    answer = await asyncio.wait_for(told, 5)
    writer.close()
    return answer


HEAD = b"POST /v1/orders HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"


async def test_large_slow_and_broken_bodies_hold_up_nobody_else() -> None:
    app = small_app(limits=Limits(read_timeout_s=0.3))
    async with served(app) as address, httpx.AsyncClient(base_url=f"http://{address[0]}:{address[1]}") as client:
        ten_megabytes = b"a" * 10_000_000
        attacks = [
            talk(address, HEAD + b"content-length: 10000000\r\n\r\n", ten_megabytes),
            talk(address, HEAD + b"transfer-encoding: chunked\r\n\r\n", b"%x\r\n" % 10_000_000 + ten_megabytes),
            talk(address, HEAD + b"content-length: 10\r\n\r\n", b"{"),
            talk(address, HEAD + b"content-length: 10\r\n\r\n", *[b"{"] * 9, pause_s=0.1),
            talk(address, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
            talk(address, HEAD + b"content-length: -5\r\n\r\n"),
        ]
        under_way = asyncio.gather(*attacks)
        healthy = [await client.post("/v1/orders", json={"name": "a", "amount_minor": n + 1}) for n in range(20)]
        answers = await under_way
    assert {answer.status_code for answer in healthy} == {201}
    statuses = [answer.split(b" ", 2)[1] for answer in answers]
    assert statuses == [b"413", b"413", b"408", b"408", b"400", b"400"]


async def test_a_client_that_hangs_up_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async with served(small_app()) as address:
        _, writer = await asyncio.open_connection(*address)
        writer.write(HEAD + b"content-length: 10\r\n\r\n{")
        await writer.drain()
        writer.close()
        await asyncio.sleep(0.1)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
