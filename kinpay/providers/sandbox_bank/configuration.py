"""What an operator enters to reach the sandbox bank, checked once, before the first request."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from kinpay.providers.contract import Misconfigured
from kinpay.providers.sandbox_bank import signing, wire

DEFAULT_TIMEOUT_S: Final = 10.0
MAX_TIMEOUT_S: Final = 120.0

_ENTRIES: Final = frozenset(("base_url", "client_id", "bank_keys", "account", "timeout_s"))
_CLIENT_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class BankConfiguration:
    """One operator's client at one bank, checked."""

    base_url: str
    """Scheme, host and port; no path, as the path is signed."""
    client_id: str
    bank_keys: signing.BankKeys
    account: str
    """The operator's account there: agreements are made with it alone."""
    timeout_s: float


def read_configuration(given: Mapping[str, object]) -> BankConfiguration:
    """Checks `{base_url, client_id, bank_keys: {key_id: base64}, account, timeout_s?}`.

    Raises: Misconfigured, with the name of the entry that is missing or wrong.
    """
    if not given.keys() <= _ENTRIES:
        raise Misconfigured("configuration_unknown")
    client_id, account = given.get("client_id"), given.get("account")
    if not isinstance(client_id, str) or not _CLIENT_ID.fullmatch(client_id):
        raise Misconfigured("client_id")
    if not isinstance(account, str) or not account:
        raise Misconfigured("account")
    return BankConfiguration(
        base_url=_read_base_url(given.get("base_url")),
        client_id=client_id,
        bank_keys=_read_bank_keys(given.get("bank_keys")),
        account=account,
        timeout_s=_read_timeout(given.get("timeout_s", DEFAULT_TIMEOUT_S)),
    )


def _read_base_url(given: object) -> str:
    if not isinstance(given, str) or not wire.is_web_address(given):
        raise Misconfigured("base_url")
    parts = urlsplit(given)
    try:
        port = parts.port
    except ValueError:
        raise Misconfigured("base_url") from None
    if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc or port == 0:
        raise Misconfigured("base_url")
    return f"{parts.scheme}://{parts.netloc}"


def _read_bank_keys(given: object) -> signing.BankKeys:
    if not isinstance(given, Mapping) or not given:
        raise Misconfigured("bank_keys")
    try:
        return {str(key_id): signing.read_public_key(text) for key_id, text in given.items()}
    except (ValueError, TypeError, AttributeError):
        raise Misconfigured("bank_keys") from None


def _read_timeout(given: object) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        raise Misconfigured("timeout_s")
    if not 0 < given <= MAX_TIMEOUT_S:
        raise Misconfigured("timeout_s")
    return float(given)
