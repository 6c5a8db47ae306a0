"""A callback is believed only if the bank itself sent exactly this, here, just now."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from wire_double import ACCOUNT, BANK_KEY, CLIENT_SECRET, OLD_BANK_KEY, STRANGER, configuration

from kinpay.primitives.money import Money
from kinpay.primitives.sealed import Sealed
from kinpay.providers.contract import (
    AgreementState,
    BadSignature,
    DebitState,
    Inbound,
    ProviderAgreement,
    ProviderDebit,
    ProviderRefund,
)
from kinpay.providers.sandbox_bank.adapter import SandboxBank, open_sandbox_bank

PATH = "/v1/providers/bank/events"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DEBIT = {
    "debit_id": "d1", "key": "k1", "state": "succeeded", "failure": None, "amount_minor": 1400, "currency": "CNY",
    "agreement_id": "a1", "spender_ref": "s1", "refunded_minor": 0, "created_at": "2026-03-01T12:00:00Z", "finished_at": None,
}  # fmt: skip
AGREEMENT: dict[str, object] = {
    "agreement_id": "a1", "key": "k2", "state": "ended", "approve_url": "https://b.example/a", "expires_at": None,
    "payer_account_id": "p1", "account": ACCOUNT, "business_type": "meals", "limits": {}, "ended_by": "bank",
    "spenders": [{"ref": "s1", "name": "x", "state": "removed"}],
}  # fmt: skip
REFUND = {
    "refund_id": "r1", "key": "k3", "debit_key": "k1", "state": "failed", "failure": {"code": "over_refund"},
    "amount_minor": 1, "currency": "CNY",
}  # fmt: skip


def event_body(kind: str = "debit.succeeded", data: object = DEBIT, event_id: str = "event-000000000001") -> bytes:
    event = {"event_id": event_id, "type": kind, "created_at": "2026-03-01T12:00:00Z", "data": data}
    return json.dumps(event, indent=1, ensure_ascii=False).encode()


def event(
    body: bytes | None = None,
    *,
    key: Ed25519PrivateKey = BANK_KEY,
    key_id: str = "bank1",
    nonce: str = "event-000000000001",
    at: datetime = NOW,
    method: str = "POST",
) -> Inbound:
    raw = event_body() if body is None else body
    timestamp = str(int(at.timestamp()))
    text = f"{method}\n{PATH}\n{timestamp}\n{nonce}\n{hashlib.sha256(raw).hexdigest()}\n"
    headers = {
        "Kinbank-Key": key_id,
        "Kinbank-Timestamp": timestamp,
        "Kinbank-Nonce": nonce,
        "Kinbank-Signature": b64encode(key.sign(text.encode())).decode(),
        "Content-Type": "application/json",
    }
    return Inbound(method=method, path=PATH, headers=headers, body=raw, received_at=NOW)


def bank() -> SandboxBank:
    return open_sandbox_bank(configuration("https://bank.example"), Sealed(CLIENT_SECRET))


def test_a_signed_event_is_read() -> None:
    seen = bank().receive(event())
    assert seen.notice_id == "event-000000000001"
    assert isinstance(seen.seen, ProviderDebit)
    assert (seen.seen.key, seen.seen.state, seen.seen.amount) == ("k1", DebitState.SUCCEEDED, Money(1400, "CNY"))


def test_agreements_and_refunds_are_read_too() -> None:
    ended = bank().receive(event(event_body("agreement.ended", AGREEMENT))).seen
    assert isinstance(ended, ProviderAgreement)
    assert (ended.state, ended.ended_by, ended.removed_spender_refs) == (AgreementState.ENDED, "bank", frozenset(("s1",)))
    refund = bank().receive(event(event_body("refund.failed", REFUND))).seen
    assert isinstance(refund, ProviderRefund)
    assert refund.failure is not None
    assert (refund.state, refund.failure.code) == (DebitState.FAILED, "over_refund")


def test_the_old_key_of_a_rotation_still_counts_and_header_names_have_no_case() -> None:
    rotated = event(key=OLD_BANK_KEY, key_id="bank0")
    lowered = replace(rotated, headers={name.lower(): value for name, value in rotated.headers.items()})
    assert bank().receive(lowered).seen is not None


@pytest.mark.parametrize("away_s", [-300, 300])
def test_the_window_includes_its_ends(away_s: int) -> None:
    assert bank().receive(event(at=NOW + timedelta(seconds=away_s))).seen is not None


@pytest.mark.parametrize(
    ("kind", "data"),
    [("debit.reversed", DEBIT), ("lottery.won", {}), ("debit.succeeded", {**DEBIT, "state": "odd"}),
     ("debit.succeeded", {**DEBIT, "amount_minor": "14"}), ("debit.succeeded", []), (7, DEBIT),
     ("agreement.ended", {**AGREEMENT, "account": "another"})],
)  # fmt: skip
def test_a_signed_event_that_we_cannot_read_says_nothing(kind: str, data: object) -> None:
    seen = bank().receive(event(event_body(kind, data)))
    assert (seen.notice_id, seen.seen) == ("event-000000000001", None)


def with_header(name: str, value: str | None) -> Callable[[Inbound], Inbound]:
    def change(inbound: Inbound) -> Inbound:
        headers = {key: text for key, text in inbound.headers.items() if key != name}
        return replace(inbound, headers=headers if value is None else {**headers, name: value})

    return change


def edited(name: str, edit: Callable[[str], str]) -> Callable[[Inbound], Inbound]:
    return lambda inbound: with_header(name, edit(inbound.headers[name]))(inbound)


def other_last_bits(signature: str) -> str:
    """The same 64 bytes in another spelling: base64 leaves four bits of the last digit unused."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return signature[:85] + alphabet[alphabet.index(signature[85]) ^ 1] + "=="


MUTATIONS: dict[str, Callable[[Inbound], Inbound]] = {
    "the body gains a space": lambda i: replace(i, body=i.body + b" "),
    "the amount is altered": lambda i: replace(i, body=i.body.replace(b"1400", b"1401")),
    "the body is reformatted": lambda i: replace(i, body=json.dumps(json.loads(i.body)).encode()),
    "the body is empty": lambda i: replace(i, body=b""),
    "the path is another": lambda i: replace(i, path=PATH + "/"),
    "the path gains a query": lambda i: replace(i, path=PATH + "?a=b"),
    "the method is another": lambda i: replace(i, method="PUT"),
    "the method is another, and signed": lambda i: event(method="PUT"),
    "the time is a second later": edited("Kinbank-Timestamp", lambda text: str(int(text) + 1)),
    "the time is missing": with_header("Kinbank-Timestamp", None),
    "the time has a sign": edited("Kinbank-Timestamp", lambda text: "+" + text),
    "the time has a fraction": edited("Kinbank-Timestamp", lambda text: text + ".0"),
    "the time is in other digits": edited(
        "Kinbank-Timestamp", lambda text: text.translate({48 + i: 0x660 + i for i in range(10)})
    ),
    "the time is a line longer": edited("Kinbank-Timestamp", lambda text: text + "\n"),
    "the nonce is another": with_header("Kinbank-Nonce", "event-000000000002"),
    "the nonce is missing": with_header("Kinbank-Nonce", None),
    "the nonce has a line in it": edited("Kinbank-Nonce", lambda text: text + "\nx"),
    "the key is unknown": with_header("Kinbank-Key", "bank9"),
    "the key is another one of the bank": with_header("Kinbank-Key", "bank0"),
    "the key is missing": with_header("Kinbank-Key", None),
    "the signature is missing": with_header("Kinbank-Signature", None),
    "the signature is empty": with_header("Kinbank-Signature", ""),
    "the signature is cut": edited("Kinbank-Signature", lambda text: text[:-4]),
    "the signature is no base64": with_header("Kinbank-Signature", "%%%"),
    "the signature is not ASCII": with_header("Kinbank-Signature", "é"),
    "the signature has a bit flipped": edited("Kinbank-Signature", lambda text: ("B" if text[0] != "B" else "C") + text[1:]),
    "the signature is spelt otherwise": edited("Kinbank-Signature", other_last_bits),
    "the signature has a blank": edited("Kinbank-Signature", lambda text: text[:10] + " " + text[10:]),
    "the signature is another message's": lambda i: with_header(
        "Kinbank-Signature", event(event_body("debit.failed")).headers["Kinbank-Signature"]
    )(i),
    "a header comes twice, the good one last": lambda i: replace(i, headers={"kinbank-key": "bank0", **i.headers}),
    "a stranger signed it": lambda i: event(key=STRANGER),
    "a stranger signed it under their own name": lambda i: event(key=STRANGER, key_id="stranger"),
    "it is from too long ago": lambda i: event(at=NOW - timedelta(seconds=301)),
    "it is from the future": lambda i: event(at=NOW + timedelta(seconds=301)),
    "it comes again after the window": lambda i: replace(i, received_at=NOW + timedelta(minutes=6)),
    "its body names another event": lambda i: event(event_body(event_id="event-000000000002")),
    "its body names no event": lambda i: event(b"{}"),
    "its body is no JSON": lambda i: event(b"hello"),
    "its body says things twice": lambda i: event(b'{"event_id":"event-000000000001",' + event_body()[1:]),
}


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS.keys())
def test_nothing_is_believed_if(mutation: Callable[[Inbound], Inbound]) -> None:
    with pytest.raises(BadSignature):
        bank().receive(mutation(event()))
