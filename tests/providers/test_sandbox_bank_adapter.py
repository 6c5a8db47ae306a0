"""The port over the wire: what the bank says, what it may not say, and what nobody knows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from wire_double import (
    ACCOUNT,
    CLIENT_SECRET,
    OLD_BANK_KEY,
    STRANGER,
    Request,
    bank_answering,
    configuration,
    on_the_wire,
    peer,
    seal,
    signed,
)

from kinpay.primitives.money import Money
from kinpay.primitives.sealed import Sealed
from kinpay.providers.contract import (
    AgreementRequest,
    AgreementState,
    DebitRequest,
    DebitState,
    FailureCause,
    Misconfigured,
    NotExecuted,
    NotKnown,
    Provider,
    RefundRequest,
    SpenderAtProvider,
    UnknownOutcome,
)
from kinpay.providers.sandbox_bank.adapter import SandboxBank, open_sandbox_bank

DEBIT = DebitRequest(key="k1", agreement_ref="a-1", spender_ref="s1", amount=Money(1400, "CNY"), description="lunch")
REFUND = RefundRequest(key="r1", debit_key="k1", amount=Money(400, "CNY"))
SPENDER = SpenderAtProvider(ref="s1", name="小明")
AGREEMENT = AgreementRequest(
    key="g1", payer_account="mother", account=ACCOUNT, business_type="meals", currency="CNY", per_debit_minor=5000,
    per_day_minor=None, valid_until=datetime(2027, 1, 1, tzinfo=UTC), return_url="https://kinpay.example/back", spender=SPENDER,
)  # fmt: skip

Call = Callable[[SandboxBank], Awaitable[object]]


def debit_said(**changes: object) -> dict[str, object]:
    return {
        "debit_id": "d-1", "key": "k1", "state": "succeeded", "failure": None, "amount_minor": 1400, "currency": "CNY",
        "agreement_id": "a-1", "spender_ref": "s1", "refunded_minor": 0,
        "created_at": "2026-03-01T12:00:00Z", "finished_at": "2026-03-01T12:00:01Z",
    } | changes  # fmt: skip


def agreement_said(**changes: object) -> dict[str, object]:
    return {
        "agreement_id": "a-1", "key": "g1", "state": "pending", "approve_url": "http://127.0.0.1/approve/1",
        "expires_at": "2026-03-01T12:15:00Z", "payer_account_id": None, "account": ACCOUNT, "business_type": "meals",
        "limits": {"per_debit_minor": 5000, "per_day_minor": None, "currency": "CNY"}, "ended_by": None,
        "spenders": [{"ref": "s1", "name": "小明", "state": "active"}],
    } | changes  # fmt: skip


def refund_said(**changes: object) -> dict[str, object]:
    return {
        "refund_id": "f-1", "key": "r1", "debit_key": "k1", "state": "succeeded", "failure": None,
        "amount_minor": 400, "currency": "CNY",
    } | changes  # fmt: skip


async def lines_of(bank: SandboxBank) -> list[object]:
    return [line async for line in bank.statement(date(2026, 3, 1))]


CALLS: dict[str, tuple[Call, str, dict[str, object] | bytes]] = {
    "begin_agreement": (lambda b: b.begin_agreement(AGREEMENT), "POST /v1/agreements", agreement_said()),
    "get_agreement": (lambda b: b.get_agreement("g1"), "GET /v1/agreements/by-key/g1", agreement_said()),
    "end_agreement": (
        lambda b: b.end_agreement("a-1", reason="enough"),
        "POST /v1/agreements/a-1/end",
        agreement_said(state="ended", payer_account_id="p-1", ended_by="client"),
    ),
    "bind_spender": (lambda b: b.bind_spender("a-1", SPENDER), "POST /v1/agreements/a-1/spenders", agreement_said()),
    "unbind_spender": (
        lambda b: b.unbind_spender("a-1", spender_ref="s1"),
        "POST /v1/agreements/a-1/spenders/s1/remove",
        agreement_said(spenders=[{"ref": "s1", "name": "小明", "state": "removed"}]),
    ),
    "debit": (lambda b: b.debit(DEBIT), "POST /v1/debits", debit_said()),
    "get_debit": (lambda b: b.get_debit(DEBIT), "GET /v1/debits/by-key/k1", debit_said()),
    "cancel_debit": (lambda b: b.cancel_debit(DEBIT), "POST /v1/debits/by-key/k1/cancel", debit_said(state="cancelled")),
    "refund": (lambda b: b.refund(REFUND), "POST /v1/refunds", refund_said()),
    "get_refund": (lambda b: b.get_refund(REFUND), "GET /v1/refunds/by-key/r1", refund_said()),
    "statement": (
        lines_of,
        "GET /v1/statements/2026-03-01.csv",
        b"kind,key,debit_key,agreement_id,spender_ref,amount_minor,currency,finished_at\n"
        b"debit,k1,,a-1,s1,1400,CNY,2026-03-01T12:00:01Z\nrefund,r1,k1,a-1,s1,400,CNY,2026-03-01T13:00:00Z\n",
    ),
}
every_call = pytest.mark.parametrize("name", CALLS)
orders = pytest.mark.parametrize("name", ["debit", "refund", "cancel_debit"])


def test_the_adapter_is_a_provider() -> None:
    bank: Provider = open_sandbox_bank(configuration("https://bank.example"), Sealed(CLIENT_SECRET))
    assert bank.name == "sandbox_bank"
    assert bank.can.cancels_debits


@every_call
async def test_each_call_is_signed_and_goes_where_the_page_says(name: str) -> None:
    call, line, said = CALLS[name]
    async with bank_answering(lambda r: signed(r, said)) as (bank, double):
        assert await call(bank)
        assert [f"{request.method} {request.path}" for request in double.requests] == [line]


@every_call
async def test_no_answer_is_unknown_to_every_call(name: str) -> None:
    async with bank_answering(lambda r: None) as (bank, _):
        with pytest.raises(UnknownOutcome):
            await CALLS[name][0](bank)


@every_call
async def test_an_answer_after_the_time_out_is_unknown_to_every_call(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinpay.providers.sandbox_bank.adapter.STATEMENT_TIMEOUT_S", 0.05)

    async def late(_: Request) -> bytes:
        await asyncio.sleep(1)
        return b""

    async with bank_answering(late, timeout_s=0.05) as (bank, _):
        with pytest.raises(UnknownOutcome):
            await CALLS[name][0](bank)


async def test_a_bank_that_is_away_was_not_asked() -> None:
    async with peer(lambda r: None) as double:
        url = double.base_url
    bank = open_sandbox_bank(configuration(url), Sealed(CLIENT_SECRET))
    with pytest.raises(NotExecuted):
        await bank.debit(DEBIT)
    await bank.close()


def resealed(**changes: object) -> Callable[[Request, bytes], bytes]:
    def answer(request: Request, body: bytes) -> bytes:
        return on_the_wire(200, seal(200, body, request.nonce, **changes), body)  # type: ignore[arg-type]

    return answer


def without(header: str) -> Callable[[Request, bytes], bytes]:
    def answer(request: Request, body: bytes) -> bytes:
        headers = seal(200, body, request.nonce)
        del headers[header]
        return on_the_wire(200, headers, body)

    return answer


def replaced(header: str, value: str) -> Callable[[Request, bytes], bytes]:
    def answer(request: Request, body: bytes) -> bytes:
        return on_the_wire(200, {**seal(200, body, request.nonce), header: value}, body)

    return answer


BAD_ANSWERS: dict[str, Callable[[Request, bytes], bytes]] = {
    "HTML": lambda r, b: on_the_wire(200, {"Content-Type": "text/html"}, b"<h1>It works</h1>"),
    "signed HTML": lambda r, b: signed(r, b"<h1>It works</h1>"),
    "unsigned": lambda r, b: on_the_wire(200, {}, b),
    "empty": lambda r, b: on_the_wire(200, {}, b""),
    "signed and empty": lambda r, b: signed(r, b""),
    "truncated": lambda r, b: on_the_wire(200, seal(200, b, r.nonce), b[:-9], promised=len(b)),
    "truncated with a fitting length": lambda r, b: on_the_wire(200, seal(200, b, r.nonce), b[:-9]),
    "signed after truncation": lambda r, b: signed(r, b[:-9]),
    "altered": lambda r, b: on_the_wire(200, seal(200, b, r.nonce), b.replace(b"k1", b"k2")),
    "signed by a stranger": resealed(key=STRANGER),
    "signed under another name": resealed(key_id="bank0"),
    "signed under an unknown name": resealed(key_id="bank9"),
    "of another status": lambda r, b: on_the_wire(201, seal(200, b, r.nonce), b),
    "of another request": lambda r, b: on_the_wire(200, seal(200, b, "n" * 32), b),
    "moved from another request": lambda r, b: on_the_wire(200, seal(200, b, "n" * 32) | {"Kinbank-Nonce": r.nonce}, b),
    "of another time": replaced("Kinbank-Timestamp", "1"),
    "of no time": without("Kinbank-Timestamp"),
    "without a key": without("Kinbank-Key"),
    "without a nonce": without("Kinbank-Nonce"),
    "without a signature": without("Kinbank-Signature"),
    "no base64": replaced("Kinbank-Signature", "=="),
    "500": lambda r, b: on_the_wire(500, {}, b"oops"),
    "500, signed": lambda r, b: signed(r, {"code": "internal"}, 500),
    "503, signed and well formed": lambda r, b: signed(r, b, 503),
    "404, unsigned": lambda r, b: on_the_wire(404, {}, b'{"code":"not_found"}'),
    "404 of another request": lambda r, b: on_the_wire(404, seal(404, b, "n" * 32), b'{"code":"not_found"}'),
    "409, unsigned": lambda r, b: on_the_wire(409, {}, b'{"code":"key_reused"}'),
    "422, unsigned": lambda r, b: on_the_wire(422, {}, b'{"code":"account_frozen"}'),
    "422 without a code": lambda r, b: signed(r, {"error": "no"}, 422),
    "422 with prose for a code": lambda r, b: signed(r, {"code": "Not today."}, 422),
    "401 that says the nonce was used": lambda r, b: signed(r, {"code": "replayed"}, 401),
    "408, signed": lambda r, b: signed(r, {"code": "slow"}, 408),
    "429, signed": lambda r, b: signed(r, {"code": "busy"}, 429),
    "a redirect, signed": lambda r, b: signed(r, b, 307),
    "204, signed": lambda r, b: on_the_wire(204, seal(204, b"", r.nonce), b""),
    "too long": lambda r, b: signed(r, b + b" " * (1 << 21)),
    "a list": lambda r, b: signed(r, b"[" + b + b"]"),
}


@orders
@pytest.mark.parametrize("bad", BAD_ANSWERS)
async def test_an_answer_that_cannot_be_believed_is_unknown_never_failed(name: str, bad: str) -> None:
    call, _, said = CALLS[name]
    body = json.dumps(said).encode()
    cut = bad == "truncated"
    async with bank_answering(lambda r: BAD_ANSWERS[bad](r, body), cut_after_answer=cut) as (bank, double):
        with pytest.raises(UnknownOutcome):
            await call(bank)
        assert len(double.requests) == 1


@pytest.mark.parametrize(
    ("name", "changes"),
    [("debit", {"key": "k2"}), ("debit", {"amount_minor": 1500}), ("debit", {"currency": "EUR"}), ("debit", {"state": "odd"}),
     ("debit", {"agreement_id": "a-2"}), ("get_debit", {"key": "k2"}), ("get_debit", {"amount_minor": 1}),
     ("cancel_debit", {"state": "pending"}), ("cancel_debit", {"key": "k2"}), ("refund", {"key": "r2"}),
     ("refund", {"debit_key": "k2"}), ("refund", {"amount_minor": 401}), ("refund", {"currency": "USD"}),
     ("refund", {"state": "cancelled"}), ("get_refund", {"key": "r2"}), ("begin_agreement", {"key": "g2"}),
     ("begin_agreement", {"account": "x"}), ("begin_agreement", {"business_type": "x"}), ("begin_agreement", {"limits": {}}),
     ("begin_agreement", {"state": "odd"}), ("get_agreement", {"key": "g2"}), ("get_agreement", {"account": "x"}),
     ("end_agreement", {"agreement_id": "a-2"}), ("end_agreement", {"state": "active", "payer_account_id": "p"}),
     ("bind_spender", {"agreement_id": "a-2"}), ("bind_spender", {"spenders": []}),
     ("unbind_spender", {"spenders": [{"ref": "s1", "name": "x", "state": "active"}]}),
     ("unbind_spender", {"agreement_id": "a-2"})],
)  # fmt: skip
async def test_a_signed_answer_about_something_else_is_unknown(name: str, changes: dict[str, object]) -> None:
    call, _, said = CALLS[name]
    assert isinstance(said, dict)
    async with bank_answering(lambda r: signed(r, said | changes)) as (bank, _):
        with pytest.raises(UnknownOutcome):
            await call(bank)


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "unknown_client"), (401, "bad_signature"), (401, "stale"), (409, "key_reused"), (422, "unknown_account"),
     (422, "business_type_not_allowed"), (400, "new_word")],
)  # fmt: skip
@pytest.mark.parametrize("name", ["begin_agreement", "debit", "refund", "get_debit", "statement"])
async def test_what_the_bank_holds_against_us_is_the_operators_matter(name: str, status: int, code: str) -> None:
    async with bank_answering(lambda r: signed(r, {"code": code}, status)) as (bank, _):
        with pytest.raises(Misconfigured) as raised:
            await CALLS[name][0](bank)
        assert raised.value.code == code


@pytest.mark.parametrize(
    ("code", "cause"), [("unknown_payer_account", FailureCause.OTHER), ("account_frozen", FailureCause.RISK)]
)
async def test_what_the_bank_holds_against_the_payer_is_a_refused_agreement(code: str, cause: FailureCause) -> None:
    async with bank_answering(lambda r: signed(r, {"code": code}, 422)) as (bank, _):
        seen = await bank.begin_agreement(AGREEMENT)
        assert (seen.key, seen.provider_ref, seen.state, seen.action_url) == ("g1", "", AgreementState.REFUSED, None)
        assert seen.failure is not None
        assert (seen.failure.cause, seen.failure.code) == (cause, code)


async def test_an_agreement_with_another_account_of_the_operator_is_not_asked_for() -> None:
    async with bank_answering(lambda r: None) as (bank, double):
        with pytest.raises(Misconfigured, match="other_account"):
            await bank.begin_agreement(replace(AGREEMENT, account="another"))
        assert double.requests == []


@pytest.mark.parametrize(
    "name", ["get_agreement", "end_agreement", "bind_spender", "unbind_spender", "get_debit", "get_refund"]
)
async def test_what_the_bank_never_received_is_not_known(name: str) -> None:
    async with bank_answering(lambda r: signed(r, {"code": "not_found"}, 404)) as (bank, _):
        with pytest.raises(NotKnown):
            await CALLS[name][0](bank)


@orders
async def test_not_found_in_answer_to_an_order_says_nothing_about_its_own_key(name: str) -> None:
    async with bank_answering(lambda r: signed(r, {"code": "not_found"}, 404)) as (bank, _):
        with pytest.raises(Misconfigured, match="not_found"):
            await CALLS[name][0](bank)


async def test_binding_to_an_agreement_that_has_ended_tells_that_it_has() -> None:
    def answer(request: Request) -> bytes:
        if request.method == "POST":
            return signed(request, {"code": "agreement_inactive"}, 422)
        return signed(request, agreement_said(state="ended", payer_account_id="p-1", ended_by="payer"))

    async with bank_answering(answer) as (bank, double):
        seen = await bank.bind_spender("a-1", SPENDER)
        assert (seen.state, seen.ended_by) == (AgreementState.ENDED, "payer")
        assert double.requests[1].path == "/v1/agreements/a-1"


async def test_a_new_and_a_repeated_agreement_are_told_alike_and_asked_for_by_identical_bytes() -> None:
    statuses = iter([201, 200])
    async with bank_answering(lambda r: signed(r, agreement_said(), next(statuses))) as (bank, double):
        first, again = await bank.begin_agreement(AGREEMENT), await bank.begin_agreement(AGREEMENT)
        assert first == again
        assert first.action_url == "http://127.0.0.1/approve/1"
        assert double.requests[0].body == double.requests[1].body
        assert double.requests[0].nonce != double.requests[1].nonce


async def test_a_declined_debit_is_a_value() -> None:
    said = debit_said(state="failed", failure={"code": "insufficient_funds"})
    async with bank_answering(lambda r: signed(r, said)) as (bank, _):
        seen = await bank.debit(DEBIT)
        assert seen.state is DebitState.FAILED
        assert seen.failure is not None
        assert seen.failure.cause is FailureCause.FUNDS


async def test_a_cancel_that_came_too_late_tells_the_debit() -> None:
    async with bank_answering(lambda r: signed(r, debit_said())) as (bank, _):
        assert (await bank.cancel_debit(DEBIT)).state is DebitState.SUCCEEDED


async def test_the_old_key_of_a_rotation_still_counts() -> None:
    answer = resealed(key=OLD_BANK_KEY, key_id="bank0")
    async with bank_answering(lambda r: answer(r, json.dumps(debit_said()).encode())) as (bank, _):
        assert (await bank.debit(DEBIT)).state is DebitState.SUCCEEDED


@pytest.mark.parametrize("bad", ["unsigned", "truncated", "altered", "500, signed", "signed by a stranger", "signed HTML"])
async def test_no_line_of_a_statement_is_given_out_before_all_of_it_is_verified(bad: str) -> None:
    said = CALLS["statement"][2]
    assert isinstance(said, bytes)
    async with bank_answering(lambda r: BAD_ANSWERS[bad](r, said), cut_after_answer=bad == "truncated") as (bank, _):
        lines: AsyncIterator[object] = bank.statement(date(2026, 3, 1))
        with pytest.raises(UnknownOutcome):
            await anext(lines)


@pytest.mark.parametrize("key", ["", "a-b", "a/b", "x" * 33, "é", "k1\n"])
async def test_a_key_that_the_bank_does_not_take_is_not_sent(key: str) -> None:
    async with bank_answering(lambda r: None) as (bank, double):
        for call in (
            bank.debit(replace(DEBIT, key=key)), bank.get_debit(replace(DEBIT, key=key)), bank.get_agreement(key),
            bank.refund(replace(REFUND, debit_key=key)),
        ):  # fmt: skip
            with pytest.raises(ValueError, match="not a key"):
                await call
        assert double.requests == []


@pytest.mark.parametrize("reference", ["", "a/b", "..", "a?b", "a%2fb", "a b"])
async def test_a_reference_that_would_change_the_path_is_not_sent(reference: str) -> None:
    async with bank_answering(lambda r: None) as (bank, double):
        for call in (
            bank.end_agreement(reference, reason=""), bank.bind_spender(reference, SPENDER),
            bank.unbind_spender("a-1", spender_ref=reference), bank.bind_spender("a-1", replace(SPENDER, ref=reference)),
        ):  # fmt: skip
            with pytest.raises(ValueError, match="not a reference"):
                await call
        assert double.requests == []
