"""The outermost layer: every request gets an id, an answer, the headers of safety and one line in the log."""

from __future__ import annotations

import time
from typing import Final

from kinpay.primitives.ids import new_id
from kinpay.primitives.tally import Histogram
from kinpay.server.asgi import App, Headers, Message, Receive, Scope, Send, answer, header, state
from kinpay.server.guard import ClientGone
from kinpay.server.journal import note_request
from kinpay.server.problems import MEDIA_TYPE, locale_of, problem_of

_GONE: Final = 499
_SAFETY: Final[Headers] = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
]
_HTTPS: Final[Headers] = [(b"strict-transport-security", b"max-age=31536000")]


METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
"""What a request may be counted under; other words are an asker's own and would be endless."""


class RouteTally:
    """The answers of one method at one route: by hundreds of the status (0: none), and how long they took, in seconds."""

    __slots__ = ("answers", "took")

    def __init__(self) -> None:
        self.answers = [0] * 6
        self.took = Histogram()


class RequestTally:
    """Every request of this process by method and template of its route; `-` stands for what is no route of ours."""

    def __init__(self) -> None:
        self.routes: dict[tuple[str, str], RouteTally] = {}

    def add(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts a request: a look-up, two additions and a search among eleven numbers."""
        tally = self.routes.get((method, route))
        if tally is None:
            if method not in METHODS:
                method = "-"
            tally = self.routes.setdefault((method, route), RouteTally())
        tally.answers[status // 100] += 1
        tally.took.add(seconds)


class Front:
    """Catches what the layers below raise and answers with a problem; nothing that a client sends ends otherwise."""

    def __init__(self, app: App, *, https: bool, tally: RequestTally | None = None) -> None:
        """`https`: whether people reach this server over TLS, so that it may be told to their browsers."""
        self._app = app
        self._tally = tally or RequestTally()
        self._safety = _SAFETY + (_HTTPS if https else [])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers. Re-raises only what went wrong after an answer had begun, so that the connection is cut."""
        if scope["type"] != "http":
            await _decline(scope, receive, send)
            return
        began = time.perf_counter()
        request_id = new_id()
        state(scope)["request_id"] = request_id
        told = _Told()

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                told.status = message["status"]
                message["headers"] = self._headers(scope, message.get("headers", []), request_id)
            await send(message)

        try:
            await self._app(scope, receive, send_safely)
        except ClientGone:
            told.status = _GONE
        except Exception as error:
            if told.status:
                raise
            await _tell(error, scope, send_safely)
        finally:
            _note(self._tally, scope, told.status, began)

    def _headers(self, scope: Scope, given: Headers, request_id: str) -> Headers:
        """`given`, and those of ours that it does not set itself: a page brings its own policy."""
        names = {name.lower() for name, _ in given}
        headers = [*given, *(item for item in self._safety if item[0] not in names), (b"x-request-id", request_id.encode())]
        if scope["state"].get("replayed") and b"idempotency-replayed" not in names:
            headers.append((b"idempotency-replayed", b"true"))
        return headers


class _Told:
    """What the asker heard so far; 0 is nothing."""

    __slots__ = ("status",)

    def __init__(self) -> None:
        self.status = 0


async def _tell(error: Exception, scope: Scope, send: Send) -> None:
    problem = problem_of(error)
    body = problem.encode(locale_of(header(scope, b"accept-language")))
    headers = [(b"content-type", MEDIA_TYPE), (b"vary", b"Accept-Language"), *problem.headers]
    await answer(send, problem.status, headers, b"" if scope["method"] == "HEAD" else body)


def _note(tally: RequestTally, scope: Scope, status: int, began: float) -> None:
    known = state(scope)
    seconds = time.perf_counter() - began
    route = str(known.get("route") or getattr(scope.get("route"), "path", "-"))
    tally.add(scope["method"], route, status, seconds)
    note_request(
        method=scope["method"],
        route=route,
        status=status,
        ms=round(seconds * 1000, 2),
        request_id=known["request_id"],
        actor_id=getattr(known.get("actor"), "id", None),
    )


async def _decline(scope: Scope, receive: Receive, send: Send) -> None:
    """Neither web sockets nor start-up messages are spoken here."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1000})
        return
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
