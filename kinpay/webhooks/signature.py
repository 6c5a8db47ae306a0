"""Signing a message by the Standard Webhooks specification. Pure.

Source: standardwebhooks.com, "Signature scheme": HMAC-SHA256 over `id.timestamp.body`, in base64, behind `v1,`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

from kinpay.primitives.sealed import Sealed

SECRET_START: Final = "whsec_"  # noqa: S105
SECRET_BYTES: Final = 32
"""The specification allows 24 to 64."""


def secret_text(secret: Sealed[bytes]) -> str:
    """A secret as the receiver is given it."""
    return SECRET_START + base64.b64encode(secret.open()).decode()


def secret_of(text: str) -> Sealed[bytes]:
    """The inverse of `secret_text`. Raises: ValueError unless it is `whsec_` and 24 to 64 bytes in base64."""
    if not text.startswith(SECRET_START):
        raise ValueError("a webhook's secret begins with whsec_")
    secret = base64.b64decode(text.removeprefix(SECRET_START), validate=True)
    if not 24 <= len(secret) <= 64:
        raise ValueError("a webhook's secret has 24 to 64 bytes")
    return Sealed(secret)


def signature(secret: Sealed[bytes], *, message_id: str, timestamp_s: int, body: bytes) -> str:
    """One signature, `v1,<base64>`. `timestamp_s`: when it is sent, in seconds since 1970."""
    signed = b".".join((message_id.encode(), str(timestamp_s).encode(), body))
    return "v1," + base64.b64encode(hmac.new(secret.open(), signed, hashlib.sha256).digest()).decode()


def signed_headers(secrets: Sequence[Sealed[bytes]], *, message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The three headers. While a secret is being replaced there are several signatures, one each, separated by spaces."""
    signatures = [signature(secret, message_id=message_id, timestamp_s=timestamp_s, body=body) for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(signatures),
    }
