"""The client repeats what is safe, under the same key and a fresh signature, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from kinpay_client import Person, Problem, Terminal, Unreachable
from kinpay_client.signing import Agreeing, ConfirmationWrong, SessionSigner, TerminalKey
from kinpay_client.wire import ATTEMPTS, Wire

Reply = httpx.Response | Exception
OK = httpx.Response(201, json={"id": "c", "state": "succeeded"})


def problem(status: int, code: str, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"type": f"/problems/{code}"}, headers=headers)


class Till:
    """A terminal whose server answers from a list; it notes what it was asked and how long it waited."""

    def __init__(self, *replies: Reply) -> None:
        self.asked: list[httpx.Request] = []
        self.paused: list[float] = []
        self._replies = list(replies)
        http = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))
        wire = Wire("http://kinpay.test", http, self._pause)
        self.person = Person("http://kinpay.test", "t" * 43, http=http)
        self.person._wire = wire
        self.terminal = Terminal(wire, terminal_id="b" * 32, key=TerminalKey.new())

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        reply = self._replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def _pause(self, seconds: float) -> None:
        self.paused.append(seconds)

    async def keyed(self, **how: Any) -> Any:
        return await self.terminal.request("POST", "/v1/registrations", {"a": 1}, idempotency_key="k", own_key=True, **how)

    async def unkeyed(self) -> Any:
        return await self.terminal.request("POST", "/v1/scans", {"a": 1}, own_key=True)


def nonce_of(request: httpx.Request) -> str:
    return request.headers["signature-input"].rpartition('nonce="')[2]


@pytest.mark.parametrize(
    "failure",
    [
        lambda: httpx.ConnectError("refused"),
        lambda: httpx.ReadTimeout("late"),
        lambda: httpx.RemoteProtocolError("cut"),
        lambda: problem(503, "busy"),
        lambda: problem(409, "idempotency-key-in-use"),
    ],
)
async def test_a_request_with_a_key_is_repeated_under_it_with_a_fresh_signature(failure: Callable[[], Reply]) -> None:
    till = Till(failure(), failure(), OK)
    assert (await till.keyed()).status == 201
    assert {request.headers["idempotency-key"] for request in till.asked} == {"k"}
    assert len({nonce_of(request) for request in till.asked}) == 3
    assert len({request.content for request in till.asked}) == 1
    assert len(till.paused) == 2


async def test_a_request_without_a_key_is_not_repeated_once_it_may_have_taken_effect() -> None:
    till = Till(httpx.ReadTimeout("late"), OK)
    with pytest.raises(Unreachable):
        await till.unkeyed()
    assert len(till.asked) == 1
    unsent = Till(httpx.ConnectError("refused"), problem(503, "busy"), OK)
    assert (await unsent.unkeyed()).status == 201


async def test_it_gives_up_after_a_while_and_says_that_nothing_is_known() -> None:
    till = Till(*[httpx.ReadTimeout("late") for _ in range(ATTEMPTS)])
    with pytest.raises(Unreachable):
        await till.keyed()
    assert len(till.asked) == ATTEMPTS
    assert till.paused == sorted(till.paused) or max(till.paused) <= 5


async def test_a_refusal_is_told_and_not_repeated() -> None:
    for reply in (problem(409, "wrong-state"), problem(422, "invalid-request"), httpx.Response(500, content=b"<html>")):
        till = Till(reply)
        with pytest.raises(Problem) as caught:
            await till.keyed()
        assert caught.value.status == reply.status_code
        assert len(till.asked) == 1


async def test_it_waits_as_long_as_the_server_asks_but_not_for_minutes() -> None:
    till = Till(problem(503, "busy", **{"Retry-After": "2"}), OK)
    await till.keyed()
    assert till.paused == [2.0]
    later = Till(problem(429, "too-many-requests", **{"Retry-After": "600"}))
    with pytest.raises(Problem) as caught:
        await later.keyed()
    assert caught.value.retry_after_s == 600


async def test_a_charge_makes_one_key_for_all_its_attempts() -> None:
    till = Till(httpx.ReadTimeout("late"), OK)
    till.terminal._session = Agreed.session()
    await till.terminal.charge({"code": "K1P.x"}, 1400, "CNY", pin="1234")
    first, second = till.asked
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert json.loads(first.content) == {
        "presented": {"code": "K1P.x"}, "amount_minor": 1400, "currency": "CNY", "capture": True, "pin": "1234",
    }  # fmt: skip
    assert 'alg="hmac-sha256"' in first.headers["signature-input"]


async def test_a_person_carries_their_token() -> None:
    till = Till(httpx.ReadTimeout("late"), httpx.Response(200, json={"id": "p"}))
    assert (await till.person.request("GET", "/v1/me"))["id"] == "p"
    assert {request.headers["authorization"] for request in till.asked} == {"Bearer " + "t" * 43}


class Agreed:
    """A session as if it had been agreed on."""

    @staticmethod
    def session() -> Any:
        return SessionSigner("a" * 32, bytes(32), datetime(2030, 1, 1, tzinfo=UTC))


def test_a_server_that_does_not_hold_the_agreed_key_is_noticed() -> None:
    mine, theirs = Agreeing.begin(), Agreeing.begin()
    answer = {
        "session_id": "a" * 32, "agreement_key": theirs.asked()["agreement_key"], "expires_at": "2030-01-01T00:00:00Z",
        "confirmation": "A" * 43,
    }  # fmt: skip
    with pytest.raises(ConfirmationWrong):
        mine.finish(answer, terminal_id="b" * 32)


def test_keys_are_not_shown_by_accident() -> None:
    key = TerminalKey.new()
    assert "PRIVATE" not in repr(key)
    assert repr(bytes(32)) not in repr(Agreed.session())
    assert TerminalKey.from_pem(key.to_pem()).public_point() == key.public_point()
