"""Ed25519 in both directions: the strings that are signed, and the header in which a client signs.

Source: docs/sandbox-bank.md §2.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

WINDOW_S = 300
AUTHORIZATION = re.compile(
    r'KINBANK-ED25519 keyid="([A-Za-z0-9_-]{1,64})",\s?ts="([0-9]{1,12})",'
    r'\s?nonce="([A-Za-z0-9_-]{16,64})",\s?sig="([A-Za-z0-9+/=]{88})"'
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What an `Authorization` header claims; nothing in it is believed before `verifies`."""

    key_id: str
    timestamp: int
    nonce: str
    signature: str


def read_credentials(header: str) -> Credentials | None:
    """Return the claims of an `Authorization` header, or None if it is not one of ours."""
    found = AUTHORIZATION.fullmatch(header)
    if found is None:
        return None
    return Credentials(found[1], int(found[2]), found[3], found[4])


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def request_text(method: str, target: str, *, timestamp: int, nonce: str, body: bytes) -> bytes:
    """Return the bytes a request or an event signs; `target` is the path with its query, as sent."""
    return f"{method}\n{target}\n{timestamp}\n{nonce}\n{_digest(body)}\n".encode()


def answer_text(status: int, *, timestamp: int, nonce: str, body: bytes) -> bytes:
    """Return the bytes an answer signs; the request's nonce keeps it from being moved to another request."""
    return f"{status}\n{timestamp}\n{nonce}\n{_digest(body)}\n".encode()


def verifies(public_key: bytes, signature: str, *, text: bytes) -> bool:
    """Tell whether `signature` (base64) over `text` was made by the owner of `public_key` (32 raw bytes)."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(base64.b64decode(signature, validate=True), text)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class BankKey:
    """A signing key of the bank and the name under which clients pin it."""

    key_id: str
    private: Ed25519PrivateKey

    @property
    def public_base64(self) -> str:
        """The raw public key in base64, as `GET /v1/keys` gives it out."""
        return base64.b64encode(self.private.public_key().public_bytes_raw()).decode()

    def sign(self, text: bytes) -> str:
        """Return the base64 signature over `text`."""
        return base64.b64encode(self.private.sign(text)).decode()


def new_key() -> BankKey:
    """Make a fresh key; also what a forger of events uses."""
    return _named(Ed25519PrivateKey.generate())


def _named(private: Ed25519PrivateKey) -> BankKey:
    return BankKey("bank" + hashlib.sha256(private.public_key().public_bytes_raw()).hexdigest()[:16], private)


def keep_key(path: Path) -> BankKey:
    """Load the bank's key from `path`, making it on first use, readable by its owner alone."""
    if path.exists():
        return _named(Ed25519PrivateKey.from_private_bytes(path.read_bytes()))
    key = new_key()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key.private.private_bytes_raw())
        file.flush()
        os.fsync(file.fileno())
    return key
