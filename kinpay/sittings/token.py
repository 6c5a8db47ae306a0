"""What a terminal gets for a recognised person: shown once to `POST /v1/charges`, from this terminal, for this amount.

Sealed, so that the terminal learns nothing of whom it holds, and bound to the terminal, so that it opens for no other.
Source: [0032]; threats A05, A06 (as for every code that pays).
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

import msgspec

from kinpay.primitives.errors import CheckCodeAltered
from kinpay.primitives.server_keys import SealBroken, ServerKeys

PATTERN: Final = r"^K1B\.[A-Za-z0-9_-]+$"
_MARK: Final = "K1B."
_PURPOSE: Final = "face-token"


class FaceToken(msgspec.Struct, frozen=True, array_like=True):
    """A recognised person, for one charge. `evidence` is what the charge keeps of how they were recognised."""

    code_id: str
    operator_id: str
    circle_id: str
    spender_id: str
    credential_id: str | None
    amount_minor: int
    currency: str
    expires_s: int
    evidence: dict[str, Any]


_decode = msgspec.msgpack.Decoder(FaceToken).decode


def write_token(keys: ServerKeys, token: FaceToken, *, terminal_id: str) -> str:
    """As the terminal carries it."""
    sealed = keys.seal(msgspec.msgpack.encode(token), purpose=_PURPOSE, bound_to=terminal_id)
    return _MARK + base64.urlsafe_b64encode(sealed).decode().rstrip("=")


def read_token(keys: ServerKeys, text: str, *, terminal_id: str) -> FaceToken:
    """The token, if we gave it to this terminal. Whether it is still good and unused is asked where it is burnt.

    Raises: CheckCodeAltered, also for another terminal's.
    """
    try:
        encoded = text.removeprefix(_MARK).encode("ascii")
        sealed = base64.b64decode(encoded + b"=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        return _decode(keys.unseal(sealed, purpose=_PURPOSE, bound_to=terminal_id))
    except (UnicodeEncodeError, binascii.Error, SealBroken, ValueError, msgspec.DecodeError):
        raise CheckCodeAltered() from None
