"""Our signatures, worked out by hand from the page."""

from __future__ import annotations

import time
from base64 import b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from wire_double import BANK_KEY, BANK_KEYS, CLIENT_SECRET, Request, configuration, peer, signed

from kinpay.primitives.money import Money
from kinpay.primitives.sealed import Sealed
from kinpay.providers.contract import BadSignature, DebitRequest
from kinpay.providers.http import Answer
from kinpay.providers.sandbox_bank import signing
from kinpay.providers.sandbox_bank.adapter import SandboxBank, open_sandbox_bank
from kinpay.providers.sandbox_bank.configuration import read_configuration

DEBIT = DebitRequest(key="k1", agreement_ref="a-1", spender_ref=None, amount=Money(1, "CNY"), description="")


def closed(request: Request) -> bytes:
    return signed(request, {"key": "k1", "state": "cancelled", "failure": None})


def test_an_answer_is_verified_over_exactly_the_bytes_of_the_page() -> None:
    hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    signature = b64encode(BANK_KEY.sign(f"200\n17\nmine\n{hello}\n".encode())).decode()
    headers = {"kinbank-key": "b", "kinbank-timestamp": "17", "kinbank-nonce": "mine", "kinbank-signature": signature}
    keys = {"b": signing.read_public_key(BANK_KEYS["bank1"])}
    signing.verify_answer(Answer(status=200, headers=headers, body=b"hello"), keys, nonce="mine")
    for wrong in (
        Answer(status=201, headers=headers, body=b"hello"),
        Answer(status=200, headers=headers, body=b"hellO"),
        Answer(status=200, headers=headers | {"kinbank-timestamp": "18"}, body=b"hello"),
        Answer(status=200, headers=headers | {"kinbank-key": "c"}, body=b"hello"),
    ):
        with pytest.raises(BadSignature):
            signing.verify_answer(wrong, keys, nonce="mine")
    with pytest.raises(BadSignature):
        signing.verify_answer(Answer(status=200, headers=headers, body=b"hello"), keys, nonce="yours")


async def test_clock_and_nonce_come_from_outside_and_make_the_signature_exactly() -> None:
    stamp = int(time.time()) - 30
    async with peer(closed) as double:
        bank = SandboxBank(
            read_configuration(configuration(double.base_url)),
            secret=Sealed(CLIENT_SECRET),
            clock=lambda: stamp + 0.9,
            nonces=lambda: "nonce-0123456789",
        )
        await bank.get_debit(DEBIT)
        await bank.close()
        empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        text = f"GET\n/v1/debits/by-key/k1\n{stamp}\nnonce-0123456789\n{empty}\n"
        by_hand = b64encode(Ed25519PrivateKey.from_private_bytes(CLIENT_SECRET).sign(text.encode())).decode()
        assert double.requests[0].headers["authorization"] == (
            f'KINBANK-ED25519 keyid="client7",ts="{stamp}",nonce="nonce-0123456789",sig="{by_hand}"'
        )


def test_the_signed_bytes_are_those_of_the_page() -> None:
    hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert signing.request_text("POST", "/v1/x?y=z", timestamp="17", nonce="n", body=b"hello") == (
        b"POST\n/v1/x?y=z\n17\nn\n" + hello.encode() + b"\n"
    )
    assert signing.answer_text(201, timestamp="17", nonce="n", body_sha256=hello) == b"201\n17\nn\n" + hello.encode() + b"\n"


def test_secrets_do_not_show() -> None:
    bank = open_sandbox_bank(configuration("https://bank.example"), Sealed(CLIENT_SECRET))
    shown = repr(bank) + repr(bank.__dict__)
    assert CLIENT_SECRET.hex() not in shown
    assert repr(CLIENT_SECRET) not in shown
    assert BANK_KEY.private_bytes_raw() != CLIENT_SECRET
