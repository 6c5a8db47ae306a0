"""A wire between a pool and its server that can swallow the server's answer to a COMMIT, and cut the line instead; or hold a
statement back for as long as somebody else does something.

The commit has happened by then: the client alone does not know.
"""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit


class LossyWire:
    """Listens on a port of its own and passes bytes on, both ways."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.swallow = 0
        """How many further commits go unacknowledged."""
        self.swallowed = 0
        self.telling = b"COMMIT;"
        """What a message that commits holds: a statement by itself is known by something that is written in it."""
        self.held_back: bytes | None = None
        """The next message that holds this waits until `released`; `holding` is set meanwhile."""
        self.holding, self.released = asyncio.Event(), asyncio.Event()
        self.begun = 0
        """How many transactions were begun."""

    async def open(self) -> str:
        """Starts to listen; returns the database's address by way of this wire."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        user = self._parts.username or parse_qs(self._parts.query).get("user", ["postgres"])[0]
        secret = f":{quote(self._parts.password)}" if self._parts.password else ""
        return urlunsplit(("postgresql", f"{quote(user)}{secret}@127.0.0.1:{port}", self._parts.path, "sslmode=disable", ""))

    async def close(self) -> None:
        """Cuts every line."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        socket_folder = parse_qs(self._parts.query).get("host", [""])[0]
        port = self._parts.port or int(parse_qs(self._parts.query).get("port", ["5432"])[0])
        if socket_folder:
            return await asyncio.open_unix_connection(f"{socket_folder}/.s.PGSQL.{port}")
        return await asyncio.open_connection(self._parts.hostname or "127.0.0.1", port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        from_server, to_server = await self._connect()
        committing = [False]
        up = asyncio.create_task(self._pass_up(reader, to_server, committing))
        try:
            await self._pass_down(from_server, writer, committing)
        except ConnectionError:
            pass
        finally:
            up.cancel()
            writer.close()
            to_server.close()

    async def _pass_up(self, reader: asyncio.StreamReader, to_server: asyncio.StreamWriter, committing: list[bool]) -> None:
        while data := await reader.read(1 << 16):
            self.begun += data.count(b"BEGIN;")
            if self.held_back is not None and self.held_back in data:
                self.held_back = None
                self.holding.set()
                await self.released.wait()
            if self.telling in data and self.swallow > 0:
                self.swallow -= 1
                committing[0] = True
            to_server.write(data)
        to_server.close()

    async def _pass_down(self, from_server: asyncio.StreamReader, writer: asyncio.StreamWriter, committing: list[bool]) -> None:
        while data := await from_server.read(1 << 16):
            if committing[0]:
                self.swallowed += 1
                return  # The answer is here, so it is committed; it goes no further, and the line is cut.
            writer.write(data)
            await writer.drain()
