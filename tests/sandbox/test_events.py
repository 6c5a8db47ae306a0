"""How the bank tells its clients: signed, in order, again and again; and forged when told to."""

from __future__ import annotations

import asyncio
import base64
import time
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature

from kinpay_sandbox.remote import BankControl, Forgery
from tests.sandbox.asking import Ear, Operator, digest, new_customer, new_operator, until
from tests.sandbox.conftest import BankProcess


def is_true(operator: Operator, heard: tuple[str, dict[str, str], bytes]) -> bool:
    """Whether a sending is really the bank's, and of now."""
    line, headers, body = heard
    target = line.split(" ")[1]
    ts, nonce = headers["kinbank-timestamp"], headers["kinbank-nonce"]
    text = f"POST\n{target}\n{ts}\n{nonce}\n{digest(body)}\n".encode()
    try:
        operator.bank_key.verify(base64.b64decode(headers.get("kinbank-signature", "")), text)
    except InvalidSignature:
        return False
    return abs(time.time() - int(ts)) <= 300 and headers["kinbank-key"] == operator.bank_key_id


async def several(operator: Operator, control: BankControl, payer: str, *, count: int) -> list[str]:
    """Cause `count` events one after the other and return their debit keys."""
    agreement_id = await operator.agreement(payer)
    await control.misbehave("debit", "pending", times=count)
    keys = [(await operator.debit(agreement_id, 1))["key"] for _ in range(count)]
    for key in keys:
        await control.finish_debit(key, "succeeded")
    return keys


def told_keys(operator: Operator) -> list[str]:
    """The debit keys heard of, in order."""
    return [event["data"]["key"] for event in operator.ear.told() if event["type"] == "debit.succeeded"]


async def test_events_are_signed_and_in_order(operator: Operator, control: BankControl, payer: str) -> None:
    keys = await several(operator, control, payer, count=8)
    await until(lambda: len(operator.ear.heard) == 9)
    assert told_keys(operator) == keys
    assert all(is_true(operator, heard) for heard in operator.ear.heard)
    event = operator.ear.told()[1]
    assert operator.ear.heard[1][0] == "POST /callbacks/bank?of=1 HTTP/1.1"
    assert operator.ear.heard[1][1]["kinbank-nonce"] == event["event_id"]
    assert set(event) == {"event_id", "type", "created_at", "data"}
    # Only what finished after its answer is told, unless the client asked for everything.
    await operator.debit(event["data"]["agreement_id"], 1)
    await control.change_client(operator.client_id, notify_all=True)
    everything = await operator.debit(event["data"]["agreement_id"], 2)
    await operator.refund(everything["key"], 1)
    await until(lambda: operator.ear.types()[9:] == ["debit.succeeded", "refund.succeeded"])
    assert operator.ear.told()[9]["data"] == everything


async def test_an_event_that_is_not_taken_comes_again_with_the_same_id(
    operator: Operator, control: BankControl, payer: str
) -> None:
    operator.ear.statuses = [500, 302]
    agreement_id = await operator.agreement(payer)
    await until(lambda: len(operator.ear.heard) == 3, within_s=6)
    assert len({headers["kinbank-nonce"] for _, headers, _ in operator.ear.heard}) == 1
    assert all(is_true(operator, heard) for heard in operator.ear.heard)
    await asyncio.sleep(0.2)  # the bank writes the answer down after it has come
    (told,) = await control.events(operator.client_id)
    assert (told["type"], told["state"]) == ("agreement.active", "delivered")
    assert [one["status"] for one in told["sendings"]] == [500, 302, 204]
    assert operator.ear.told()[0]["data"]["agreement_id"] == agreement_id


async def test_held_events_leave_when_released(operator: Operator, control: BankControl, payer: str) -> None:
    await control.send_events("hold")
    keys = await several(operator, control, payer, count=3)
    await asyncio.sleep(0.2)
    assert operator.ear.heard == []
    await control.release_events()
    await until(lambda: len(operator.ear.heard) == 4)
    assert told_keys(operator) == keys


async def test_reversed_events_leave_newest_first(operator: Operator, control: BankControl, payer: str) -> None:
    await control.send_events("reverse")
    keys = await several(operator, control, payer, count=3)
    await control.release_events()
    await until(lambda: len(operator.ear.heard) == 4)
    assert told_keys(operator) == keys[::-1]
    assert operator.ear.types()[-1] == "agreement.active"


async def test_duplicated_events_come_at_once_under_one_id(operator: Operator, control: BankControl, payer: str) -> None:
    await control.send_events("duplicate", copies=8)
    await operator.agreement(payer)
    await until(lambda: len(operator.ear.heard) == 8)
    assert len({body for _, _, body in operator.ear.heard}) == 1
    assert all(is_true(operator, heard) for heard in operator.ear.heard)


async def test_delayed_events_are_late(operator: Operator, control: BankControl, payer: str) -> None:
    await control.send_events("normal", delay_s=0.5)
    began = time.monotonic()
    await operator.agreement(payer)
    await until(lambda: len(operator.ear.heard) == 1)
    assert time.monotonic() - began >= 0.5


async def test_in_forge_mode_four_lies_come_before_the_truth(operator: Operator, control: BankControl, payer: str) -> None:
    await control.send_events("forge")
    await operator.agreement(payer)
    await until(lambda: len(operator.ear.heard) == 5)
    assert [is_true(operator, heard) for heard in operator.ear.heard] == [False] * 4 + [True]
    assert len({headers["kinbank-nonce"] for _, headers, _ in operator.ear.heard}) == 1


@pytest.mark.parametrize("how", ["unsigned", "wrong_key", "altered", "stale"])
async def test_a_forged_event_never_verifies(operator: Operator, control: BankControl, how: Forgery) -> None:
    operator.ear.statuses = [401]
    data: dict[str, Any] = {"key": "K1", "state": "succeeded"}
    status = await control.forge_event("debit.succeeded", data=data, how=how, client_id=operator.client_id)
    assert status == 401
    (heard,) = operator.ear.heard
    assert not is_true(operator, heard)
    assert operator.ear.told()[0]["type"] == "debit.succeeded"


async def test_nothing_is_forgotten_by_a_stop_or_a_kill(mortal_bank: BankProcess, ear: Ear) -> None:
    async with BankControl(mortal_bank.base_url) as control:
        operator = await new_operator(control, mortal_bank.base_url, ear=ear)
        payer = await new_customer(control)
        await control.send_events("hold")
        agreement_id = await operator.agreement(payer)
        await control.misbehave("debit", "pending", seconds=1.2)
        late = await operator.debit(agreement_id, 7)
        await operator.debit(agreement_id, 9, key="KEPT")
        nonce = "n" * 20
        headers = operator.signed_headers("GET", "/v1/debits/by-key/KEPT", body=b"", nonce=nonce)
        await operator.send("GET", "/v1/debits/by-key/KEPT", body=b"", headers=headers, nonce=nonce)
    port = mortal_bank.port
    assert await asyncio.to_thread(mortal_bank.stop) == 0
    await asyncio.to_thread(mortal_bank.start, port)
    await until(lambda: operator.ear.types() == ["agreement.active", "debit.succeeded"])
    assert operator.ear.told()[1]["data"]["key"] == late["key"]
    assert all(is_true(operator, heard) for heard in operator.ear.heard)
    await asyncio.to_thread(mortal_bank.kill)
    await asyncio.to_thread(mortal_bank.start, port)
    again = await operator.send("GET", "/v1/debits/by-key/KEPT", body=b"", headers=headers, nonce=nonce)
    assert again.code == "replayed"
    assert (await operator.debit(agreement_id, 9, key="KEPT"))["state"] == "succeeded"
    async with BankControl(mortal_bank.base_url) as control:
        books = await control.books()
        assert books["balanced"], books["faults"]
        assert books["customers"][0]["debited_minor"] == 16
    await operator.http.aclose()
