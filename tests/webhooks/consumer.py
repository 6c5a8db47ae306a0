"""A merchant's endpoint: a real HTTP server on sockets of its own, in a thread, that can be slow, rude, gone or down."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Heard:
    """One request as it came over the wire."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def told(self) -> dict[str, Any]:
        """The message."""
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def message_id(self) -> str:
        """Its `webhook-id`."""
        return self.headers["webhook-id"]


Behave = Callable[[socket.socket, Heard], None]


def answer(status: int, *, body: bytes = b"ok", headers: str = "") -> Behave:
    """Answers at once."""

    def behave(conn: socket.socket, _: Heard) -> None:
        head = f"HTTP/1.1 {status} Said\r\ncontent-length: {len(body)}\r\n{headers}connection: close\r\n\r\n"
        conn.sendall(head.encode() + body)

    return behave


def hang(conn: socket.socket, _: Heard) -> None:
    """Never answers; ends when the other side hangs up."""
    conn.settimeout(30)
    conn.recv(1)


def drip(conn: socket.socket, _: Heard) -> None:
    """Says yes, and then sends a byte of its long body now and then."""
    conn.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    for _number in range(1000):
        conn.sendall(b".")
        time.sleep(0.05)


def chatter(conn: socket.socket, _: Heard) -> None:
    """Says yes and does not stop talking before the other side hangs up."""
    conn.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        conn.sendall(b"<p>\x00\xff" * 4_000)


@dataclass
class Consumer:
    """Listens on a loopback port from `start` to `stop`; what it heard is in the order of coming."""

    behave: Behave = field(default_factory=lambda: answer(204, body=b""))
    tls: ssl.SSLContext | None = None
    heard: list[Heard] = field(default_factory=list)
    port: int = 0
    _listener: socket.socket | None = None

    def start(self) -> Consumer:
        """Takes a port, the same one again after a stop."""
        self._listener = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return self

    def stop(self) -> None:
        """From now on connections are refused."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    async def hears(self, count: int = 1) -> None:
        """Returns once so many requests were heard."""
        for _ in range(1_000):
            if len(self.heard) >= count:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("nobody asks")

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/hook?of=till"

    def named(self, name: str) -> str:
        """The same under a name."""
        return self.url.replace("127.0.0.1", name)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                conn, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn: socket.socket) -> None:
        try:
            with conn if self.tls is None else self.tls.wrap_socket(conn, server_side=True) as wrapped:
                heard = _read(wrapped)
                self.heard.append(heard)
                self.behave(wrapped, heard)
        except OSError:
            pass  # Hung up on, as a sender may.


def _read(conn: socket.socket) -> Heard:
    data = b""
    while b"\r\n\r\n" not in data:
        part = conn.recv(65_536)
        if not part:
            raise OSError("nothing came")
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += conn.recv(65_536)
    return Heard(first.split(" ")[1], headers, body)
