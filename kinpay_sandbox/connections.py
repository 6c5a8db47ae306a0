"""The open connections, so that one can be cut without an answer when a fault asks for it."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Receive, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_open: dict[tuple[str, int], asyncio.Transport] = {}


class CuttableProtocol(HttpToolsProtocol):
    """uvicorn's protocol, remembering its transport under the peer's address."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note the connection."""
        super().connection_made(transport)
        self._peer: Any = transport.get_extra_info("peername")
        if self._peer is not None:
            _open[self._peer[:2]] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        if self._peer is not None:
            _open.pop(self._peer[:2], None)
        super().connection_lost(exc)


async def cut(scope: Scope, receive: Receive, *, after_sending: bool = False) -> None:
    """Cut the connection of this request; `after_sending` lets what was written already leave first."""
    transport = _open.get(tuple(scope["client"]))
    if transport is not None:
        if after_sending:
            transport.close()
        else:
            transport.abort()
    while (await receive())["type"] != "http.disconnect":
        continue
