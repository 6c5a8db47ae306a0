"""HTTP Message Signatures in kinpay's one profile, and the two kinds of key that make them.

Source: RFC 9421 §2.5, §3.3.3, §3.3.4; RFC 9530 §2; RFC 5869.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

_CURVE: Final = ec.SECP256R1()


class Signer(Protocol):
    """Something that signs octets under a name that the server knows."""

    @property
    def algorithm(self) -> str:
        """Its name in RFC 9421's registry."""

    @property
    def signer_id(self) -> str:
        """The `keyid`."""

    def sign(self, base: bytes) -> bytes:
        """The signature over `base`."""


@dataclass(frozen=True, slots=True, repr=False)
class TerminalKey:
    """A terminal's own P-256 key; it never leaves the device."""

    private: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls) -> TerminalKey:
        """A fresh key."""
        return cls(ec.generate_private_key(_CURVE))

    @classmethod
    def from_pem(cls, text: str) -> TerminalKey:
        """The key from unencrypted PKCS #8 PEM. Raises: ValueError for anything but a P-256 key."""
        private = load_pem_private_key(text.encode(), password=None)
        if not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name != _CURVE.name:
            raise ValueError("not a P-256 key")
        return cls(private)

    def to_pem(self) -> str:
        """Unencrypted PKCS #8 PEM: whoever writes it somewhere guards it."""
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def public_point(self) -> str:
        """The public key: uncompressed point, base64url without padding."""
        return _text(point_of(self.private))


@dataclass(frozen=True, slots=True)
class OwnKeySigner:
    """Signs as the terminal itself."""

    terminal_id: str
    key: TerminalKey

    @property
    def algorithm(self) -> str:
        """ECDSA over P-256."""
        return "ecdsa-p256-sha256"

    @property
    def signer_id(self) -> str:
        """The terminal's id."""
        return self.terminal_id

    def sign(self, base: bytes) -> bytes:
        """r and s, 32 bytes each."""
        r, s = decode_dss_signature(self.key.private.sign(base, ec.ECDSA(SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


@dataclass(frozen=True, slots=True, repr=False)
class SessionSigner:
    """Signs with a session's key, which was agreed on and never sent."""

    session_id: str
    key: bytes
    expires_at: datetime

    @property
    def algorithm(self) -> str:
        """HMAC with SHA-256."""
        return "hmac-sha256"

    @property
    def signer_id(self) -> str:
        """The session's id."""
        return self.session_id

    def sign(self, base: bytes) -> bytes:
        """32 bytes."""
        return hmac.digest(self.key, base, "sha256")


def sign_request(request: httpx.Request, signer: Signer, *, now_s: float) -> None:
    """Adds `Content-Digest`, `Signature-Input` and `Signature`; `now_s`: seconds since the epoch by the server's clock."""
    digest = base64.b64encode(hashlib.sha256(request.content).digest()).decode()
    request.headers["content-digest"] = f"sha-256=:{digest}:"
    path, _, query = request.url.raw_path.decode("ascii").partition("?")
    components = {
        "@method": request.method,
        "@path": path,
        "@query": f"?{query}",
        "content-digest": request.headers["content-digest"],
    }
    if "idempotency-key" in request.headers:
        components["idempotency-key"] = request.headers["idempotency-key"]
    names = " ".join(f'"{name}"' for name in components)
    parameters = (
        f'({names});created={int(now_s)};keyid="{signer.signer_id}";alg="{signer.algorithm}"'
        f';nonce="{secrets.token_urlsafe(18)}"'
    )
    lines = [f'"{name}": {value}' for name, value in components.items()]
    base = "\n".join([*lines, f'"@signature-params": {parameters}']).encode("ascii")
    request.headers["signature-input"] = f"kinpay={parameters}"
    request.headers["signature"] = f"kinpay=:{base64.b64encode(signer.sign(base)).decode()}:"


class ConfirmationWrong(Exception):
    """Whoever answered does not hold the key that we agreed on with the server."""


@dataclass(frozen=True, slots=True, repr=False)
class Agreeing:
    """Our half of an agreement on a session key: an ephemeral key and a nonce."""

    private: ec.EllipticCurvePrivateKey
    nonce: str

    @classmethod
    def begin(cls) -> Agreeing:
        """A fresh half."""
        return cls(ec.generate_private_key(_CURVE), _text(os.urandom(24)))

    def asked(self) -> dict[str, Any]:
        """What is sent to the server."""
        return {"agreement_key": _text(point_of(self.private)), "nonce": self.nonce}

    def finish(self, answer: dict[str, Any], *, terminal_id: str) -> SessionSigner:
        """The session, once the server has proved to hold the same key.

        Raises: ConfirmationWrong; ValueError for a point off the curve.
        """
        session_id, ours, theirs = answer["session_id"], point_of(self.private), _bytes(answer["agreement_key"])
        public = ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, theirs)
        info = b"kinpay terminal session" + terminal_id.encode() + session_id.encode()
        nonce = self.nonce.encode()
        key = HKDF(SHA256(), 32, salt=nonce, info=info).derive(self.private.exchange(ec.ECDH(), public))
        transcript = b"kinpay session confirmation" + session_id.encode() + ours + theirs + nonce
        if not hmac.compare_digest(hmac.digest(key, transcript, "sha256"), _bytes(answer["confirmation"])):
            raise ConfirmationWrong()
        return SessionSigner(session_id, key, datetime.fromisoformat(answer["expires_at"]))


def point_of(private: ec.EllipticCurvePrivateKey) -> bytes:
    """The public point, uncompressed: 65 bytes."""
    return private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
