"""The signature profile: an independent library understands it, and nothing about a signed request can be changed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import http_message_signatures
import httpx
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from http_message_signatures import HTTPMessageSigner, HTTPMessageVerifier, algorithms
from msgspec import structs

from kinpay.primitives.errors import Invalid, RequestStale, SignatureInvalid
from kinpay.primitives.sealed import Sealed
from kinpay.terminals.signature import (
    RequestParts,
    content_digest,
    read_claims,
    read_point,
    verify_ecdsa,
    verify_hmac,
)
from kinpay.terminals.terminal import SessionFacts
from kinpay_client.signing import OwnKeySigner, SessionSigner, Signer, TerminalKey, point_of, sign_request

SESSION, TERMINAL = "a" * 32, "b" * 32
KEY = TerminalKey.new()
SECRET = bytes(range(32))
FACTS = SessionFacts(
    session_id=SESSION, terminal_id=TERMINAL, operator_id="c" * 32, merchant_id="d" * 32, mcc="5814", site_id="e" * 32,
    kind="till", hold_s=60, hmac_key=Sealed(SECRET), expires_at=datetime(2030, 1, 1, tzinfo=UTC),
)  # fmt: skip
SIGNERS: dict[str, Signer] = {
    "hmac-sha256": SessionSigner(SESSION, SECRET, FACTS.expires_at),
    "ecdsa-p256-sha256": OwnKeySigner(TERMINAL, KEY),
}
both = pytest.mark.parametrize("algorithm", list(SIGNERS))


def ask(
    method: str = "POST", url: str = "/v1/charges?x=%20y&z", body: bytes = b'{"a":1}', key: str | None = "k-1"
) -> httpx.Request:
    headers = {} if key is None else {"idempotency-key": key}
    return httpx.Request(method, f"https://pay.example{url}", headers=headers, content=body)


def parts_of(request: httpx.Request) -> RequestParts:
    path, _, query = request.url.raw_path.partition(b"?")
    return RequestParts.of(request.method, path, query=query, headers=request.headers.raw, body=request.content)


def verify(parts: RequestParts, algorithm: str, now_s: float | None = None) -> Any:
    at = time.time() if now_s is None else now_s
    if algorithm == "hmac-sha256":
        return verify_hmac(parts, FACTS, now_s=at)
    return verify_ecdsa(parts, point_of(KEY.private), signer_id=TERMINAL, now_s=at)


class Keys(http_message_signatures.HTTPSignatureKeyResolver):
    """Keys as the library asks for them."""

    def resolve_private_key(self, key_id: str) -> Any:
        return SECRET if key_id == SESSION else load_pem_private_key(KEY.to_pem().encode(), None)

    def resolve_public_key(self, key_id: str) -> Any:
        return SECRET if key_id == SESSION else KEY.private.public_key()


def library_algorithm(name: str) -> Any:
    return algorithms.HMAC_SHA256 if name == "hmac-sha256" else algorithms.ECDSA_P256_SHA256


@both
@pytest.mark.parametrize("request_of", [ask, lambda: ask("GET", "/v1/terminal/commands", b"", None), lambda: ask("POST", "/")])
def test_the_library_verifies_what_the_terminal_signs(algorithm: str, request_of: Callable[[], httpx.Request]) -> None:
    request = request_of()
    sign_request(request, SIGNERS[algorithm], now_s=time.time())
    verifier = HTTPMessageVerifier(signature_algorithm=library_algorithm(algorithm), key_resolver=Keys())
    (result,) = verifier.verify(request, max_age=None, body=request.content)
    assert result.label == "kinpay"
    assert verify(parts_of(request), algorithm).signer_id == SIGNERS[algorithm].signer_id


@both
@pytest.mark.parametrize("key", ["k-1", None])
def test_the_server_verifies_what_the_library_signs(algorithm: str, key: str | None) -> None:
    request = ask(key=key)
    covered = ["@method", "@path", "@query", "content-digest", *(["idempotency-key"] if key else [])]
    signer = HTTPMessageSigner(signature_algorithm=library_algorithm(algorithm), key_resolver=Keys())
    key_id = SIGNERS[algorithm].signer_id
    signer.sign(request, key_id=key_id, nonce="n" * 22, label="kinpay", covered_component_ids=covered, body=request.content)
    assert verify(parts_of(request), algorithm).nonce == "n" * 22


def change(name: str, value: Callable[[Any], Any]) -> Callable[[RequestParts], RequestParts]:
    return lambda parts: structs.replace(parts, **{name: value(getattr(parts, name))})


def header(name: str, value: Callable[[str], str] | None) -> Callable[[RequestParts], RequestParts]:
    def changed(parts: RequestParts) -> RequestParts:
        headers = dict(parts.headers)
        if value is None:
            del headers[name]
        else:
            headers[name] = value(headers.get(name, ""))
        return structs.replace(parts, headers=headers)

    return changed


def put(name: str, old: str, new: str) -> Callable[[RequestParts], RequestParts]:
    def replaced(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return header(name, replaced)


def body_with_its_digest(parts: RequestParts) -> RequestParts:
    changed = structs.replace(parts, body=b'{"a":2}')
    return header("content-digest", lambda _: content_digest(changed.body))(changed)


TAMPERED: dict[str, Callable[[RequestParts], RequestParts]] = {
    "method": change("method", lambda _: "PUT"),
    "path": change("path", lambda path: path + "/x"),
    "path over two lines": change("path", lambda path: path + '\n"@query": ?'),
    "query": change("query", lambda query: query + "&w=1"),
    "query gone": change("query", lambda _: ""),
    "body": change("body", lambda body: body + b" "),
    "body and digest": body_with_its_digest,
    "digest gone": header("content-digest", None),
    "another digest beside": header("content-digest", lambda text: text + ", sha-512=:AAAA:"),
    "idempotency key": header("idempotency-key", lambda _: "k-2"),
    "idempotency key gone": header("idempotency-key", None),
    "signature gone": header("signature", None),
    "signature empty": header("signature", lambda _: ""),
    "signature cut": header("signature", lambda text: text[:-9] + ":"),
    "signature not ASCII": header("signature", lambda text: text + "é"),
    "signature of another label": put("signature", "kinpay=", "sig1="),
    "two signatures": header("signature", lambda text: f"{text}, {text}"),
    "input gone": header("signature-input", None),
    "input twice": header("signature-input", lambda text: f"{text}, {text}"),
    "fewer components": put("signature-input", ' "@query"', ""),
    "components in another order": put("signature-input", '"@method" "@path"', '"@path" "@method"'),
    "another component": put("signature-input", '"@method"', '"@authority"'),
    "key not covered": put("signature-input", ' "idempotency-key"', ""),
    "created": put("signature-input", ";created=1", ";created=2"),
    "created a fraction": put("signature-input", ";keyid", ".5;keyid"),
    "created gone": header("signature-input", lambda text: text[: text.index(";created")] + text[text.index(";keyid") :]),
    "nonce": put("signature-input", 'nonce="', 'nonce="x'),
    "nonce gone": header("signature-input", lambda text: text[: text.index(";nonce")]),
    "nonce too short": header("signature-input", lambda text: text[: text.index(";nonce")] + ';nonce="short"'),
    "another parameter": header("signature-input", lambda text: text + ";expires=9999999999"),
    "another signer": header("signature-input", lambda text: text.replace("a" * 32, "f" * 32).replace("b" * 32, "f" * 32)),
    "upper-case signer": header("signature-input", lambda text: text.replace("a" * 32, "A" * 32).replace("b" * 32, "B" * 32)),
    "unknown algorithm": header("signature-input", lambda text: text.replace('alg="', 'alg="none-')),
    "line break after": header("signature-input", lambda text: text + "\n"),
}  # fmt: skip


@both
@pytest.mark.parametrize("tampering", list(TAMPERED))
def test_whatever_is_changed_in_a_signed_request_is_noticed(algorithm: str, tampering: str) -> None:
    request = ask()
    sign_request(request, SIGNERS[algorithm], now_s=time.time())
    parts = parts_of(request)
    verify(parts, algorithm)
    with pytest.raises(SignatureInvalid):
        verify(TAMPERED[tampering](parts), algorithm)


@both
def test_a_key_that_was_not_signed_cannot_be_added(algorithm: str) -> None:
    request = ask(key=None)
    sign_request(request, SIGNERS[algorithm], now_s=time.time())
    with pytest.raises(SignatureInvalid):
        verify(header("idempotency-key", lambda _: "k-1")(parts_of(request)), algorithm)


def test_one_algorithm_never_passes_for_the_other() -> None:
    # The classic attack: sign with HMAC under the public key, which everybody knows.
    point = point_of(KEY.private)
    request = ask()
    sign_request(request, SessionSigner(TERMINAL, point, FACTS.expires_at), now_s=time.time())
    for algorithm in SIGNERS:
        with pytest.raises(SignatureInvalid):
            verify(parts_of(request), algorithm)
        with pytest.raises(SignatureInvalid):
            verify(put("signature-input", "hmac-sha256", "ecdsa-p256-sha256")(parts_of(request)), algorithm)


@both
@pytest.mark.parametrize(("seconds", "good"), [(-121, False), (-119, True), (0, True), (119, True), (121, False), (600, False)])
def test_a_signature_is_good_for_two_minutes_either_way(algorithm: str, seconds: int, good: bool) -> None:
    now_s = time.time() // 1
    request = ask()
    sign_request(request, SIGNERS[algorithm], now_s=now_s)
    if good:
        verify(parts_of(request), algorithm, now_s + seconds)
    else:
        with pytest.raises(RequestStale):
            verify(parts_of(request), algorithm, now_s + seconds)


@pytest.mark.parametrize("r_and_s", [(0, 0), (1, 1), (2**256 - 1, 2**256 - 1)])
def test_degenerate_ecdsa_signatures_are_refused(r_and_s: tuple[int, int]) -> None:
    request = ask()

    class Degenerate(OwnKeySigner):
        def sign(self, base: bytes) -> bytes:
            return b"".join(number.to_bytes(32, "big") for number in r_and_s)

    sign_request(request, Degenerate(TERMINAL, KEY), now_s=time.time())
    with pytest.raises(SignatureInvalid):
        verify(parts_of(request), "ecdsa-p256-sha256")


def test_random_bit_flips_of_the_headers_are_all_refused() -> None:
    chance = random.Random(20191)
    request = ask()
    sign_request(request, SIGNERS["hmac-sha256"], now_s=time.time())
    parts = parts_of(request)
    for _ in range(1000):
        name = chance.choice(["signature", "signature-input", "content-digest", "idempotency-key"])
        text = bytearray(parts.headers[name].encode())
        text[chance.randrange(len(text))] ^= 1 << chance.randrange(8)
        with pytest.raises((SignatureInvalid, RequestStale)):
            verify(header(name, lambda _, text=text: text.decode("latin-1"))(parts), "hmac-sha256")  # type: ignore[misc]


def test_repeated_headers_are_joined_and_then_refused() -> None:
    request = ask()
    sign_request(request, SIGNERS["hmac-sha256"], now_s=time.time())
    doubled = [*request.headers.raw, (b"Signature", request.headers["signature"].encode())]
    parts = RequestParts.of("POST", b"/v1/charges", query=b"x=%20y&z", headers=doubled, body=request.content)
    with pytest.raises(SignatureInvalid):
        verify(parts, "hmac-sha256")


def test_claims_say_who_signed_before_anything_is_verified() -> None:
    request = ask()
    sign_request(request, SIGNERS["hmac-sha256"], now_s=1_760_000_000)
    claims = read_claims(parts_of(request).headers)
    assert (claims.signer_id, claims.created_s, claims.covers_key) == (SESSION, 1_760_000_000, True)


@pytest.mark.parametrize("text", ["", "A", "A" * 87, "!" * 87, "BA" + "A" * 85, "ä" * 87])
def test_a_point_must_lie_on_the_curve(text: str) -> None:
    with pytest.raises(Invalid):
        read_point(text, "public_key")
