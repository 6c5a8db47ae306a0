"""The one code that a terminal shows: signed by us, bound to the terminal, a minute of life, used once. It rotates.

Source: [0016]; threats A04, A05.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from kinpay.primitives.errors import CheckCodeAltered
from kinpay.primitives.ids import new_id
from kinpay.terminals.codes import Codes, FunctionCode

LIFE: Final = timedelta(seconds=60)
ROTATES_IN_S: Final = 40
"""When the terminal fetches the next: early enough that one scanned at the last moment still has 20 s to arrive."""
_PATH: Final = "/s/"


@dataclass(frozen=True, slots=True)
class ShownCode:
    """What the terminal draws: an address that any phone's camera opens."""

    url: str
    rotates_in_s: int
    expires_at: datetime


def issue_function_code(codes: Codes, public_url: str, *, terminal_id: str, now: datetime) -> ShownCode:
    """A fresh function code as an address under `public_url`. Nothing is stored before it is scanned."""
    expires_at = (now + LIFE).replace(microsecond=0)
    text = codes.write(FunctionCode(new_id(), terminal_id, int(expires_at.timestamp())))
    return ShownCode(public_url.rstrip("/") + _PATH + text, ROTATES_IN_S, expires_at)


def bare_code(text: str, public_url: str) -> str:
    """The code in what was scanned: by itself, or in an address of ours. Addresses of others are refused (threat A08).

    Raises: CheckCodeAltered.
    """
    prefix = public_url.rstrip("/") + _PATH
    bare = text.removeprefix(prefix)
    if "/" in bare:
        raise CheckCodeAltered()
    return bare
