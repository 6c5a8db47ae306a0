"""The few ASGI words that the server's own middleware shares."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

Headers = list[tuple[bytes, bytes]]

WHOLE: Final = "kinpay.whole"
"""In the scope of a request whose body had arrived before anybody read it: nothing has to be waited for."""


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first value of a request header (`name` in lower case)."""
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found
    return None


def state(scope: Scope) -> dict[str, Any]:
    """What travels with the request: `request.state` of the routes."""
    found: dict[str, Any] = scope.setdefault("state", {})
    return found


async def answer(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """A whole answer."""
    sized = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": sized})
    await send({"type": "http.response.body", "body": body})
