"""`/metrics` and `/healthz` on a port of their own, so that no mistake in a reverse proxy shows them to the world."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Final

from kinpay.primitives.sealed import Sealed
from kinpay.server.asgi import Receive, Scope, Send, answer, header
from kinpay.server.exposition import MEDIA_TYPE

_PLAIN: Final = b"text/plain; charset=utf-8"
Text = Callable[[], Awaitable[bytes]]


class MetricsPort:
    """The application behind `KINPAY_METRICS_LISTEN`. It answers no more than this: 200, 401, 404, 405."""

    def __init__(self, text: Text, *, token: Sealed[bytes] | None) -> None:
        """`text` makes what is told; `token`: what whoever asks for it has to bring."""
        self._text = text
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers."""
        if scope["type"] != "http":
            return
        if scope["path"] not in ("/metrics", "/healthz"):
            await answer(send, 404, [(b"content-type", _PLAIN)], b"not here\n")
        elif scope["method"] not in ("GET", "HEAD"):
            await answer(send, 405, [(b"content-type", _PLAIN), (b"allow", b"GET, HEAD")], b"only GET\n")
        elif scope["path"] == "/healthz":
            await answer(send, 200, [(b"content-type", _PLAIN)], b"ok\n")
        elif not self._may_ask(scope):
            await answer(send, 401, [(b"content-type", _PLAIN), (b"www-authenticate", b"Bearer")], b"bring the token\n")
        else:
            await answer(send, 200, [(b"content-type", MEDIA_TYPE), (b"cache-control", b"no-store")], await self._text())

    def _may_ask(self, scope: Scope) -> bool:
        if self._token is None:
            return True
        kind, _, brought = (header(scope, b"authorization") or b"").partition(b" ")
        return kind.lower() == b"bearer" and hmac.compare_digest(brought.strip(), self._token.open())
