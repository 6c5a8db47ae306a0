"""An operator as the bank's tests play it: its own signing, its own check of every answer, its own callback door.

Written from docs/sandbox-bank.md alone; it shares no code with the bank, so that neither can hide the other's mistake.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from kinpay_sandbox.person import BankCustomer
from kinpay_sandbox.remote import BankControl, ProviderAccount

PASSWORD = "right horse"
_numbers = count(1)


def fresh(prefix: str = "K") -> str:
    """A key nobody has used."""
    return f"{prefix}{secrets.token_hex(10)}"


def digest(body: bytes) -> str:
    """The digest in every signed text."""
    return hashlib.sha256(body).hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    """A verified answer."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of a refusal."""
        return str(self.json["code"])


class UnverifiedAnswerError(Exception):
    """An answer that proves nothing."""


@dataclass(slots=True)
class Ear:
    """A callback door: keeps what comes, answers with the next of `statuses` (204 when there is none)."""

    port: int = 0
    heard: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    _server: asyncio.Server | None = None

    async def open(self, port: int = 0) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._listen, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.heard.append((head[0], headers, body))
        status = self.statuses.pop(0) if self.statuses else 204
        writer.write(f"HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    def told(self) -> list[dict[str, Any]]:
        """Everything heard, parsed, in the order of its coming."""
        return [json.loads(body) for _, _, body in self.heard]

    def types(self) -> list[str]:
        """The types of everything heard."""
        return [event["type"] for event in self.told()]


async def until(true: Callable[[], bool], *, within_s: float = 5.0) -> None:
    """Wait for something to become true; fails if it doesn't."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


@dataclass(slots=True)
class Operator:
    """A client of the bank."""

    base_url: str
    client_id: str
    private: Ed25519PrivateKey
    bank_key: Ed25519PublicKey
    bank_key_id: str
    ear: Ear
    http: httpx.AsyncClient

    def signed_headers(
        self, method: str, target: str, *, body: bytes, nonce: str, at: int | None = None, keyid: str | None = None
    ) -> dict[str, str]:
        """The header of a signed request."""
        ts = int(time.time()) if at is None else at
        sig = self.private.sign(f"{method}\n{target}\n{ts}\n{nonce}\n{digest(body)}\n".encode())
        parts = f'keyid="{keyid or self.client_id}",ts="{ts}",nonce="{nonce}",sig="{base64.b64encode(sig).decode()}"'
        return {"Authorization": f"KINBANK-ED25519 {parts}"}

    async def send(
        self, method: str, target: str, *, body: bytes, headers: dict[str, str], nonce: str, timeout_s: float = 20
    ) -> Answer:
        """Send a request as it stands and verify the answer."""
        answer = await self.http.request(method, self.base_url + target, content=body, headers=headers, timeout=timeout_s)
        self.verify(answer, nonce=nonce)
        return Answer(answer.status_code, answer.content)

    def verify(self, answer: httpx.Response, *, nonce: str) -> None:
        """Fail unless the pinned key signed this answer to this request, just now."""
        ts, told = answer.headers.get("kinbank-timestamp", ""), answer.headers.get("kinbank-nonce", "")
        text = f"{answer.status_code}\n{ts}\n{told}\n{digest(answer.content)}\n".encode()
        try:
            self.bank_key.verify(base64.b64decode(answer.headers.get("kinbank-signature", "")), text)
        except InvalidSignature as error:
            raise UnverifiedAnswerError(answer.status_code) from error
        if told != nonce or answer.headers["kinbank-key"] != self.bank_key_id or abs(time.time() - int(ts)) > 300:
            raise UnverifiedAnswerError(answer.status_code)

    async def call(self, method: str, target: str, body: object = None, *, timeout_s: float = 20) -> Answer:
        """Sign, send, verify."""
        raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        nonce = secrets.token_urlsafe(16)
        headers = self.signed_headers(method, target, body=raw, nonce=nonce)
        return await self.send(method, target, body=raw, headers=headers, nonce=nonce, timeout_s=timeout_s)

    async def at_once(self, calls: Sequence[tuple[str, str, object]]) -> list[Answer]:
        """Make calls that really arrive together: signed and connected beforehand, then written in one go."""
        host, port = self.base_url.removeprefix("http://").split(":")
        lines = [await asyncio.open_connection(host, int(port)) for _ in calls]
        wires: list[tuple[str, bytes]] = []
        for method, target, body in calls:
            raw = b"" if body is None else json.dumps(body).encode()
            nonce = secrets.token_urlsafe(16)
            headers = self.signed_headers(method, target, body=raw, nonce=nonce)
            head = f"{method} {target} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n"
            head += f"Content-Length: {len(raw)}\r\nAuthorization: {headers['Authorization']}\r\n\r\n"
            wires.append((nonce, head.encode() + raw))
        for (_, writer), (_, wire) in zip(lines, wires, strict=True):
            writer.write(wire)
        answers = []
        for (reader, writer), (nonce, _) in zip(lines, wires, strict=True):
            head_bytes, _, told = (await reader.read()).partition(b"\r\n\r\n")
            writer.close()
            first, *rest = head_bytes.decode().split("\r\n")
            headers = {name: value for name, _, value in (line.partition(": ") for line in rest)}
            answer = httpx.Response(int(first.split(" ")[1]), headers=headers, content=told)
            self.verify(answer, nonce=nonce)
            answers.append(Answer(answer.status_code, told))
        return answers

    def terms(self, login: str, **changes: Any) -> dict[str, Any]:
        """The body that asks for an agreement."""
        asked = {
            "key": fresh("A"),
            "payer_account": login,
            "account": "main",
            "business_type": "proxy",
            "limits": {"per_debit_minor": None, "per_day_minor": None, "currency": "CNY"},
            "valid_until": None,
            "return_url": "https://kinpay.example/back/here?x=1",
            "spender": {"ref": "S1", "name": "小明"},
        }
        return asked | changes

    async def agreement(self, login: str, **changes: Any) -> str:
        """An agreement that its payer has signed on the bank's pages."""
        asked = await self.call("POST", "/v1/agreements", self.terms(login, **changes))
        assert asked.status == 201, asked.body
        async with BankCustomer(self.base_url, login, PASSWORD) as person:
            await person.agree(asked.json["approve_url"])
        return str(asked.json["agreement_id"])

    def order(self, agreement_id: str, amount_minor: int, **changes: Any) -> dict[str, Any]:
        """The body of a debit."""
        asked = {
            "key": fresh("D"),
            "agreement_id": agreement_id,
            "spender_ref": "S1",
            "amount_minor": amount_minor,
            "currency": "CNY",
            "description": "午饭",
        }
        return asked | changes

    async def debit(self, agreement_id: str, amount_minor: int, **changes: Any) -> Any:
        """Debit and return the Debit."""
        answer = await self.call("POST", "/v1/debits", self.order(agreement_id, amount_minor, **changes))
        assert answer.status == 200, answer.body
        return answer.json

    async def refund(self, debit_key: str, amount_minor: int, **changes: Any) -> Any:
        """Refund and return the Refund."""
        body = {"key": fresh("R"), "debit_key": debit_key, "amount_minor": amount_minor, "currency": "CNY"} | changes
        answer = await self.call("POST", "/v1/refunds", body)
        assert answer.status == 200, answer.body
        return answer.json


async def new_operator(control: BankControl, base_url: str, *, ear: Ear, notify_all: bool = False) -> Operator:
    """Register an operator whose callback door is `ear`."""
    private = Ed25519PrivateKey.generate()
    registered = await control.register_client(
        "Kin School",
        public_key=base64.b64encode(private.public_key().public_bytes_raw()).decode(),
        callback_url=f"http://127.0.0.1:{ear.port}/callbacks/bank?of=1",
        return_url_prefix="https://kinpay.example/back",
        accounts=[ProviderAccount("main", ["proxy", "self"]), ProviderAccount("spare", ["self"])],
        notify_all=notify_all,
    )
    return Operator(
        base_url,
        registered.client_id,
        private,
        Ed25519PublicKey.from_public_bytes(base64.b64decode(registered.bank_public_key)),
        registered.bank_key_id,
        ear,
        httpx.AsyncClient(trust_env=False),
    )


async def new_customer(control: BankControl, balance_minor: int = 100_000) -> str:
    """Open a customer and return their login."""
    login = f"payer-{next(_numbers)}-{secrets.token_hex(3)}"
    await control.open_customer(login, password=PASSWORD, name="王妈妈", balance_minor=balance_minor)
    return login
