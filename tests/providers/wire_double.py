"""A double of the *wire*: raw sockets that answer as the protocol page says, or as badly as a test wants.

Its signatures are made here, from docs/sandbox-bank.md, not with the adapter's code.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kinpay.primitives.sealed import Sealed
from kinpay.providers.sandbox_bank.adapter import SandboxBank, open_sandbox_bank

CLIENT_ID = "client7"
ACCOUNT = "canteens"
CLIENT_SECRET = bytes(range(32))
BANK_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64)))
OLD_BANK_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(64, 96)))
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(range(96, 128)))

AUTHORIZATION = re.compile(r'KINBANK-ED25519 keyid="([^"]+)",ts="(\d+)",nonce="([A-Za-z0-9_-]{16,64})",sig="([A-Za-z0-9+/=]+)"')


def public_text(key: Ed25519PrivateKey) -> str:
    return b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


BANK_KEYS = {"bank1": public_text(BANK_KEY), "bank0": public_text(OLD_BANK_KEY)}


def configuration(base_url: str, /, **changes: object) -> dict[str, object]:
    return {
        "base_url": base_url, "client_id": CLIENT_ID, "bank_keys": BANK_KEYS, "account": ACCOUNT, "timeout_s": 2,
    } | changes  # fmt: skip


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        return dict(json.loads(self.body))

    @property
    def nonce(self) -> str:
        match = AUTHORIZATION.fullmatch(self.headers["authorization"])
        assert match
        return match[3]


def check_request(request: Request) -> None:
    """The page's §2, read independently of the adapter."""
    match = AUTHORIZATION.fullmatch(request.headers["authorization"])
    assert match, request.headers
    key_id, timestamp, nonce, signature = match.groups()
    assert key_id == CLIENT_ID
    assert abs(int(timestamp) - time.time()) < 300
    digest = hashlib.sha256(request.body).hexdigest()
    text = "\n".join([request.method, request.path, timestamp, nonce, digest]) + "\n"
    client_key: Ed25519PublicKey = Ed25519PrivateKey.from_private_bytes(CLIENT_SECRET).public_key()
    client_key.verify(b64decode(signature), text.encode())


def seal(
    status: int, body: bytes, nonce: str, *, key: Ed25519PrivateKey = BANK_KEY, key_id: str = "bank1", at: int | None = None
) -> dict[str, str]:
    timestamp = str(int(time.time()) if at is None else at)
    text = f"{status}\n{timestamp}\n{nonce}\n{hashlib.sha256(body).hexdigest()}\n"
    return {
        "Kinbank-Key": key_id,
        "Kinbank-Timestamp": timestamp,
        "Kinbank-Nonce": nonce,
        "Kinbank-Signature": b64encode(key.sign(text.encode())).decode(),
    }


def on_the_wire(status: int, headers: dict[str, str], body: bytes, *, promised: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body) if promised is None else promised}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def signed(request: Request, data: object, status: int = 200) -> bytes:
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    return on_the_wire(status, seal(status, body, request.nonce), body)


@dataclass
class Peer:
    """What a test writes into the connection: bytes; None cuts it."""

    answer: Callable[[Request], Awaitable[bytes | None] | bytes | None]
    base_url: str = ""
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    cut_after_answer: bool = False
    verify: bool = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while (request := await _read_request(reader)) is not None:
                self.requests.append(request)
                if self.verify:
                    check_request(request)
                answer = self.answer(request)
                raw = answer if answer is None or isinstance(answer, bytes) else await answer
                if raw is None:
                    break
                writer.write(raw)
                await writer.drain()
                if self.cut_after_answer:
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path, headers, body)


@asynccontextmanager
async def peer(
    answer: Callable[[Request], Awaitable[bytes | None] | bytes | None],
    *,
    cut_after_answer: bool = False,
    verify: bool = True,
) -> AsyncIterator[Peer]:
    """A server on a loopback port for as long as the block lasts."""
    double = Peer(answer, cut_after_answer=cut_after_answer, verify=verify)
    server = await asyncio.start_server(double.serve, "127.0.0.1", 0)
    double.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield double
    finally:
        server.close()


@asynccontextmanager
async def bank_answering(
    answer: Callable[[Request], Awaitable[bytes | None] | bytes | None],
    *,
    cut_after_answer: bool = False,
    **changes: object,
) -> AsyncIterator[tuple[SandboxBank, Peer]]:
    """The adapter, connected to a double."""
    async with peer(answer, cut_after_answer=cut_after_answer) as double:
        bank = open_sandbox_bank(configuration(double.base_url, **changes), Sealed(CLIENT_SECRET))
        try:
            yield bank, double
        finally:
            await bank.close()
