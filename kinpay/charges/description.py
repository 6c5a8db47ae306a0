"""What the payer reads of a debit at the provider, and what a database that lost the debit reads from it.

One purchase names itself and its terminal. A day's debit names its day, and behind it as much of each of its charges as fits.
Source: reliability.md F26, §0.1; docs/backup.md.
"""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from kinpay.primitives.ids import is_id

LONGEST: Final = 200
"""Characters that the narrowest provider takes."""
_MARK: Final = 8
"""Digits that an id is told by where the whole does not fit: its last ones, which bear the mark of a request's key."""
_ONE = re.compile(r"kinpay (?P<charge>[0-9a-f]{32}) (?P<terminal>[0-9a-f]{8})")
_DAY = re.compile(r"kinpay (?P<day>\d{4}-\d\d-\d\d)(?: (?P<form>[imnd])(?P<packed>[A-Za-z0-9_-]+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a debit takes for one charge, in minor units."""

    charge_id: str
    terminal_id: str
    spender_id: str
    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidPart:
    """A charge as a description tells it: its id or the end of it, and the ends of ids; None: there was no room for it."""

    mark: str
    charge_id: str | None = None
    terminal_end: str | None = None
    spender_end: str | None = None
    amount_minor: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a description tells. `day` None: of one purchase. `parts` None: only `digest` tells whether charges are those."""

    day: date | None
    parts: tuple[SaidPart, ...] | None = None
    digest: str | None = None


def describe_one(charge_id: str, *, terminal_id: str) -> str:
    """Of a debit for one purchase: the charge, and the end of its terminal's id."""
    return f"kinpay {charge_id} {terminal_id[-_MARK:]}"


def describe_day(day: date, parts: Sequence[Part]) -> str:
    """Of a day's debit, at most `LONGEST` characters: the first form that fits. The same parts give the same, in any order.

    i: each charge's id, the ends of its terminal's and its spender's, and its amount. m: of the charge's id the end, too.
    n: the ends of the charges' ids alone. d: a digest of their ids.
    """
    told = sorted(parts, key=lambda part: part.charge_id)
    forms = (
        ("i", b"".join(bytes.fromhex(part.charge_id) + _about(part) for part in told)),
        ("m", b"".join(_end(part.charge_id) + _about(part) for part in told)),
        ("n", b"".join(_end(part.charge_id) for part in told)),
    )
    for form, packed in forms:
        written = f"kinpay {day} {form}{urlsafe_b64encode(packed).decode().rstrip('=')}"
        if len(written) <= LONGEST:
            return written
    return f"kinpay {day} d{digest_of([part.charge_id for part in told])}"


def digest_of(charge_ids: Sequence[str]) -> str:
    """By which it can be told whether a debit was for just these charges."""
    return hashlib.sha256("".join(sorted(charge_ids)).encode()).hexdigest()


def read_description(description: str) -> Said | None:
    """None for what is not ours, or cannot be read."""
    if (one := _ONE.fullmatch(description)) is not None:
        part = SaidPart(mark=one["charge"][-_MARK:], charge_id=one["charge"], terminal_end=one["terminal"])
        return Said(day=None, parts=(part,))
    found = _DAY.fullmatch(description)
    if found is None:
        return None
    try:
        day = date.fromisoformat(found["day"])
        if found["form"] is None:
            return Said(day=day)
        if found["form"] == "d":
            return Said(day=day, digest=found["packed"])
        packed = urlsafe_b64decode(found["packed"] + "=" * (-len(found["packed"]) % 4))
        return Said(day=day, parts=tuple(_parts(found["form"], packed)))
    except (ValueError, NotBase64, IndexError):
        return None


def _end(some_id: str) -> bytes:
    return bytes.fromhex(some_id[-_MARK:])


def _about(part: Part) -> bytes:
    return _end(part.terminal_id) + _end(part.spender_id) + _packed(part.amount_minor)


def _packed(number: int) -> bytes:
    """Seven bits a byte, the lowest first; the last byte has its highest bit clear."""
    packed = bytearray()
    while number > 0x7F:
        packed.append(number & 0x7F | 0x80)
        number >>= 7
    packed.append(number)
    return bytes(packed)


def _parts(form: str, packed: bytes) -> Iterator[SaidPart]:
    """Raises: IndexError, ValueError for what ends too early."""
    at = 0

    def some(count: int) -> str:
        nonlocal at
        if at + count > len(packed):
            raise IndexError("ends too early")
        at += count
        return packed[at - count : at].hex()

    while at < len(packed):
        charge_id = some(16 if form == "i" else 4)
        if form == "n":
            yield SaidPart(mark=charge_id)
            continue
        terminal_end, spender_end, amount_minor, shift = some(4), some(4), 0, 0
        while True:
            byte = int(some(1), 16)
            amount_minor |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        yield SaidPart(
            mark=charge_id[-_MARK:],
            charge_id=charge_id if is_id(charge_id) else None,
            terminal_end=terminal_end,
            spender_end=spender_end,
            amount_minor=amount_minor,
        )
