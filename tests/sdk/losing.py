"""A wire to a server that carries a request there, waits for the answer, and cuts the line instead of handing it on.

What was asked has been carried out by then: the client alone does not know.
"""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit


class LosingWire:
    """Listens on a port of its own and passes whole requests and answers on, one a connection."""

    def __init__(self, url: str) -> None:
        self._to = urlsplit(url)
        self._server: asyncio.Server | None = None
        self.lose: list[str] = []
        """Paths whose next answers are lost, once for each time they are named."""
        self.lost: list[bytes] = []
        """The answers that nobody heard."""
        self.asked: list[str] = []
        """The first line of every request."""

    async def __aenter__(self) -> LosingWire:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *failure: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """The server's address by way of this wire."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(self._to.hostname, self._to.port)
        try:
            head, body = await _message(reader)
            line = head.split(b"\r\n", 1)[0].decode()
            self.asked.append(line)
            to_server.write(head.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1) + body)
            answer = await from_server.read()
            path = line.split(" ")[1]
            if path in self.lose:
                self.lose.remove(path)
                self.lost.append(answer)
                return
            writer.write(answer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            to_server.close()


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """A whole request: head without its `connection` line, and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    size = next((int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length:")), 0)
    return b"\r\n".join(lines), await reader.readexactly(size)
