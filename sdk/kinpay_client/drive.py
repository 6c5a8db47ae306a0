"""Doing what steps ask for, in both ways that Python has: on an event loop, or waiting for each."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from kinpay_client.exchange import Alone, Driven, Pause, Send, Steps

P = ParamSpec("P")
S = TypeVar("S", bound="Driven")
T = TypeVar("T")

TIMEOUT_S = 30.0
"""How long one attempt may take, unless the caller says otherwise; the server answers 202 long before."""


@dataclass(frozen=True, slots=True)
class AsyncWire:
    """A server's address and the HTTP client that reaches it. `pause` waits (seconds) between attempts."""

    base_url: str
    http: httpx.AsyncClient
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    def to(cls, base_url: str, http: httpx.AsyncClient | None = None, *, timeout_s: float = TIMEOUT_S) -> AsyncWire:
        """A wire to `base_url`, through `http` if given."""
        return cls(base_url.rstrip("/"), http or httpx.AsyncClient(timeout=timeout_s))

    async def drive(self, steps: Steps[T]) -> T:
        """Takes every step; the result, or what the steps raise."""
        step: Callable[[], Any] = functools.partial(next, steps)
        while True:
            try:
                wanted = step()
            except StopIteration as end:
                result: T = end.value
                return result
            try:
                step = functools.partial(steps.send, await self._do(wanted))
            except Exception as error:  # Whatever it is, the steps are the ones who know what to make of it.
                step = functools.partial(steps.throw, error)

    async def _do(self, wanted: Send | Pause | Alone) -> Any:
        if isinstance(wanted, Send):
            return await self.http.send(_request(self.http, self.base_url, wanted))
        if isinstance(wanted, Pause):
            return await self.pause(wanted.seconds)
        async with self._lock:
            return await self.drive(wanted.steps)


@dataclass(frozen=True, slots=True)
class SyncWire:
    """The same, waiting for each step. Safe for several threads."""

    base_url: str
    http: httpx.Client
    pause: Callable[[float], None] = time.sleep
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def to(cls, base_url: str, http: httpx.Client | None = None, *, timeout_s: float = TIMEOUT_S) -> SyncWire:
        """A wire to `base_url`, through `http` if given."""
        return cls(base_url.rstrip("/"), http or httpx.Client(timeout=timeout_s))

    def drive(self, steps: Steps[T]) -> T:
        """Takes every step; the result, or what the steps raise."""
        step: Callable[[], Any] = functools.partial(next, steps)
        while True:
            try:
                wanted = step()
            except StopIteration as end:
                result: T = end.value
                return result
            try:
                step = functools.partial(steps.send, self._do(wanted))
            except Exception as error:  # Whatever it is, the steps are the ones who know what to make of it.
                step = functools.partial(steps.throw, error)

    def _do(self, wanted: Send | Pause | Alone) -> Any:
        if isinstance(wanted, Send):
            return self.http.send(_request(self.http, self.base_url, wanted))
        if isinstance(wanted, Pause):
            return self.pause(wanted.seconds)
        with self._lock:
            return self.drive(wanted.steps)


def _request(http: httpx.AsyncClient | httpx.Client, base_url: str, send: Send) -> httpx.Request:
    timeout = httpx.USE_CLIENT_DEFAULT if send.timeout_s is None else httpx.Timeout(send.timeout_s)
    request = http.build_request(send.method, base_url + send.path, headers=send.headers, content=send.body, timeout=timeout)
    send.prepare(request)
    return request


def awaited(steps: Callable[Concatenate[S, P], Steps[T]]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """A method of the asynchronous client from one that says the steps."""

    @functools.wraps(steps)
    async def call(self: S, /, *args: P.args, **how: P.kwargs) -> T:
        wire: AsyncWire = self._wire
        return await wire.drive(steps(self, *args, **how))

    return call


def blocking(steps: Callable[Concatenate[S, P], Steps[T]]) -> Callable[Concatenate[S, P], T]:
    """A method of the synchronous client from one that says the steps."""

    @functools.wraps(steps)
    def call(self: S, /, *args: P.args, **how: P.kwargs) -> T:
        wire: SyncWire = self._wire
        return wire.drive(steps(self, *args, **how))

    return call


class AsyncClosing:
    """Closes its connections, by itself or at the end of `async with`."""

    _wire: AsyncWire

    async def close(self) -> None:
        """Closes its connections."""
        await self._wire.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.close()


class SyncClosing:
    """Closes its connections, by itself or at the end of `with`."""

    _wire: SyncWire

    def close(self) -> None:
        """Closes its connections."""
        self._wire.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()
