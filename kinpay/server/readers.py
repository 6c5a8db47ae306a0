"""From a setting's text to its value; each raises ValueError with what to write instead."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from kinpay.faces.engine import installed_folder
from kinpay.primitives.money import EXPONENTS
from kinpay.primitives.sealed import Sealed
from kinpay.webhooks.address import Network, networks_of

SECRET_CHARS: Final = 24


class Place(NamedTuple):
    """Where something listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it. A name can mean another address tomorrow, so it never is."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


class Reference(NamedTuple):
    """An amount of a currency, in minor units."""

    currency: str
    minor: int

    def __str__(self) -> str:
        return f"{self.currency}:{self.minor}"


def references(text: str) -> tuple[Reference, ...]:
    """Amounts in minor units, each currency once: `CNY:5000,JPY:1000`."""
    found: dict[str, Reference] = {}
    for part in filter(None, (item.strip() for item in text.split(","))):
        currency, _, minor = part.partition(":")
        if currency not in EXPONENTS or currency in found or not (minor.isascii() and minor.isdigit() and int(minor) > 0):
            raise ValueError("write amounts in minor units, each currency once, as CNY:5000,JPY:1000")
        found[currency] = Reference(currency, int(minor))
    return tuple(found.values())


def chance(text: str) -> float:
    """A chance from 0 to 0.01."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value <= 0.01:
        raise ValueError("write a chance from 0 to 0.01, as 0.0001 for one in ten thousand")
    return value


def path(text: str) -> Path:
    """An absolute path; `~` is this account's home."""
    found = Path(text).expanduser()
    if not found.is_absolute():
        raise ValueError("write an absolute path")
    return found


def models(text: str) -> Path:
    """The folder of models; nothing means the one that set-up made."""
    return path(text) if text else installed_folder()


def database_url(text: str) -> str | None:
    """PostgreSQL's address; None for nothing."""
    if not text:
        return None
    if urlsplit(text).scheme not in ("postgresql", "postgres"):
        raise ValueError("write postgresql://user@host/database, or leave it empty for the embedded one")
    for each in urlsplit(text).netloc.rpartition("@")[2].split(","):
        port = each.rpartition("]")[2].partition(":")[2]
        if port and not (port.isascii() and port.isdigit()):
            raise ValueError("its port is no number; a password's own / @ and : are written %2F %40 and %3A")
    return text


def whole(low: int, high: int) -> Callable[[str], int]:
    """A reader of whole numbers from `low` to `high`."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or not low <= int(text) <= high:
            raise ValueError(f"write a whole number from {low} to {high}")
        return int(text)

    return read


def seconds(text: str) -> float:
    """Seconds, in which a provider may still be waited for."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.1 <= value <= 120:
        raise ValueError("write seconds, from 0.1 to 120")
    return value


def public_url(text: str) -> str | None:
    """An address of the web without its last slash; None for nothing."""
    if not text:
        return None
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("write https://host, as people's phones reach it")
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


def one_of(*words: str) -> Callable[[str], str]:
    """A reader of one of `words`."""

    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"write one of {', '.join(words)}")
        return text

    return read


def host(text: str) -> str:
    """An address or a host's name."""
    if not text or any(char.isspace() or char == "/" for char in text):
        raise ValueError("write an address or a host's name")
    return text


def place(text: str) -> Place | None:
    """`HOST:PORT`; None for nothing."""
    if not text:
        return None
    name, _, port = text.rpartition(":")
    return Place(host(name.removeprefix("[").removesuffix("]")), whole(0, 65535)(port))


def switch(text: str) -> bool:
    """`0` or `1`."""
    if text not in ("0", "1"):
        raise ValueError("write 0 or 1")
    return text == "1"


def networks(text: str) -> tuple[Network, ...]:
    """Networks, separated by commas."""
    try:
        return networks_of(text)
    except ValueError:
        raise ValueError("write networks like 10.1.0.0/16, separated by commas") from None


def optional(text: str) -> str | None:
    """The text itself; None for nothing."""
    return text or None


def secret(text: str) -> Sealed[bytes] | None:
    """A secret that is long enough; None for nothing."""
    if not text:
        return None
    if len(text) < SECRET_CHARS:
        raise ValueError(f"write at least {SECRET_CHARS} characters")
    return Sealed(text.encode())
