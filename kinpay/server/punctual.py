"""HTTP as uvicorn speaks it, with a limit to how long the head of a request may take: by itself it would wait for ever.

Bodies have their own limit in `guard.py`, idle connections uvicorn's. Source: OWASP ASVS 13 (slow requests); threat A32.
"""

from __future__ import annotations

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from kinpay.server.asgi import WHOLE

HEAD_TIMEOUT_S: Final = 10.0


class Punctual(HttpToolsProtocol):
    """Hangs up on whoever connects and does not finish saying what they want."""

    head_timeout_s = HEAD_TIMEOUT_S
    _late: asyncio.TimerHandle | None = None
    _in_head = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody connects: from now on they are waited for."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """They say something. Whoever stops in the middle of a head, or says what begins none, is waited for from now on."""
        super().data_received(data)
        if self._in_head or self.cycle is None or self.cycle.response_complete:
            self._wait()

    def on_message_begin(self) -> None:
        """Another request on the same connection."""
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._in_head = False
        self._no_longer_wait()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is there, too: whoever reads it need not watch the clock."""
        super().on_message_complete()
        self.scope[WHOLE] = True  # type: ignore[typeddict-unknown-key]  # ours, beside what ASGI names

    def connection_lost(self, exc: Exception | None) -> None:
        """They are gone."""
        self._no_longer_wait()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(self.head_timeout_s, self._hang_up)

    def _no_longer_wait(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _hang_up(self) -> None:
        self._late = None
        if not self.transport.is_closing():
            self.transport.close()
