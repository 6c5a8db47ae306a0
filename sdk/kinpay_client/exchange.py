"""One exchange with the server, without doing it: what to send, when to wait, when to send again.

Steps are generators. They yield what is to be done (`Send`, `Pause`, `Alone`), are told what came of it, and return their
result; `kinpay_client.drive` does it, waiting for each (`SyncWire`) or on an event loop (`AsyncWire`): one client, not two.
"""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import httpx

from kinpay_client.answer import Answer, Problem, Unreachable, read_answer
from kinpay_client.results import Charge

ATTEMPTS: Final = 7
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
_IN_USE: Final = "idempotency-key-in-use"
_UNCHANGED: Final = frozenset({429, 503})

T = TypeVar("T")
Prepare = Callable[[httpx.Request], None]
"""Adds what proves who asks; made anew for every attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Send this; the answer is the `httpx.Response`, or what httpx raised is raised here."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    prepare: Prepare
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Alone:
    """Take these steps while no others of the same client are taken alone; the answer is what they return."""

    steps: Generator[Any, Any, Any]


Steps = Generator[Send | Pause | Alone, Any, T]
"""Something to be done step by step, and what comes of it."""


class Driven:
    """What has steps, and a wire to take them over (`kinpay_client.drive`)."""

    _wire: Any


class NotSettled(Exception):
    """The provider's answer was not known in time; `charge` is as it was last seen. Nothing is decided: ask again later."""

    def __init__(self, charge: Charge) -> None:
        super().__init__(charge.id)
        self.charge = charge


def new_key() -> str:
    """A fresh request key: keep it for every repetition of the same request."""
    return uuid.uuid4().hex


def exchange(
    method: str,
    path: str,
    *,
    credentials: Callable[[], Steps[Prepare]],
    content: dict[str, Any] | None = None,
    key: str | None = None,
    repeatable: bool = False,
    timeout_s: float | None = None,
) -> Steps[Answer]:
    """Asks; `repeatable`: it may be sent again although it may have taken effect (it reads, or has a key).

    Raises: Problem for a refusal; Unreachable if no answer came, however often it was right to ask.
    """
    headers, body = _written(content, key)
    for attempt in range(1, ATTEMPTS + 1):
        prepare = yield from credentials()
        send = Send(method=method, path=path, headers=headers, body=body, prepare=prepare, timeout_s=timeout_s)
        try:
            return read_answer((yield send))
        except httpx.TransportError as error:
            # Nothing was sent when there was no connection; anything later may have taken effect.
            unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
            if attempt == ATTEMPTS or not (repeatable or unsent):
                raise Unreachable(type(error).__name__) from error
            pause_s = _pause_s(attempt)
        except Problem as problem:
            again = problem.status in _UNCHANGED or (problem.code == _IN_USE and key is not None)
            if attempt == ATTEMPTS or not again or (problem.retry_after_s or 0) > _LONGEST_PAUSE_S:
                raise
            pause_s = problem.retry_after_s or _pause_s(attempt)
        yield Pause(pause_s)
    raise AssertionError("the last attempt returns or raises")


def until_known(
    look: Callable[[], Steps[Charge]], charge: Charge, *, within_s: float, clock: Callable[[], float] = time.monotonic
) -> Steps[Charge]:
    """The charge, once the provider's answer is known; `clock` counts seconds. Raises: NotSettled; Problem, Unreachable."""
    last, attempt = clock() + within_s, 1
    while not charge.is_known:
        left_s = last - clock()
        if left_s <= 0:
            raise NotSettled(charge)
        yield Pause(min(_pause_s(attempt), left_s))
        charge = yield from look()
        attempt += 1
    return charge


def _written(content: dict[str, Any] | None, key: str | None) -> tuple[dict[str, str], bytes]:
    """The same octets for every attempt: under one key only one body may be sent."""
    headers = {"accept": "application/json"}
    if key is not None:
        headers["idempotency-key"] = key
    if content is None:
        return headers, b""
    headers["content-type"] = "application/json"
    return headers, json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _pause_s(attempt: int) -> float:
    """Doubling, with jitter: callers that failed together do not come back together."""
    longest: float = min(_FIRST_PAUSE_S * 2 ** min(attempt - 1, 16), _LONGEST_PAUSE_S)
    return longest * (0.5 + random.random() / 2)  # noqa: S311 (spreads load, guards nothing)
