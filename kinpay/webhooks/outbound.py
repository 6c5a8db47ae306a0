"""The way out to endpoints: one POST, once, to an address that was looked up and judged right before.

The connection goes to the very address that was judged, with the name only in `Host` and in TLS: whatever the name leads to a
moment later (DNS rebinding) changes nothing. No redirects, no proxies, no cookies, no connection that is kept.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import httpx

from kinpay.webhooks.address import Rules, Target, all_allowed, literal, read_url

TIMEOUT_S: Final = 10.0
"""For all of an attempt: looking up, connecting, sending, and the answer to its end."""
CONNECT_TIMEOUT_S: Final = 5.0
MAX_ANSWER_BYTES: Final = 16_384
KEPT_CHARS: Final = 500
_ADDRESSES_TRIED: Final = 2
_LOOK_UPS: Final = 64
_MAX_CONNECTIONS: Final = 1_024
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""A name's addresses; none, or an OSError, where there are none."""


class NoPublicAddress(Exception):
    """The name leads nowhere, or (also) where messages must not go; which of the two is not told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """How an attempt went. `status` None: no answer; `error` None: the endpoint took the message (any 2xx)."""

    status: int | None
    answer: str | None
    error: str | None
    duration_ms: int


class Outbound:
    """Sends messages. One a process."""

    def __init__(
        self,
        rules: Rules,
        *,
        resolve: Resolve | None = None,
        timeout_s: float = TIMEOUT_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`resolve`: how names are looked up, by default the system's way; `tls`: whom to trust, by default the usual."""
        self.rules = rules
        self._look_ups = ThreadPoolExecutor(_LOOK_UPS, thread_name_prefix="webhook-names")
        self._resolve = resolve or self._ask_system
        self._timeout_s = timeout_s
        self._engine = httpx.AsyncHTTPTransport(
            verify=tls or httpx.create_ssl_context(trust_env=False),
            retries=0,
            trust_env=False,
            limits=httpx.Limits(max_connections=_MAX_CONNECTIONS, max_keepalive_connections=0),
        )

    async def close(self) -> None:
        """Closes what is open."""
        await self._engine.aclose()
        self._look_ups.shutdown(wait=False, cancel_futures=True)

    async def addresses(self, target: Target) -> Sequence[str]:
        """The addresses of the target, every one of them allowed. Raises: NoPublicAddress."""
        own = literal(target.host)
        try:
            found = [own] if own is not None else await self._resolve(target.host)
        except (OSError, UnicodeError):
            found = []
        if not all_allowed(found, self.rules):
            raise NoPublicAddress
        return found

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> Sent:
        """Sends once. Whatever goes wrong is told in the answer, in a word; nothing is raised."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        status, answer, error = None, None, None
        try:
            async with asyncio.timeout(self._timeout_s):
                target = read_url(url, self.rules)
                status, answer = await self._exchange(target, await self.addresses(target), headers, body)
        except TimeoutError:
            error = "timeout"
        except Exception as wrong:
            error = _word(wrong)
        if status is not None and error is None and not 200 <= status < 300:
            error = "redirect" if 300 <= status < 400 else "status"
        duration_ms = round((loop.time() - began) * 1000)
        return Sent(status=status, answer=answer, error=error, duration_ms=duration_ms)

    async def _exchange(
        self, target: Target, addresses: Sequence[str], headers: Mapping[str, str], body: bytes
    ) -> tuple[int, str]:
        *earlier, last = addresses[:_ADDRESSES_TRIED]
        for address in earlier:
            try:
                return await self._ask(target, address, headers, body)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue  # Nothing has left yet; the name has another address.
        return await self._ask(target, last, headers, body)

    async def _ask(self, target: Target, address: str, headers: Mapping[str, str], body: bytes) -> tuple[int, str]:
        place = f"[{address}]" if ":" in address else address
        request = httpx.Request(
            "POST",
            f"{target.scheme}://{place}:{target.port}{target.path}",
            headers={"host": target.authority, "accept-encoding": "identity", "user-agent": "kinpay", **headers},
            content=body,
            extensions={
                "sni_hostname": target.host,
                "timeout": httpx.Timeout(self._timeout_s, connect=CONNECT_TIMEOUT_S).as_dict(),
            },
        )
        response = await self._engine.handle_async_request(request)
        try:
            return response.status_code, _readable(await _beginning(response))
        finally:
            await response.aclose()

    async def _ask_system(self, name: str) -> Sequence[str]:
        """In threads of its own, so that names that hang hold up nobody else's."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._look_ups, lambda: socket.getaddrinfo(name, None, type=socket.SOCK_STREAM))
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def _beginning(response: httpx.Response) -> bytes:
    """As much of the answer as is read; the rest is hung up on."""
    parts = bytearray()
    async for part in response.aiter_raw():
        parts += part
        if len(parts) >= MAX_ANSWER_BYTES:
            break
    return bytes(parts[:MAX_ANSWER_BYTES])


def _readable(answer: bytes) -> str:
    return _CONTROL.sub("\ufffd", answer[: 4 * KEPT_CHARS].decode("utf-8", "replace"))[:KEPT_CHARS]


def _word(error: Exception) -> str:
    if isinstance(error, NoPublicAddress):
        return "no_public_address"
    if isinstance(error, httpx.TimeoutException):
        return "timeout"
    if isinstance(error, httpx.ConnectError):
        return "certificate" if _is_about_trust(error) else "connect"
    return "broken_answer" if isinstance(error, httpx.HTTPError | OSError) else "not_sent"


def _is_about_trust(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False
