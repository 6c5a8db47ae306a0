"""The client repeats what is safe, under the same key and a fresh signature, and nothing else."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from kinpay_client import (
    Charge,
    NotSettled,
    Person,
    Problem,
    SyncPerson,
    SyncTerminal,
    Terminal,
    UnexpectedAnswer,
    Unreachable,
    WrongField,
)
from kinpay_client.drive import AsyncWire, SyncWire
from kinpay_client.exchange import ATTEMPTS
from kinpay_client.signing import Agreeing, ConfirmationWrong, SessionSigner, TerminalKey

Reply = httpx.Response | Exception
URL = "http://kinpay.test"
CHARGE = {
    "id": "c", "state": "succeeded", "amount_minor": 1400, "currency": "CNY", "captured_minor": 1400, "refunded_minor": 0,
    "merchant_id": "m", "terminal_id": "b", "method": "pay_code", "decided_at": "2026-11-22T23:47:00Z",
}  # fmt: skip
OK = httpx.Response(201, json=CHARGE)


def problem(status: int, code: str, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"type": f"/problems/{code}"}, headers=headers)


async def come(told: Any) -> Any:
    """What a method came to, whichever client it is of."""
    return await told if inspect.isawaitable(told) else told


class Till:
    """A terminal whose server answers from a list; it notes what it was asked and how long it waited."""

    def __init__(self, kind: str, *replies: Reply) -> None:
        self.asked: list[httpx.Request] = []
        self.paused: list[float] = []
        self._replies = list(replies)
        transport = httpx.MockTransport(self._answer)
        self.terminal: Any
        self.person: Any
        if kind == "async":
            wire = AsyncWire(URL, httpx.AsyncClient(transport=transport), self._pause)
            self.terminal, self.person = Terminal(wire, terminal_id="b" * 32, key=TerminalKey.new()), Person(URL, "t" * 43)
            self.person._wire = wire
        else:
            waiting = SyncWire(URL, httpx.Client(transport=transport), self.paused.append)
            self.terminal = SyncTerminal(waiting, terminal_id="b" * 32, key=TerminalKey.new())
            self.person = SyncPerson(URL, "t" * 43)
            self.person._wire = waiting

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        reply = self._replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)

    async def _pause(self, seconds: float) -> None:
        self.paused.append(seconds)

    async def keyed(self, **how: Any) -> Any:
        return await come(
            self.terminal.request("POST", "/v1/registrations", {"a": 1}, idempotency_key="k", own_key=True, **how)
        )

    async def unkeyed(self) -> Any:
        return await come(self.terminal.request("POST", "/v1/scans", {"a": 1}, own_key=True))


@pytest.fixture(params=["async", "sync"])
def kind(request: pytest.FixtureRequest) -> str:
    """Both clients are of one surface, and so are their tests."""
    return str(request.param)


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
async def test_a_request_with_a_key_is_repeated_under_it_with_a_fresh_signature(
    failure: Callable[[], Reply], kind: str
) -> None:
    till = Till(kind, failure(), failure(), OK)
    assert (await till.keyed()).status == 201
    assert {request.headers["idempotency-key"] for request in till.asked} == {"k"}
    assert len({nonce_of(request) for request in till.asked}) == 3
    assert len({request.content for request in till.asked}) == 1
    assert len(till.paused) == 2


async def test_a_request_without_a_key_is_not_repeated_once_it_may_have_taken_effect(kind: str) -> None:
    till = Till(kind, httpx.ReadTimeout("late"), OK)
    with pytest.raises(Unreachable):
        await till.unkeyed()
    assert len(till.asked) == 1
    unsent = Till(kind, httpx.ConnectError("refused"), problem(503, "busy"), OK)
    assert (await unsent.unkeyed()).status == 201


async def test_it_gives_up_after_a_while_and_says_that_nothing_is_known(kind: str) -> None:
    till = Till(kind, *[httpx.ReadTimeout("late") for _ in range(ATTEMPTS)])
    with pytest.raises(Unreachable):
        await till.keyed()
    assert len(till.asked) == ATTEMPTS
    assert till.paused == sorted(till.paused) or max(till.paused) <= 5


async def test_a_refusal_is_told_and_not_repeated(kind: str) -> None:
    for reply in (problem(409, "wrong-state"), problem(422, "invalid-request"), httpx.Response(500, content=b"<html>")):
        till = Till(kind, reply)
        with pytest.raises(Problem) as caught:
            await till.keyed()
        assert caught.value.status == reply.status_code
        assert len(till.asked) == 1


async def test_it_waits_as_long_as_the_server_asks_but_not_for_minutes(kind: str) -> None:
    till = Till(kind, problem(503, "busy", **{"Retry-After": "2"}), OK)
    await till.keyed()
    assert till.paused == [2.0]
    later = Till(kind, problem(429, "too-many-requests", **{"Retry-After": "600"}))
    with pytest.raises(Problem) as caught:
        await later.keyed()
    assert caught.value.retry_after_s == 600


async def test_a_charge_makes_one_key_for_all_its_attempts(kind: str) -> None:
    till = Till(kind, httpx.ReadTimeout("late"), OK)
    till.terminal._session = Agreed.session()
    charge = await come(till.terminal.charge({"code": "K1P.x"}, 1400, "CNY", pin="1234"))
    assert (charge.state, charge["state"], charge.succeeded) == ("succeeded", "succeeded", True)
    first, second = till.asked
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert json.loads(first.content) == {
        "presented": {"code": "K1P.x"}, "amount_minor": 1400, "currency": "CNY", "capture": True, "pin": "1234",
    }  # fmt: skip
    assert 'alg="hmac-sha256"' in first.headers["signature-input"]


async def test_a_person_carries_their_token(kind: str) -> None:
    till = Till(kind, httpx.ReadTimeout("late"), httpx.Response(200, json={"id": "p"}))
    assert (await come(till.person.request("GET", "/v1/me")))["id"] == "p"
    assert {request.headers["authorization"] for request in till.asked} == {"Bearer " + "t" * 43}


async def settled(till: Till, *states: str, within_s: float = 60.0) -> Any:
    """Charges, and waits; the server answers with those states, one after the other."""
    till.terminal._session = Agreed.session()
    till._replies = [httpx.Response(202 if state == "submitted" else 201, json=CHARGE | {"state": state}) for state in states]
    charge = await come(till.terminal.charge({"code": "K1P.x"}, 1400, "CNY"))
    return await come(till.terminal.settled(charge, within_s=within_s))


async def test_a_charge_is_waited_for_until_the_providers_answer_is_known(kind: str) -> None:
    till = Till(kind)
    charge = await settled(till, "submitted", "submitted", "submitted", "succeeded")
    assert (type(charge), charge.succeeded) == (Charge, True)
    assert [request.method for request in till.asked] == ["POST", "GET", "GET", "GET"]
    assert len(till.paused) == 3
    known = Till(kind)
    assert (await settled(known, "refused")).state == "refused"
    assert len(known.asked) == 1, "what is known is not asked for"


async def test_whoever_waits_in_vain_hears_that_nothing_is_decided(kind: str) -> None:
    till = Till(kind)
    with pytest.raises(NotSettled) as unsettled:
        await settled(till, *["submitted"] * 3, within_s=0.0)
    assert (unsettled.value.charge.state, len(till.asked)) == ("submitted", 1)


async def test_a_refusal_has_types_and_what_a_newer_server_says_is_kept(kind: str) -> None:
    refusal = {
        "reasons": [{"code": "DAY_AMOUNT", "resets_at": "2026-11-23T16:00:00Z", "mood": "new"}, {"code": "COOLING"}],
        "possible_now_minor": 700, "again_at": None,
    }  # fmt: skip
    till = Till(kind, httpx.Response(201, json=CHARGE | {"state": "refused", "refusal": refusal, "tip_minor": 3}))
    till.terminal._session = Agreed.session()
    charge = await come(till.terminal.charge({"code": "K1P.x"}, 1400, "CNY"))
    assert [reason.code for reason in charge.refusal.reasons] == ["DAY_AMOUNT", "COOLING"]
    assert charge.refusal.reasons[0].resets_at == datetime(2026, 11, 23, 16, tzinfo=UTC)
    assert (charge.refusal.possible_now_minor, charge.refusal.again_at, charge["tip_minor"]) == (700, None, 3)


@pytest.mark.parametrize(
    "wrong", [{"id": None}, {"amount_minor": "1400"}, {"late": 1}, {"refusal": {}}, {"decided_at": "now"}, {"items": {}}]
)
async def test_an_answer_of_something_else_is_not_taken_for_a_charge(kind: str, wrong: dict[str, Any]) -> None:
    till = Till(kind, httpx.Response(200, json=CHARGE | wrong), httpx.Response(200, json={}))
    till.terminal._session = Agreed.session()
    for _ in range(2):
        with pytest.raises(UnexpectedAnswer):
            await come(till.terminal.charge_state("c"))


async def test_a_problem_says_what_is_wrong_and_where(kind: str) -> None:
    document = {
        "type": "/problems/validation-failed", "title": "Some fields are not valid.", "code": "validation-failed",
        "errors": [{"in": "body", "field": "amount_minor", "reason": "greater_than"}],
    }  # fmt: skip
    till = Till(kind, httpx.Response(422, json=document))
    with pytest.raises(Problem) as caught:
        await till.keyed()
    problem = caught.value
    assert (problem.code, problem.title) == ("validation-failed", "Some fields are not valid.")
    assert problem.fields == (WrongField("amount_minor", "greater_than", "body"),)
    single = {"code": "invalid-request", "reason": "not_printable", "field": "reference"}
    till = Till(kind, httpx.Response(422, json=single), httpx.Response(502, text="<html>"))
    with pytest.raises(Problem) as caught:
        await till.keyed()
    assert (caught.value.detail, caught.value.fields) == ("not_printable", (WrongField("reference", "not_printable"),))
    with pytest.raises(Problem) as caught:
        await till.keyed()
    assert (caught.value.status, caught.value.code, caught.value.title, caught.value.fields) == (502, "unknown", "", ())


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
