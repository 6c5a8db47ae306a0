"""Signed requests: one strict profile of HTTP Message Signatures, verified without I/O.

    Content-Digest:  sha-256=:…:
    Signature-Input: kinpay=("@method" "@path" "@query" "content-digest");created=…;keyid="…";alg="…";nonce="…"
    Signature:       kinpay=:…:

`"idempotency-key"` follows in the list exactly when the request has that header. `alg` is `hmac-sha256` with the session's
id as `keyid`, or `ecdsa-p256-sha256` with the terminal's. Nothing else is understood, so nothing else has to be thought about.
Source: RFC 9421 §2.5, §3.3.3, §3.3.4; RFC 9530 §2; threat A25.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from kinpay.primitives.errors import Invalid, RequestStale, SignatureInvalid
from kinpay.terminals.terminal import SessionFacts

SKEW_S: Final = 120
"""How far a terminal's clock may be from ours, either way."""
POINT_SIZE: Final = 65
_P256 = ec.SECP256R1()
_ECDSA = ec.ECDSA(SHA256())
_INPUT = re.compile(
    r'kinpay=(\("@method" "@path" "@query" "content-digest"( "idempotency-key")?\)'
    r';created=([1-9][0-9]{8,10});keyid="([0-9a-f]{32})";alg="(hmac-sha256|ecdsa-p256-sha256)";nonce="([A-Za-z0-9_-]{16,64})")'
)
_KEPT: Final = frozenset({b"authorization", b"content-digest", b"idempotency-key", b"signature", b"signature-input"})
_SIGNATURE = re.compile(r"kinpay=:([A-Za-z0-9+/]{86}==):")


class Algorithm(StrEnum):
    """The two ways a terminal signs."""

    HMAC = "hmac-sha256"
    """With its session's key: every ordinary request."""
    ECDSA = "ecdsa-p256-sha256"
    """With its own key: installing, opening sessions, captures, registrations."""


class RequestParts(msgspec.Struct, frozen=True, gc=False):
    """A request as it came: `path` and `query` (without `?`) percent-encoded as sent, header names in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def of(
        cls, method: str, raw_path: bytes, *, query: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes
    ) -> RequestParts:
        """From what an ASGI server gives; only headers on which something depends are kept.

        Repeated ones are joined by a comma, and then fail our strict forms.
        """
        joined: dict[str, str] = {}
        for name, value in headers:
            if (known := name.lower()) in _KEPT:
                key, text = known.decode("latin-1"), value.decode("latin-1").strip(" \t")
                joined[key] = f"{joined[key]}, {text}" if key in joined else text
        return cls(method, raw_path.decode("latin-1"), query.decode("latin-1"), joined, body)


class Claims(msgspec.Struct, frozen=True, gc=False):
    """What a signature says of itself, not yet verified. `parameters`: its signature parameters as sent."""

    algorithm: Algorithm
    signer_id: str
    nonce: str
    created_s: int
    parameters: str
    covers_key: bool


class Verified(msgspec.Struct, frozen=True, gc=False):
    """A signature that holds; whether its nonce is fresh is the database's to say."""

    signer_id: str
    nonce: str


def is_signed(headers: Mapping[str, str]) -> bool:
    """Whether a request claims to be signed at all."""
    return "signature-input" in headers or "signature" in headers


def read_claims(headers: Mapping[str, str]) -> Claims:
    """Reads `Signature-Input`. Raises: SignatureInvalid for whatever is not exactly our profile."""
    found = _INPUT.fullmatch(headers.get("signature-input", ""))
    if found is None:
        raise SignatureInvalid(reason="profile")
    parameters, key, created, signer_id, algorithm, nonce = found.groups()
    return Claims(Algorithm(algorithm), signer_id, nonce, int(created), parameters, key is not None)


def verify_hmac(parts: RequestParts, facts: SessionFacts, *, now_s: float, claims: Claims | None = None) -> Verified:
    """Verifies a request signed with a session's key. `now_s`: this process's wall clock; `claims` if read already.

    Raises: SignatureInvalid, RequestStale.
    """
    claims = claims or read_claims(parts.headers)
    if claims.algorithm is not Algorithm.HMAC or claims.signer_id != facts.session_id:
        raise SignatureInvalid(reason="signer")
    mac = hmac.digest(facts.hmac_key.open(), signature_base(parts, claims), "sha256")
    expected = b"kinpay=:" + binascii.b2a_base64(mac, newline=False) + b":"
    if not hmac.compare_digest(expected, parts.headers.get("signature", "").encode("utf-8")):
        raise SignatureInvalid(reason="signature")
    return _timely(claims, now_s)


def verify_ecdsa(parts: RequestParts, public_key: bytes, *, signer_id: str, now_s: float) -> Verified:
    """Verifies a request that the terminal `signer_id` signed with its own key (a P-256 point, uncompressed).

    Raises: SignatureInvalid, RequestStale.
    """
    claims = read_claims(parts.headers)
    if claims.algorithm is not Algorithm.ECDSA or claims.signer_id != signer_id:
        raise SignatureInvalid(reason="signer")
    found = _SIGNATURE.fullmatch(parts.headers.get("signature", ""))
    if found is None:
        raise SignatureInvalid(reason="signature")
    pair = base64.b64decode(found[1])
    r, s = int.from_bytes(pair[:32], "big"), int.from_bytes(pair[32:], "big")
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(_P256, public_key)
        key.verify(encode_dss_signature(r, s), signature_base(parts, claims), _ECDSA)
    except (InvalidSignature, ValueError):
        raise SignatureInvalid(reason="signature") from None
    return _timely(claims, now_s)


def signature_base(parts: RequestParts, claims: Claims) -> bytes:
    """The octets under the signature (RFC 9421 §2.5), once the digest is found to be the body's.

    Raises: SignatureInvalid.
    """
    headers = parts.headers
    digest = content_digest(parts.body)
    if headers.get("content-digest") != digest:
        raise SignatureInvalid(reason="digest")
    key = headers.get("idempotency-key")
    if (key is not None) is not claims.covers_key:
        raise SignatureInvalid(reason="idempotency-key")
    keyed = "" if key is None else f'"idempotency-key": {key}\n'
    base = (
        f'"@method": {parts.method}\n"@path": {parts.path or "/"}\n"@query": ?{parts.query}\n'
        f'"content-digest": {digest}\n{keyed}"@signature-params": {claims.parameters}'
    )
    # A line break inside a value would let one component pass for two.
    if not base.isascii() or base.count("\n") != (4 if key is None else 5):
        raise SignatureInvalid(reason="characters")
    return base.encode("ascii")


def content_digest(body: bytes) -> str:
    """The `Content-Digest` of a body (RFC 9530)."""
    digest = binascii.b2a_base64(hashlib.sha256(body).digest(), newline=False)
    return f"sha-256=:{digest.decode('ascii')}:"


def read_point(text: str, field: str) -> bytes:
    """A P-256 public point, uncompressed, from base64url without padding; it is checked to lie on the curve.

    Raises: Invalid.
    """
    try:
        point = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        if len(point) != POINT_SIZE:
            raise ValueError("size")
        ec.EllipticCurvePublicKey.from_encoded_point(_P256, point)
    except (ValueError, binascii.Error):
        raise Invalid("point_malformed", field=field) from None
    return point


def _timely(claims: Claims, now_s: float) -> Verified:
    if abs(now_s - claims.created_s) > SKEW_S:
        raise RequestStale(server_time_s=int(now_s))
    return Verified(claims.signer_id, claims.nonce)
