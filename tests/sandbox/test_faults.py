"""The bank misbehaves exactly as it is told to, and its books stay right."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest

from kinpay_sandbox.remote import BankControl, ControlError
from tests.sandbox.asking import Operator, UnverifiedAnswerError, fresh, until


async def booked(control: BankControl, key: str) -> int:
    """How often the money of the debit moved; 0 as well when the bank knows nothing of it."""
    return sum(int(one["bookings"]) for one in await control.debits() if one["key"] == key)


async def test_refuse_fails_the_debit_with_its_code_for_ever(operator: Operator, control: BankControl, payer: str) -> None:
    agreement_id = await operator.agreement(payer)
    order = operator.order(agreement_id, 5)
    await control.misbehave("debit", "refuse", code="risk", key=order["key"])
    assert (await operator.debit(agreement_id, 5))["state"] == "succeeded"
    first = await operator.call("POST", "/v1/debits", order)
    assert first.json["failure"] == {"code": "risk"}
    assert (await operator.call("POST", "/v1/debits", order)).json == first.json


async def test_refuse_on_other_calls_answers_the_code(operator: Operator, control: BankControl, payer: str) -> None:
    agreement_id = await operator.agreement(payer)
    debit = await operator.debit(agreement_id, 5)
    path, one = f"/v1/debits/by-key/{debit['key']}", f"/v1/agreements/{agreement_id}"
    await control.misbehave("get_debit", "refuse", code="not_found", times=2)
    answers = [await operator.call("GET", path) for _ in range(3)]
    assert [answer.status for answer in answers] == [404, 404, 200]
    await control.misbehave("cancel", "refuse", code="busy", key=debit["key"])
    await control.misbehave("end", "refuse", code="busy", key=agreement_id)
    await control.misbehave("bind_spender", "refuse", code="busy")
    await control.misbehave("remove_spender", "refuse", code="busy")
    await control.misbehave("agreement", "refuse", code="unknown_payer_account")
    await control.misbehave("get_agreement", "refuse", code="busy")
    calls: list[tuple[str, str, object]] = [
        ("POST", path + "/cancel", None),
        ("POST", one + "/end", {"reason": ""}),
        ("POST", one + "/spenders", {"ref": "S9", "name": "x"}),
        ("POST", one + "/spenders/S1/remove", None),
        ("POST", "/v1/agreements", operator.terms(payer)),
        ("GET", one, None),
    ]
    codes = [(await operator.call(method, target, body)).code for method, target, body in calls]
    assert codes == ["busy", "busy", "busy", "busy", "unknown_payer_account", "busy"]
    assert (await operator.call("GET", one)).json["state"] == "active"
    assert await control.faults() == []
    await control.misbehave("refund", "refuse", code="account_frozen")
    assert (await operator.refund(debit["key"], 1))["failure"] == {"code": "account_frozen"}


async def test_pending_finishes_by_itself(operator: Operator, control: BankControl, payer: str) -> None:
    agreement_id = await operator.agreement(payer)
    await control.misbehave("debit", "pending", seconds=0.2)
    await control.misbehave("debit", "pending", seconds=0.1, code="insufficient_funds")
    good, bad = await operator.debit(agreement_id, 5), await operator.debit(agreement_id, 6)
    assert [good["state"], bad["state"]] == ["pending", "pending"]
    assert (await operator.call("POST", "/v1/debits", operator.order(agreement_id, 5, key=good["key"]))).json == good
    await until(lambda: len(operator.ear.heard) == 3)
    assert operator.ear.types()[1:] == ["debit.failed", "debit.succeeded"]
    told = (await operator.call("GET", f"/v1/debits/by-key/{bad['key']}")).json
    assert (told["state"], told["failure"]) == ("failed", {"code": "insufficient_funds"})
    await control.misbehave("refund", "pending", seconds=0.05)
    refund = await operator.refund(good["key"], 5)
    assert refund["state"] == "pending"
    await until(lambda: "refund.succeeded" in operator.ear.types())


@pytest.mark.parametrize("when", ["before", "after"])
async def test_hanging_and_cutting_look_alike_from_outside(
    operator: Operator, control: BankControl, payer: str, when: Any
) -> None:
    agreement_id = await operator.agreement(payer)
    order = operator.order(agreement_id, 5)
    path = f"/v1/debits/by-key/{order['key']}"
    await control.misbehave("debit", "drop_before_commit" if when == "before" else "drop_after_commit")
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        await operator.call("POST", "/v1/debits", order)
    assert (await operator.call("GET", path)).status == (404 if when == "before" else 200)
    assert (await operator.call("POST", "/v1/debits", order)).json["state"] == "succeeded"
    assert await booked(control, order["key"]) == 1

    slow = operator.order(agreement_id, 6)
    slow_path = f"/v1/debits/by-key/{slow['key']}"
    await control.misbehave("debit", "hang_before_commit" if when == "before" else "hang_after_commit", seconds=0.6)
    with pytest.raises(httpx.ReadTimeout):
        await operator.call("POST", "/v1/debits", slow, timeout_s=0.3)
    seen = await operator.call("GET", slow_path)
    assert seen.status == (404 if when == "before" else 200)
    # What hung before committing commits later, though nobody waits for it any more.
    deadline = time.monotonic() + 5
    while (await operator.call("GET", slow_path)).status == 404:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert await booked(control, slow["key"]) == 1


async def test_a_cancel_beats_a_debit_that_still_hangs(operator: Operator, control: BankControl, payer: str) -> None:
    order = operator.order(await operator.agreement(payer), 5)
    await control.misbehave("debit", "hang_before_commit", seconds=0.4)
    hanging = asyncio.create_task(operator.call("POST", "/v1/debits", order))
    await asyncio.sleep(0.1)
    closed = await operator.call("POST", f"/v1/debits/by-key/{order['key']}/cancel")
    assert closed.json["state"] == "cancelled"
    assert (await hanging).json["failure"] == {"code": "closed"}
    assert await booked(control, order["key"]) == 0


async def test_garbage_never_passes_for_an_answer_about_this_order(
    operator: Operator, control: BankControl, payer: str
) -> None:
    agreement_id = await operator.agreement(payer)
    order = operator.order(agreement_id, 500)
    await control.misbehave("debit", "garbage", form="html")
    with pytest.raises(UnverifiedAnswerError):
        await operator.call("POST", "/v1/debits", order)
    assert await booked(control, order["key"]) == 1
    await control.misbehave("debit", "garbage", form="unsigned")
    with pytest.raises(UnverifiedAnswerError):
        await operator.call("POST", "/v1/debits", order)
    await control.misbehave("debit", "garbage", form="truncated")
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        await operator.call("POST", "/v1/debits", order)
    await control.misbehave("debit", "garbage", form="error_500")
    answer = await operator.call("POST", "/v1/debits", order)
    assert (answer.status, answer.code) == (500, "internal")
    await control.misbehave("debit", "garbage", form="wrong_amount")
    assert (await operator.call("POST", "/v1/debits", order)).json["amount_minor"] == 501
    await control.misbehave("get_debit", "garbage", form="other_order")
    answer = await operator.call("GET", f"/v1/debits/by-key/{order['key']}")
    assert answer.json["key"] not in (order["key"], "")
    assert await booked(control, order["key"]) == 1


async def test_garbage_without_commit_does_nothing(operator: Operator, control: BankControl, payer: str) -> None:
    order = operator.order(await operator.agreement(payer), 500)
    await control.misbehave("debit", "garbage", form="error_500", commit=False)
    assert (await operator.call("POST", "/v1/debits", order)).status == 500
    assert (await operator.call("GET", f"/v1/debits/by-key/{order['key']}")).status == 404


async def test_twisted_agreements_and_refunds(operator: Operator, control: BankControl, payer: str) -> None:
    terms = operator.terms(payer)
    await control.misbehave("agreement", "garbage", form="wrong_amount")
    twisted = await operator.call("POST", "/v1/agreements", terms)
    assert twisted.json["limits"]["per_debit_minor"] == 1
    debit = await operator.debit(await operator.agreement(payer), 10)
    await control.misbehave("get_refund", "garbage", form="wrong_amount")
    refund = await operator.refund(debit["key"], 4)
    assert (await operator.call("GET", f"/v1/refunds/by-key/{refund['key']}")).json["amount_minor"] == 5


async def test_times_match_and_heal(operator: Operator, control: BankControl, payer: str) -> None:
    agreement_id = await operator.agreement(payer)
    key = fresh()
    await control.misbehave("get_debit", "refuse", code="x", key=key, times=2)
    assert (await operator.call("GET", f"/v1/debits/by-key/{fresh()}")).code == "not_found"
    assert (await operator.call("GET", f"/v1/debits/by-key/{key}")).code == "x"
    assert [one["times"] for one in await control.faults()] == [1]
    await control.heal()
    assert (await operator.call("GET", f"/v1/debits/by-key/{key}")).code == "not_found"
    assert (await operator.debit(agreement_id, 1))["state"] == "succeeded"


async def test_a_fault_that_makes_no_sense_is_refused(control: BankControl) -> None:
    wrong: list[dict[str, Any]] = [
        {"operation": "debit", "kind": "garbage"},
        {"operation": "debit", "kind": "refuse"},
        {"operation": "cancel", "kind": "pending"},
        {"operation": "debit", "kind": "explode"},
        {"operation": "nothing", "kind": "refuse", "code": "x"},
    ]
    for fault in wrong:
        with pytest.raises(ControlError, match="bad_request"):
            await control._call("POST", "/faults", fault)
