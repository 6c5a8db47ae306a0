"""The one way out to providers: asynchronous HTTP that tells *never left* from *nobody knows*.

It stands on httpx's transport, below its client: no retries, no redirects, no proxies, no cookies. kinpay's promise is
to know exactly what left and what came back. Source: providers.md §6; semantics.md ("Unknown never falls back").
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import BinaryIO, Final

import httpx

from kinpay.providers.contract import NotExecuted, UnknownOutcome

CONNECT_TIMEOUT_S: Final = 3.0
"""For a free place in the pool, and for the connection with its TLS handshake."""
MAX_ANSWER_BYTES: Final = 1 << 20
MAX_CONNECTIONS: Final = 64
KEEP_ALIVE_S: Final = 15.0

_NEVER_LEFT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back, byte for byte; header names in lower case, repeated ones joined by `, `."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def sha256(self) -> str:
        """Of the body, in hexadecimal digits."""
        return sha256(self.body).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What came back and lies in a file, as it may be longer than memory; `sha256` of the body, in hexadecimal digits."""

    status: int
    headers: Mapping[str, str]
    sha256: str


class Transport:
    """A pool of connections to one provider."""

    __slots__ = ("_closed", "_engine", "_timeout_s")

    def __init__(self, *, timeout_s: float, max_connections: int = MAX_CONNECTIONS) -> None:
        """`timeout_s` bounds every wait and, beside the time to connect, the exchange as a whole."""
        self._timeout_s = timeout_s
        self._closed = False
        self._engine = httpx.AsyncHTTPTransport(
            verify=_trusted_authorities(),
            retries=0,
            trust_env=False,
            limits=httpx.Limits(
                max_connections=max_connections,
                max_keepalive_connections=max_connections,
                keepalive_expiry=KEEP_ALIVE_S,
            ),
        )

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes = b"",
        timeout_s: float | None = None,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        """Sends one request once and reads its whole answer, whatever the status.

        Raises: NotExecuted if no connection came about, so that not a byte of the request left; UnknownOutcome for
        everything later: time-outs, cut or over-long answers, and a kept-alive connection that dies before the first
        byte, whose request may have been read.
        """
        async with self._exchange(method, url, headers=headers, body=body, timeout_s=timeout_s) as response:
            parts = [part async for part in _parts(response, max_bytes)]
            return Answer(status=response.status_code, headers=_lowered(response), body=b"".join(parts))

    async def fetch(self, url: str, into: BinaryIO, *, headers: Mapping[str, str], timeout_s: float, max_bytes: int) -> Kept:
        """Asks once for something long and writes its body to a file as it comes. Raises: as `send`."""
        digest = sha256()

        def keep(part: bytes) -> None:
            digest.update(part)
            into.write(part)

        async with self._exchange("GET", url, headers=headers, body=b"", timeout_s=timeout_s) as response:
            async for part in _parts(response, max_bytes):
                await asyncio.to_thread(keep, part)
            return Kept(status=response.status_code, headers=_lowered(response), sha256=digest.hexdigest())

    @asynccontextmanager
    async def _exchange(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes, timeout_s: float | None
    ) -> AsyncIterator[httpx.Response]:
        """An answer whose head is there. Whatever goes wrong until the block ends is one of the two things that may be true."""
        if self._closed:
            raise NotExecuted("transport_closed")
        total_s = self._timeout_s if timeout_s is None else timeout_s
        request = httpx.Request(
            method,
            url,
            # Signatures cover the bytes on the wire, so the answer must come as it is: no compression.
            headers={"Accept-Encoding": "identity", "User-Agent": "kinpay", **headers},
            content=body,
            extensions={"timeout": httpx.Timeout(total_s, connect=CONNECT_TIMEOUT_S, pool=CONNECT_TIMEOUT_S).as_dict()},
        )
        try:
            # The engine's time-outs are per step; a peer that drips single bytes is stopped by a deadline alone.
            async with asyncio.timeout(total_s + 2 * CONNECT_TIMEOUT_S):
                response = await self._engine.handle_async_request(request)
                try:
                    yield response
                finally:
                    await response.aclose()
        except _NEVER_LEFT as error:
            raise NotExecuted(type(error).__name__) from error
        except (httpx.HTTPError, httpx.StreamError, OSError, TimeoutError) as error:
            raise UnknownOutcome(type(error).__name__) from error

    async def close(self) -> None:
        """Closes every connection; calls still open end as unknown, later ones as never sent."""
        self._closed = True
        await self._engine.aclose()


@lru_cache(maxsize=1)
def _trusted_authorities() -> ssl.SSLContext:
    """Reading them takes tens of milliseconds, so it is done once for all adapters."""
    return httpx.create_ssl_context(trust_env=False)


def _lowered(response: httpx.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


async def _parts(response: httpx.Response, max_bytes: int) -> AsyncIterator[bytes]:
    size = 0
    async for part in response.aiter_raw():
        size += len(part)
        if size > max_bytes:
            raise UnknownOutcome("answer_too_long")
        yield part
