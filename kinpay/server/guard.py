"""What stands before every route: how large, how slow, how deep and how odd a request may be.

Raw ASGI, because the hot route passes here too. What is refused here was not looked at by anything else.
Source: RFC 8259, RFC 7493 (I-JSON), OWASP ASVS 4.3, 13.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, NoReturn

from kinpay.primitives.errors import KinpayError
from kinpay.server.asgi import WHOLE, App, Message, Receive, Scope, Send, header, state

MAX_BODY_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 20
READ_TIMEOUT_S: Final = 10.0
MAX_TARGET_BYTES: Final = 2048
MAX_DRAIN_BYTES: Final = 16 * 1024 * 1024
DRAIN_S: Final = 1.0
_MAX_DIGITS: Final = 19

_ONCE: Final = frozenset(
    {
        b"authorization",
        b"content-digest",
        b"content-length",
        b"content-type",
        b"idempotency-key",
        b"last-event-id",
        b"signature",
        b"signature-input",
    }
)
"""Headers on which something is decided: said twice, two readers could believe different ones."""


class BodyTooLarge(KinpayError):
    """More than `limit_bytes`."""

    code = "body-too-large"


class BodyTooSlow(KinpayError):
    """The body did not arrive within `limit_s`."""

    code = "request-timeout"


class MediaTypeUnsupported(KinpayError):
    """A body that is not `application/json`, or is compressed."""

    code = "unsupported-media-type"


class BodyMalformed(KinpayError):
    """Not JSON as two careful readers would read it; `reason` says why not."""

    code = "malformed-request"


class ClientGone(Exception):
    """The asker hung up before the body was complete; there is nobody to answer."""


class Guard:
    """Reads the whole body, checks it, and hands it on, also as `state["body"]`, exactly as it was sent."""

    def __init__(
        self,
        app: App,
        *,
        unparsed: Callable[[str], bool],
        large: Callable[[str], int | None] = lambda _: None,
        limits: Limits | None = None,
    ) -> None:
        """`unparsed`: the paths whose body is not ours to read (a provider's callback is verified as it came); `large`: how
        many bytes the body of a path may have that may have more than others.
        """
        self._app = app
        self._unparsed = unparsed
        self._large = large
        self._limits = limits or Limits()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises: the errors above; `server/front.py` answers them."""
        check_head(scope)
        most = self._large(scope["path"])
        limits = self._limits if most is None else replace(self._limits, body_bytes=most)
        try:
            body = await read_body(scope, receive, limits)
        except BodyTooLarge:
            if header(scope, b"expect") is None:
                await drain(receive)
            raise
        if body and not self._unparsed(scope["path"]):
            check_media_type(scope)
            check_json(body)
        state(scope)["body"] = body
        await self._app(scope, _once(body, receive), send)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much and how long."""

    body_bytes: int = MAX_BODY_BYTES
    read_timeout_s: float = READ_TIMEOUT_S


def check_head(scope: Scope) -> None:
    """Raises: BodyMalformed for a target with NUL or over-long, or for a deciding header that is said twice."""
    target = scope.get("raw_path") or b""
    query = scope.get("query_string") or b""
    if len(target) + len(query) > MAX_TARGET_BYTES:
        raise BodyMalformed(reason="target_too_long")
    if b"%00" in target or b"%00" in query or "\0" in scope["path"]:
        raise BodyMalformed(reason="nul_in_target")
    deciding = [name for name, _ in scope["headers"] if name in _ONCE]
    if len(set(deciding)) != len(deciding):
        raise BodyMalformed(reason="header_repeated")


async def read_body(scope: Scope, receive: Receive, limits: Limits) -> bytes:
    """The whole body. Raises: BodyTooLarge, as soon as that is known; BodyTooSlow; ClientGone."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value[:20]) > limits.body_bytes:
            raise BodyTooLarge(limit_bytes=limits.body_bytes)
    first = _part(await receive()) if WHOLE in scope else await _next_part(receive, limits.read_timeout_s, limits)
    if not first.get("more_body"):
        body = first.get("body", b"")
        if len(body) > limits.body_bytes:
            raise BodyTooLarge(limit_bytes=limits.body_bytes)
        return bytes(body)
    return await _read_parts(first.get("body", b""), receive, limits)


async def drain(receive: Receive) -> None:
    """Lets a client that is still talking finish, within bounds: hung up on, many would never read the answer."""
    left = MAX_DRAIN_BYTES
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body"):
                    return


async def _read_parts(first: bytes, receive: Receive, limits: Limits) -> bytes:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limits.read_timeout_s
    parts, size, more = [first], len(first), True
    while more:
        message = await _next_part(receive, deadline - loop.time(), limits)
        part = message.get("body", b"")
        parts.append(part)
        size += len(part)
        if size > limits.body_bytes:
            raise BodyTooLarge(limit_bytes=limits.body_bytes)
        more = bool(message.get("more_body"))
    return b"".join(parts)


async def _next_part(receive: Receive, patience_s: float, limits: Limits) -> Message:
    try:
        async with asyncio.timeout(max(0.0, patience_s)):
            message = await receive()
    except TimeoutError:
        raise BodyTooSlow(limit_s=limits.read_timeout_s) from None
    return _part(message)


def _part(message: Message) -> Message:
    if message["type"] == "http.disconnect":
        raise ClientGone()
    return message


def _once(body: bytes, receive: Receive) -> Receive:
    """Gives the body to the next reader, then whatever else happens to the connection."""
    told = False

    async def replay() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def check_media_type(scope: Scope) -> None:
    """Raises: MediaTypeUnsupported."""
    kind = b""
    for name, value in scope["headers"]:
        if name == b"content-type":
            kind = value
        elif name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise MediaTypeUnsupported()
    if kind == b"application/json":
        return
    essence, _, parameters = kind.partition(b";")
    if essence.strip().lower() != b"application/json":
        raise MediaTypeUnsupported()
    if parameters.strip().lower().replace(b'"', b"") not in (b"", b"charset=utf-8"):
        raise MediaTypeUnsupported()


def check_json(body: bytes) -> None:
    """Raises: BodyMalformed unless `body` is one JSON text that every careful reader reads alike.

    Refused: invalid UTF-8, byte order marks, NaN and infinities, names said twice, lone surrogates, NUL, numbers past what
    JSON carries faithfully, depth over MAX_DEPTH.
    """
    try:
        value = _read(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise BodyMalformed(reason="not_utf8") from None
    except RecursionError:
        raise BodyMalformed(reason="too_deep") from None
    except ValueError:
        raise BodyMalformed(reason="not_json") from None
    # A lone surrogate or NUL can only be written as an escape, and depth needs brackets: most bodies have too few of either.
    if b"\\u" in body or body.count(b"{") + body.count(b"[") > MAX_DEPTH:
        _check_value(value, 1)


def _check_value(value: object, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise BodyMalformed(reason="too_deep")
    if type(value) is str:
        _check_text(value)
    elif type(value) is dict:
        for name, inner in value.items():
            _check_text(name)
            _check_value(inner, depth + 1)
    elif type(value) is list:
        for inner in value:
            _check_value(inner, depth + 1)


def _check_text(text: str) -> None:
    if "\0" in text:
        raise BodyMalformed(reason="nul")
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise BodyMalformed(reason="lone_surrogate") from None


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BodyMalformed(reason="name_repeated")
    return found


def _no_constant(_: str) -> NoReturn:
    raise BodyMalformed(reason="not_a_number")


def _whole(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise BodyMalformed(reason="number_too_long")
    return int(text)


def _fraction(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise BodyMalformed(reason="number_too_long")
    return value


_read: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_no_constant, parse_int=_whole, parse_float=_fraction
).decode
