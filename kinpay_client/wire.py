"""Sending, and sending again where that is safe: with back-off, and each attempt signed anew."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import httpx

from kinpay_client.answer import Answer, Problem, Unreachable, read_answer

ATTEMPTS: Final = 7
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
_IN_USE: Final = "idempotency-key-in-use"
_UNCHANGED: Final = frozenset({429, 503})

Credentials = Callable[[httpx.Request], Awaitable[None]]
"""Adds what proves who asks; called for every attempt."""


def new_key() -> str:
    """A fresh request key: keep it for every repetition of the same request."""
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class Wire:
    """A server's address and the HTTP client that reaches it. `pause` waits (seconds) between attempts."""

    base_url: str
    http: httpx.AsyncClient
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep

    @classmethod
    def to(cls, base_url: str, http: httpx.AsyncClient | None = None, *, timeout_s: float = 30.0) -> Wire:
        """A wire to `base_url`, through `http` if given."""
        return cls(base_url.rstrip("/"), http or httpx.AsyncClient(timeout=timeout_s))

    async def send(
        self,
        method: str,
        path: str,
        *,
        credentials: Credentials,
        content: dict[str, Any] | None = None,
        key: str | None = None,
        repeatable: bool = False,
        timeout_s: float | None = None,
    ) -> Answer:
        """Sends a request; `repeatable`: it may be sent again although it may have taken effect (it reads, or has a key).

        Raises: Problem for a refusal; Unreachable if no answer came, however often it was right to ask.
        """
        for attempt in range(1, ATTEMPTS + 1):
            request = self._build(method, path, content=content, key=key, timeout_s=timeout_s)
            await credentials(request)
            try:
                return read_answer(await self.http.send(request))
            except httpx.TransportError as error:
                # Nothing was sent when there was no connection; anything later may have taken effect.
                unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
                if attempt == ATTEMPTS or not (repeatable or unsent):
                    raise Unreachable(type(error).__name__) from error
                await self.pause(_pause_s(attempt))
            except Problem as problem:
                again = problem.status in _UNCHANGED or (problem.code == _IN_USE and key is not None)
                if attempt == ATTEMPTS or not again or (problem.retry_after_s or 0) > _LONGEST_PAUSE_S:
                    raise
                await self.pause(problem.retry_after_s or _pause_s(attempt))
        raise AssertionError("the last attempt returns or raises")

    def _build(
        self, method: str, path: str, *, content: dict[str, Any] | None, key: str | None, timeout_s: float | None
    ) -> httpx.Request:
        headers = {"accept": "application/json"}
        body = b""
        if content is not None:
            headers["content-type"] = "application/json"
            body = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        if key is not None:
            headers["idempotency-key"] = key
        timeout = httpx.USE_CLIENT_DEFAULT if timeout_s is None else httpx.Timeout(timeout_s)
        return self.http.build_request(method, self.base_url + path, headers=headers, content=body, timeout=timeout)


def _pause_s(attempt: int) -> float:
    """Doubling, with jitter: callers that failed together do not come back together."""
    longest: float = min(_FIRST_PAUSE_S * 2 ** (attempt - 1), _LONGEST_PAUSE_S)
    return longest * (0.5 + random.random() / 2)  # noqa: S311 (spreads load, guards nothing)
