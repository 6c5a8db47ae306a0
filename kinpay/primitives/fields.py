"""What a request's fields may look like: closed models and bounded, printable values. One vocabulary for all routes."""

from __future__ import annotations

import re
import unicodedata
from datetime import date, datetime
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from kinpay.primitives.errors import Invalid, KeyMissing, KeyNotKept
from kinpay.primitives.ids import ID_PATTERN
from kinpay.primitives.money import EXPONENTS, MAX_MINOR

_FORBIDDEN: Final = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})
_BIDI: Final = frozenset("\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\ufeff")
_ACCOUNT = re.compile(r"(?=.{3,64}$)[^\s@/\\]+(@[^\s@/\\]+)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOMENT = re.compile(r"2[0-9]{3}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?([Zz]|[+-][0-9]{2}:[0-9]{2})")
_KEY = re.compile(r"^[\x21\x23-\x7e]{1,255}$")

EARLIEST: Final = date(2000, 1, 1)
"""Days before it are not taken: "without a beginning" is said by silence."""
LATEST: Final = date(2199, 12, 31)
"""Days after it are not taken: "without an end" is said by silence, and the day after a last one must be a day, too."""
KEPT: Final = {"kept": True}
"""The context in which what is in the tables already is read: days that were taken once are read for ever."""


class Closed(BaseModel):
    """A request or answer body: unknown fields and loose types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def printable(text: str) -> str:
    """Normalises (NFC) and refuses controls, lone surrogates, unassigned characters and bidirectional overrides.

    Raises: ValueError.
    """
    if any(unicodedata.category(char) in _FORBIDDEN or char in _BIDI for char in text):
        raise ValueError("not printable")
    text = unicodedata.normalize("NFC", text).strip()
    if not text:
        raise ValueError("empty")
    return text


def account_name(text: str) -> str:
    """Normalises an account name (NFKC, lower case); its shape counts as it is then, when full-width signs are plain ones.

    Raises: ValueError, also for characters that cannot be seen, with which one name could pass for another.
    """
    name = printable(unicodedata.normalize("NFKC", text).casefold())
    if not _ACCOUNT.fullmatch(name) or any(unicodedata.category(char) == "Cf" for char in name):
        raise ValueError("not an account name")
    return name


def _calendar_date(value: object) -> object:
    """Lets a date through as it is written, and nothing that only could be read as one (seconds since 1970 among it)."""
    if isinstance(value, str) and not _DATE.fullmatch(value):
        raise ValueError("not a calendar date")
    if not isinstance(value, str | date) or isinstance(value, datetime):
        raise ValueError("not a calendar date")
    return value


def _day_text(text: str, info: ValidationInfo) -> str:
    """Raises: ValueError for what is no day, and for one that nobody can mean, unless it is read from where it is kept."""
    if not _DATE.fullmatch(text):
        raise ValueError("not a calendar date")
    day = date.fromisoformat(text)
    if info.context is not KEPT and not EARLIEST <= day <= LATEST:
        raise ValueError("not a day of the years 2000 to 2199")
    return text


def _moment_text(value: object) -> object:
    """Lets an RFC 3339 date and time with its offset through as it is written, and nothing else that could be read as one."""
    if not isinstance(value, str) or not _MOMENT.fullmatch(value):
        raise ValueError("not a date and time with an offset")
    return value


def _known_currency(code: str) -> str:
    if code not in EXPONENTS:
        raise ValueError("unknown currency")
    return code


Id = Annotated[str, Field(pattern=ID_PATTERN, examples=["0199f3a2c4d87b1e9a5f0c3d2e1b4a67"])]
"""One of our ids: 32 hexadecimal digits."""
Name = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(printable)]
"""A name shown to people."""
Note = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(printable)]
"""A line of free text."""
AccountName = Annotated[
    str, Field(min_length=3, max_length=64, pattern=r"^[^\s@/\\]+(@[^\s@/\\]+)?$"), AfterValidator(account_name)
]
"""The account name people give each other (a phone number, an e-mail address, a nickname)."""
Token = Annotated[str, Field(min_length=8, max_length=512, pattern=r"^[A-Za-z0-9._~:/?=&%-]+$")]
"""A code as scanned or a token as issued: URL characters only."""
Amount = Annotated[int, Field(strict=True, gt=0, le=MAX_MINOR, examples=[1400])]
"""Minor units (fen, cents), a positive whole number."""
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$", examples=["CNY"]), AfterValidator(_known_currency)]
"""ISO 4217."""
Mcc = Annotated[str, Field(pattern=r"^[0-9]{4}$", examples=["5814"])]
"""Merchant category code, ISO 18245."""
Pin = Annotated[str, Field(pattern=r"^[0-9]{4,8}$")]
"""A spender's number, ASCII digits."""
Day = Annotated[date, Field(strict=False), BeforeValidator(_calendar_date)]
"""A calendar date, `YYYY-MM-DD`."""


Moment = Annotated[datetime, Field(strict=False, examples=["2026-03-02T12:00:00Z"]), BeforeValidator(_moment_text)]
"""A date and time with its offset, RFC 3339."""
DayText = Annotated[str, AfterValidator(_day_text), Field(examples=["2026-03-02"])]
"""A calendar date of the years 2000 to 2199, `YYYY-MM-DD`, kept as it is written: so that it sorts, hashes and is shown as one
text.
"""
ItemCode = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$", examples=["tobacco"])]
"""How a till names what it sells: a GTIN, an article number or a kind of goods."""


def refuse_key(header: str | None) -> None:
    """For what is made anew by every request, so that nobody relies on a key. Raises: KeyNotKept if there is one."""
    if header is not None:
        raise KeyNotKept()


def read_key(header: str | None) -> str:
    """The `Idempotency-Key` header, quoted (the IETF draft's form) or bare: both name the same key.

    Raises: KeyMissing; Invalid for an empty, over-long or unprintable one.
    """
    if header is None:
        raise KeyMissing()
    key = header.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not _KEY.fullmatch(key):
        raise Invalid("key_malformed", field="Idempotency-Key")
    return key
