"""How a one-time code leaves the house: a port with three ways out, and the task that the worker runs for each code.

Source: semantics.md "Registration" (codes leave by a channel port; one that prints them exists only in the demo);
Standard Webhooks (signed content is `id.timestamp.body`).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import shlex
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import httpx
import msgspec

from kinpay.people.code import LIFE
from kinpay.people.code_text import code_text
from kinpay.primitives.sealed import Sealed
from kinpay.primitives.server_keys import ServerKeys

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class CodeNotSent(Exception):
    """The channel did not take the code; the worker tries again. Says why without the code and without the address."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CodeMessage:
    """A code on its way out. `id` stays the same when the worker tries again, so that a receiver can drop repetitions."""

    id: str
    address: str
    account: str
    code: str
    purpose: str
    locale: str
    asked_at: str

    def text(self) -> str:
        """The words for the person."""
        minutes = int(LIFE.total_seconds()) // 60
        return code_text(self.code, purpose=self.purpose, locale=self.locale, minutes=minutes)


class Channel(Protocol):
    """A way out for codes."""

    async def send(self, message: CodeMessage) -> None:
        """Hands the message over. Raises: CodeNotSent."""


class OutboxMessage(Protocol):
    """What the worker holds of a row of the outbox."""

    @property
    def subject_id(self) -> str:
        """The id of the code's row."""

    @property
    def body(self) -> Mapping[str, Any]:
        """As `code.enqueue_code` wrote it."""


async def send_code(message: OutboxMessage, channel: Channel, keys: ServerKeys, *, now: datetime | None = None) -> None:
    """Opens a code of the outbox and gives it to the channel; one for nobody, or past its life at `now`, goes nowhere.

    Raises: CodeNotSent; SealBroken.
    """
    body = message.body
    if now is not None and now >= datetime.fromisoformat(body["expires_at"]):
        return
    sealed = base64.b64decode(body["sealed"])
    secret = msgspec.json.decode(keys.unseal(sealed, purpose="code", bound_to=message.subject_id))
    if secret["address"] is None:
        return
    await channel.send(
        CodeMessage(
            id=message.subject_id,
            address=secret["address"],
            account=secret["account"],
            code=secret["code"],
            purpose=body["purpose"],
            locale=body["locale"],
            asked_at=body["asked_at"],
        )
    )


@dataclass(frozen=True, slots=True)
class CommandChannel:
    """Runs a program for each code, with the address on the first line of its standard input and the text after it.

    Nothing secret is in the arguments, which everybody on a machine can read. Exit status 0 means sent.
    """

    command: tuple[str, ...]
    timeout_s: float = 20.0

    async def send(self, message: CodeMessage) -> None:
        """Raises: CodeNotSent if the program is missing, fails, or takes longer than `timeout_s`."""
        given = f"{message.address}\n{message.text()}\n".encode()
        nothing = asyncio.subprocess.DEVNULL
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command, stdin=asyncio.subprocess.PIPE, stdout=nothing, stderr=nothing, start_new_session=True
            )
        except OSError as error:
            raise CodeNotSent("the program could not be started") from error
        try:
            await asyncio.wait_for(process.communicate(given), self.timeout_s)
        except TimeoutError:
            raise CodeNotSent("the program took too long") from None
        finally:
            # Also when we are cancelled: the program and its children never outlive us.
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode != 0:
            raise CodeNotSent(f"the program ended with status {process.returncode}")


@dataclass(frozen=True, slots=True)
class WebhookChannel:
    """Posts each code to the operator's own gateway, over HTTPS, signed with a shared secret.

    Headers `webhook-id`, `webhook-timestamp` (seconds) and `webhook-signature: v1,<base64 HMAC-SHA256 of id.timestamp.body>`.
    """

    url: str
    secret: Sealed[bytes]
    timeout_s: float = 10.0
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise ValueError("a webhook for codes must be https")
        if len(self.secret.open()) < 24:
            raise ValueError("a webhook's secret has at least 24 bytes")

    async def send(self, message: CodeMessage) -> None:
        """Raises: CodeNotSent for anything but a 2xx answer; redirects are not followed."""
        body = msgspec.json.encode(
            {"address": message.address, "text": message.text(), "purpose": message.purpose, "locale": message.locale}
        )
        headers = {"content-type": "application/json", **self._signature(message.id, body)}
        try:
            async with httpx.AsyncClient(timeout=self.timeout_s, follow_redirects=False) as client:
                answer = await client.post(self.url, content=body, headers=headers)
        except httpx.HTTPError as error:
            raise CodeNotSent(f"the gateway could not be reached: {type(error).__name__}") from error
        if not answer.is_success:
            raise CodeNotSent(f"the gateway answered {answer.status_code}")

    def _signature(self, message_id: str, body: bytes) -> dict[str, str]:
        timestamp = str(int(self.clock()))
        signed = b".".join((message_id.encode(), timestamp.encode(), body))
        mac = hmac.new(self.secret.open(), signed, hashlib.sha256).digest()
        return {
            "webhook-id": message_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
        }


@dataclass(frozen=True, slots=True)
class FileChannel:
    """Appends each code in clear to a file, one JSON object a line. For the demo only: whoever reads the file is everybody."""

    path: Path

    async def send(self, message: CodeMessage) -> None:
        """Raises: CodeNotSent if the file cannot be written."""
        line = msgspec.json.encode(
            {
                "address": message.address,
                "code": message.code,
                "purpose": message.purpose,
                "account": message.account,
                "at": message.asked_at,
            }
        )
        try:
            await asyncio.to_thread(self._append, line + b"\n")
        except OSError as error:
            raise CodeNotSent("the file could not be written") from error

    def _append(self, line: bytes) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, line)
        finally:
            os.close(handle)


def channel_of(kind: str, target: str, *, demo: bool, secret: Sealed[bytes] | None = None) -> Channel:
    """The channel that the settings name: `command` and a command line, `webhook` and an address, or, in the demo, `file`.

    `secret`: what a webhook is signed with, at least 24 bytes.

    Raises: ValueError, fit to be shown, for anything else.
    """
    if kind == "command" and (command := tuple(shlex.split(target))):
        return CommandChannel(command)
    if kind == "webhook" and target:
        if secret is None:
            raise ValueError("a webhook for codes needs a secret")
        return WebhookChannel(target, secret)
    if kind == "file" and target:
        if not demo:
            raise ValueError("a channel that writes codes to a file exists only in the demo")
        return FileChannel(Path(target))
    raise ValueError("a code channel is a command, a webhook or, in the demo, a file")
