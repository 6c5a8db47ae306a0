"""The one way out to providers: asynchronous HTTP that tells *never left* from *nobody knows*.

It stands on httpx's transport, below its client: no retries, no redirects, no proxies, no cookies. kinpay's promise is
to know exactly what left and what came back. Source: providers.md §6; semantics.md ("Unknown never falls back").
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

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
                return await self._exchange(request, max_bytes)
        except _NEVER_LEFT as error:
            raise NotExecuted(type(error).__name__) from error
        except (httpx.HTTPError, httpx.StreamError, OSError, TimeoutError) as error:
            raise UnknownOutcome(type(error).__name__) from error

    async def _exchange(self, request: httpx.Request, max_bytes: int) -> Answer:
        response = await self._engine.handle_async_request(request)
        try:
            body = await _read(response, max_bytes)
        finally:
            await response.aclose()
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(status=response.status_code, headers=headers, body=body)

    async def close(self) -> None:
        """Closes every connection; calls still open end as unknown, later ones as never sent."""
        self._closed = True
        await self._engine.aclose()


@lru_cache(maxsize=1)
def _trusted_authorities() -> ssl.SSLContext:
    """Reading them takes tens of milliseconds, so it is done once for all adapters."""
    return httpx.create_ssl_context(trust_env=False)


async def _read(response: httpx.Response, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_raw():
        size += len(part)
        if size > max_bytes:
            raise UnknownOutcome("answer_too_long")
        parts.append(part)
    return b"".join(parts)
