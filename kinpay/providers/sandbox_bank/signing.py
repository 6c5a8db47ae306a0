"""Ed25519 signatures of the sandbox bank's wire: requests we sign, answers and events that we verify. Pure.

Source: docs/sandbox-bank.md §2.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from kinpay.providers.contract import BadSignature, Inbound
from kinpay.providers.http import Answer, Kept

WINDOW_S: Final = 300
"""How far the time in a signed event may lie from ours, either way."""

_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)
_NONCE = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_HEADERS: Final = ("kinbank-key", "kinbank-timestamp", "kinbank-nonce", "kinbank-signature")

BankKeys = Mapping[str, Ed25519PublicKey]
"""The bank's pinned public keys by key id; several while the bank rotates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seal:
    """The four signature headers of one message, as text."""

    key_id: str
    timestamp: str
    nonce: str
    signature: str


def request_text(method: str, path: str, *, timestamp: str, nonce: str, body: bytes) -> bytes:
    """The bytes that a request's, and an event's, signature covers. `path` is as on the wire, with its query."""
    return f"{method}\n{path}\n{timestamp}\n{nonce}\n{sha256(body).hexdigest()}\n".encode()


def answer_text(status: int, *, timestamp: str, nonce: str, body_sha256: str) -> bytes:
    """The bytes that an answer's signature covers; `body_sha256` in hexadecimal digits."""
    return f"{status}\n{timestamp}\n{nonce}\n{body_sha256}\n".encode()


def authorization(
    private_key: Ed25519PrivateKey, *, client_id: str, method: str, path: str, body: bytes, timestamp: int, nonce: str
) -> str:
    """The `Authorization` header of one request. `timestamp` in Unix seconds; `nonce` is good once."""
    text = request_text(method, path, timestamp=str(timestamp), nonce=nonce, body=body)
    signature = b64encode(private_key.sign(text)).decode()
    return f'KINBANK-ED25519 keyid="{client_id}",ts="{timestamp}",nonce="{nonce}",sig="{signature}"'


def verify_answer(answer: Answer | Kept, keys: BankKeys, *, nonce: str) -> None:
    """Whether the bank itself gave this answer to the request that carried `nonce`.

    Its time is signed but not compared with ours: the nonce, fresh for this request, already proves that the answer is.
    Raises: BadSignature.
    """
    seal = _read_seal(answer.headers)
    if seal.nonce != nonce:
        raise BadSignature("other_nonce")
    _verify(seal, keys, answer_text(answer.status, timestamp=seal.timestamp, nonce=seal.nonce, body_sha256=answer.sha256))


def verify_event(inbound: Inbound, keys: BankKeys) -> str:
    """The event's id, if the bank itself sent it, to this path, within `WINDOW_S`.

    It is the nonce, the same over all retries. Raises: BadSignature.
    """
    if inbound.method != "POST":
        raise BadSignature("other_method")
    seal = _read_seal(_lowered(inbound.headers))
    _verify(seal, keys, request_text("POST", inbound.path, timestamp=seal.timestamp, nonce=seal.nonce, body=inbound.body))
    if not _is_near(int(seal.timestamp), inbound.received_at):
        raise BadSignature("stale")
    return seal.nonce


def read_public_key(text: str) -> Ed25519PublicKey:
    """A raw public key in base64. Raises: ValueError if it is none."""
    return Ed25519PublicKey.from_public_bytes(_base64(text))


def _is_near(seconds: int, moment: datetime) -> bool:
    return abs(seconds - moment.timestamp()) <= WINDOW_S


def _lowered(headers: Mapping[str, str]) -> dict[str, str]:
    lowered: dict[str, str] = {}
    for name, value in headers.items():
        # The same header twice could be read one way here and another way in front of us.
        if name.lower() in lowered and name.lower() in _HEADERS:
            raise BadSignature("header_twice")
        lowered[name.lower()] = value
    return lowered


def _read_seal(headers: Mapping[str, str]) -> _Seal:
    key_id, timestamp, nonce, signature = (headers.get(name, "") for name in _HEADERS)
    if not (key_id and signature and _SECONDS.fullmatch(timestamp) and _NONCE.fullmatch(nonce)):
        raise BadSignature("headers")
    return _Seal(key_id=key_id, timestamp=timestamp, nonce=nonce, signature=signature)


def _verify(seal: _Seal, keys: BankKeys, text: bytes) -> None:
    key = keys.get(seal.key_id)
    if key is None:
        raise BadSignature("unknown_key")
    try:
        key.verify(_base64(seal.signature), text)
    except (InvalidSignature, ValueError) as error:
        raise BadSignature("signature") from error


def _base64(text: str) -> bytes:
    """Decodes the canonical spelling only; unused last bits would let one signature be written in several ways."""
    try:
        raw = b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("not base64") from error
    if b64encode(raw).decode() != text:
        raise ValueError("not canonical base64")
    return raw
