"""Verifying a message of a webhook, by the Standard Webhooks specification (standardwebhooks.com, "Signature scheme")."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from kinpay_client.answer import Answer, UnexpectedAnswer
from kinpay_client.reading import typed
from kinpay_client.results import Charge

TOLERANCE_S: Final = 300
"""How far a message's time may be from ours, either way, unless the caller says otherwise."""
_SECRET_START: Final = "whsec_"  # noqa: S105
_VERSION: Final = "v1,"


class NotGenuine(Exception):
    """Not from who knows the secret, or old; answer it with 400 and believe nothing of it. The message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookMessage:
    """A message that was verified. `id` is the same whenever it is sent again: keep those that you have handled.

    `type` says what happened, `at` when; `data` is the charge as a till sees it, or `{}` in a test.
    """

    id: str
    type: str
    at: datetime
    data: dict[str, Any] = field(repr=False)

    @property
    def charge(self) -> Charge:
        """The charge that it is about, with types. Raises: UnexpectedAnswer in a message that is about none."""
        return typed(Charge, Answer(200, self.data))


def read_webhook(
    secret: str | Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
    *,
    tolerance_s: float = TOLERANCE_S,
    clock: Callable[[], float] = time.time,
) -> WebhookMessage:
    """The message, if one of the secrets (`whsec_…`) signed it and it is not old.

    `body`: the bytes as they came, before any parsing. `headers`: the request's, in whatever case. `clock`: seconds since 1970.

    Raises: NotGenuine; ValueError for a secret that is none.
    """
    keys = [_key(one) for one in ([secret] if isinstance(secret, str) else secret)]
    given = {name.lower(): value for name, value in headers.items()}
    try:
        message_id, moment, signatures = (given[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
    except KeyError as missing:
        raise NotGenuine(f"the header {missing} is missing") from None
    signed = b".".join((message_id.encode(), moment.encode(), body))
    wanted = [base64.b64encode(hmac.digest(key, signed, hashlib.sha256)) for key in keys]
    told = [one.removeprefix(_VERSION).encode() for one in signatures.split(" ") if one.startswith(_VERSION)]
    if not any(hmac.compare_digest(one, other) for one in wanted for other in told):
        raise NotGenuine("no signature fits")
    if not moment.isdecimal() or abs(clock() - int(moment)) > tolerance_s:
        raise NotGenuine("its time is too far from ours")
    return _message(message_id, body)


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(_SECRET_START), validate=True)
    except binascii.Error:
        raise ValueError("a webhook's secret is whsec_ and base64") from None


def _message(message_id: str, body: bytes) -> WebhookMessage:
    """What was said; the signature holds, so that anything else than a message is the server's fault."""
    try:
        told = json.loads(body)
        at = datetime.fromisoformat(told["timestamp"])
        return WebhookMessage(id=message_id, type=told["type"], at=at, data=told.get("data") or {})
    except (ValueError, TypeError, KeyError) as error:
        raise UnexpectedAnswer("the message is of another form") from error
