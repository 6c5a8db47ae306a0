"""A strict reading of JSON bodies: nothing is guessed, nothing unknown is passed over.

Source: docs/sandbox-bank.md, "Money is integer minor units … Keys are [A-Za-z0-9]{1,32}".
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any, NoReturn

from starlette.requests import Request

from kinpay_sandbox.refusal import Refusal, bad_request

MAX_BODY_BYTES = 64 * 1024
MAX_MINOR = 2**53
KEY = re.compile(r"[A-Za-z0-9]{1,32}")
REF = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
CURRENCY = re.compile(r"[A-Z]{3}")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


async def read_body(request: Request) -> bytes:
    """Read a body of at most 64 KiB.

    Raises: Refusal(413, too_large).
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise Refusal(413, "too_large")
    return bytes(body)


def _no_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise bad_request()
    return fields


def _no_constant(_: str) -> NoReturn:
    raise bad_request()


def read_json(body: bytes) -> Fields:
    """Parse a JSON object, refusing repeated names, NaN, bad UTF-8 and bottomless nesting.

    Raises: Refusal(422, bad_request).
    """
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=_no_twice, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise bad_request() from None
    return Fields(value)


class Fields:
    """The members of one JSON object, taken out one by one; `done` refuses whatever nobody asked for."""

    def __init__(self, value: Any) -> None:
        if not isinstance(value, dict):
            raise bad_request()
        self._left: dict[str, Any] = dict(value)

    def done(self) -> None:
        """Refuse members that are not in the protocol. Raises: Refusal(422, bad_request)."""
        if self._left:
            raise bad_request()

    def has(self, name: str) -> bool:
        """Tell whether the member was sent and is not null."""
        return self._left.get(name) is not None

    def absent(self, name: str) -> bool:
        """Take the member away if it is null or was not sent, and tell so."""
        if self._left.get(name) is None:
            self._left.pop(name, None)
            return True
        return False

    def take(self, name: str) -> Any:
        """Take a member of any type. Raises: Refusal when missing."""
        if name not in self._left:
            raise bad_request()
        return self._left.pop(name)

    def text(self, name: str, *, longest: int = 200, shortest: int = 1) -> str:
        """Take a string without control characters."""
        value = self.take(name)
        if not isinstance(value, str) or not shortest <= len(value) <= longest or CONTROL.search(value):
            raise bad_request()
        return value

    def one_of(self, name: str, choices: frozenset[str]) -> str:
        """Take a string out of a closed set."""
        value = self.take(name)
        if not isinstance(value, str) or value not in choices:
            raise bad_request()
        return value

    def matching(self, name: str, pattern: re.Pattern[str]) -> str:
        """Take a string that is wholly of `pattern`."""
        value = self.take(name)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise bad_request()
        return value

    def key(self, name: str = "key") -> str:
        """Take a key: `[A-Za-z0-9]{1,32}`."""
        return self.matching(name, KEY)

    def currency(self, name: str = "currency") -> str:
        """Take an ISO 4217 code in capitals."""
        return self.matching(name, CURRENCY)

    def amount(self, name: str = "amount_minor") -> int:
        """Take an amount: a JSON integer in minor units, 0 < amount < 2^53."""
        value = self.whole(name)
        if value == 0:
            raise bad_request()
        return value

    def amount_or_none(self, name: str) -> int | None:
        """Take an amount or null."""
        return None if self.absent(name) else self.amount(name)

    def whole(self, name: str) -> int:
        """Take a JSON integer, 0 included (a balance)."""
        value = self.take(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < MAX_MINOR:
            raise bad_request()
        return value

    def yes(self, name: str) -> bool:
        """Take a boolean; absent is false."""
        if self.absent(name):
            return False
        value = self.take(name)
        if not isinstance(value, bool):
            raise bad_request()
        return value

    def seconds(self, name: str, *, most: float = 3600.0) -> float:
        """Take a number of seconds, fractions allowed."""
        value = self.take(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise bad_request()
        return float(value)

    def time_or_none(self, name: str) -> datetime | None:
        """Take an RFC 3339 time with an offset, or null; returned in UTC."""
        if self.absent(name):
            return None
        try:
            when = datetime.fromisoformat(self.text(name, longest=40))
            if when.tzinfo is None:
                raise bad_request()
            return when.astimezone(UTC)
        except (ValueError, OverflowError):
            raise bad_request() from None

    def inside(self, name: str) -> Fields:
        """Take a nested object."""
        return Fields(self.take(name))

    def each(self, name: str, *, most: int = 50) -> list[Any]:
        """Take a list of at most `most` members."""
        value = self.take(name)
        if not isinstance(value, list) or len(value) > most:
            raise bad_request()
        return value


def write_json(value: object) -> bytes:
    """Write an answer or an event; these very bytes are signed."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
