"""Codes that we sign and later read back: what a phone or a sheet of paper claims is never believed by itself.

A code is `K1` + kind letter + `.` + base64url(payload + 128-bit HMAC). The payload is MessagePack; the kind is under the MAC,
so that a code of one kind never passes for another. Single use is the database's part (`burnt_code`).
Source: [0016]-[0017] (terminal device number, business type, check code); threats A04-A07.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec

from kinpay.primitives.errors import CheckCodeAltered, CheckCodeExpired
from kinpay.primitives.server_keys import ServerKeys

_MAC: Final = 16
_PURPOSE: Final = "codes"


class FunctionCode(msgspec.Struct, frozen=True, array_like=True, tag="F"):
    """The one code a terminal shows ([0016]). It carries no business type; that is chosen after the scan."""

    code_id: str
    terminal_id: str
    expires_s: int


class RegistrationInformation(msgspec.Struct, frozen=True, array_like=True, tag="R"):
    """The decoded information with the chosen business type, bound by us ([0017])."""

    scan_id: str
    terminal_id: str
    business_type: str
    expires_s: int


class PayCode(msgspec.Struct, frozen=True, array_like=True, tag="P"):
    """What a spender's phone shows: one payment, seconds of life."""

    code_id: str
    operator_id: str
    circle_id: str
    spender_id: str
    credential_id: str
    expires_s: int


class CardCode(msgspec.Struct, frozen=True, array_like=True, tag="C"):
    """What is printed on a card: static; it can be revoked, and has its own low cap."""

    operator_id: str
    circle_id: str
    spender_id: str
    credential_id: str


class PaymentCode(msgspec.Struct, frozen=True, array_like=True, tag="T"):
    """What a terminal shows for one sale: bound to terminal, payee and amount."""

    code_id: str
    operator_id: str
    terminal_id: str
    amount_minor: int
    currency: str
    reference: str | None
    expires_s: int


Code = FunctionCode | RegistrationInformation | PayCode | CardCode | PaymentCode
T = TypeVar("T", FunctionCode, RegistrationInformation, PayCode, CardCode, PaymentCode)

_LETTER: Final[dict[type, str]] = {
    FunctionCode: "F", RegistrationInformation: "R", PayCode: "P", CardCode: "C", PaymentCode: "T",
}  # fmt: skip


class Codes:
    """Makes and reads codes under the server's keys."""

    def __init__(self, keys: ServerKeys) -> None:
        self._keys = keys.all_keys(_PURPOSE)
        self._decoders: dict[type, Any] = {kind: msgspec.msgpack.Decoder(kind) for kind in _LETTER}

    def write(self, code: Code) -> str:
        """The code as text, URL-safe."""
        payload = msgspec.msgpack.encode(code)
        letter = _LETTER[type(code)]
        sealed = payload + self.mac(letter, payload)
        return f"K1{letter}." + base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def read(self, text: str, kind: type[T]) -> T:
        """The code of that kind, if we signed it. Expiry is checked by `still_good`, with the database's clock.

        Raises: CheckCodeAltered.
        """
        letter = _LETTER[kind]
        if not text.startswith(f"K1{letter}."):
            raise CheckCodeAltered()
        try:
            encoded = text[4:].encode("ascii")
            sealed = base64.b64decode(encoded + b"=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error):
            raise CheckCodeAltered() from None
        payload, mac = sealed[:-_MAC], sealed[-_MAC:]
        canonical = base64.urlsafe_b64encode(sealed).rstrip(b"=") == encoded
        if not canonical or not self.is_mac(mac, letter, payload):
            raise CheckCodeAltered()
        found: T = self._decoders[kind].decode(payload)
        return found

    def mac(self, letter: str, payload: bytes) -> bytes:
        """16 octets that only we can make for that kind and payload."""
        return _mac(self._keys[0], letter, payload)

    def is_mac(self, mac: bytes, letter: str, payload: bytes) -> bool:
        """Whether we made `mac` for that kind and payload, under any key that still counts; in constant time."""
        return any(hmac.compare_digest(mac, _mac(key, letter, payload)) for key in self._keys)


def _mac(key: bytes, letter: str, payload: bytes) -> bytes:
    return hmac.digest(key, letter.encode() + payload, "sha256")[:_MAC]


def moment_of(expires_s: int) -> datetime:
    """The moment a code lapses, from whole seconds since the epoch."""
    return datetime.fromtimestamp(expires_s, UTC)


def still_good(expires_s: int, now: datetime) -> datetime:
    """The moment a code lapses. Raises: CheckCodeExpired once it is past."""
    moment = moment_of(expires_s)
    if now > moment:
        raise CheckCodeExpired()
    return moment
