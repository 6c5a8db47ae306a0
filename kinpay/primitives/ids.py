"""Identifiers: time-ordered, made by us (never by the database), 32 hexadecimal digits.

The alphabet and length fit the narrowest provider's order number, `[A-Za-z0-9]{1,32}`, so that a debit's id *is* its
order number. Stored as `uuid` (version 7). Source: RFC 9562 §5.7; providers.md §1.5.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from typing import Final

_VERSION_7: Final = 0x7000
_VARIANT: Final = 0x8000
ID_PATTERN: Final = r"^[0-9a-f]{32}$"
_ID = re.compile(ID_PATTERN)


_AT_ONCE: Final = 256
_random: Final[list[int]] = []
os.register_at_fork(after_in_child=_random.clear)  # lest parent and child hand out the same


def new_id() -> str:
    """A fresh id. Sorts by the millisecond it was made in; 74 random bits keep two processes apart."""
    try:
        random = _random.pop()
    except IndexError:
        random = _draw()
    head = _VERSION_7 | (random >> 68)
    tail = _VARIANT | ((random >> 48) & 0x3FFF)
    return f"{time.time_ns() // 1_000_000:012x}{head:04x}{tail:04x}{random & 0xFFFF_FFFF_FFFF:012x}"


def marked_id(mark: str) -> str:
    """A fresh id that ends with `mark`, 8 hexadecimal digits; 42 random bits are left to keep it apart from others.

    What is made for a request bears a mark of its key: should the row be lost, whoever was told the id still shows whose it
    was.
    """
    return new_id()[:-8] + mark


def id_under(owner_id: str, *, mark: str | None = None) -> str:
    """A fresh id that shows whose it is: before its last 8 digits stand the last 4 of `owner_id`; `mark` as in `marked_id`.

    26 random bits and the millisecond are left to keep it apart from others of the same owner and mark.
    """
    fresh = new_id()
    return fresh[:20] + owner_id[-4:] + (mark or fresh[-8:])


def is_under(some_id: str, owner_id: str) -> bool:
    """Whether an id may be of this owner: certain if it is not; by chance one in 65,536 others seems so, too."""
    return some_id[20:24] == owner_id[-4:]


def _draw() -> int:
    """Asks the system for the randomness of many ids at once: asking for each took longer than all the rest."""
    drawn = os.urandom(10 * _AT_ONCE)
    numbers = [int.from_bytes(drawn[at : at + 10], "big") for at in range(0, len(drawn), 10)]
    _random.extend(numbers[1:])
    return numbers[0]


def is_id(text: object) -> bool:
    """Whether `text` has the form of one of our ids; says nothing about there being such a thing."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def new_secret(size: int = 32) -> str:
    """An unguessable token of `size` random bytes, URL-safe (ASVS 11.5.1 wants at least 16 bytes)."""
    return secrets.token_urlsafe(size)


def new_digits(count: int) -> str:
    """A random decimal code for a person to type; only ever used beside a cap on attempts and a short life."""
    return "".join(str(secrets.randbelow(10)) for _ in range(count))
