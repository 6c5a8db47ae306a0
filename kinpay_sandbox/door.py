"""The door of `/v1`: who is asking, is it really they, what do the faults make of it, and the signature on every answer.

Source: docs/sandbox-bank.md §2, §6 (fault kinds).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from kinpay_sandbox.bank import Bank
from kinpay_sandbox.client import Client, find_client, spend_nonce
from kinpay_sandbox.connections import cut
from kinpay_sandbox.debit import Whim
from kinpay_sandbox.faults import DEFAULT_HANG_S, HTML, Fault, twist
from kinpay_sandbox.refusal import Refusal
from kinpay_sandbox.signing import WINDOW_S, answer_text, read_credentials, request_text, verifies
from kinpay_sandbox.wire import Fields, read_body, read_json, write_json

log = logging.getLogger("kinpay_sandbox.door")


@dataclass(frozen=True, slots=True)
class Answer:
    """What will be signed and sent."""

    status: int
    body: bytes
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One authenticated call: who, about what, with which body, and what a fault makes of the decision."""

    bank: Bank
    client: Client
    path: dict[str, str]
    body: bytes
    whim: Whim | None = None

    def fields(self) -> Fields:
        """Parse the body. Raises: Refusal(422, bad_request)."""
        return read_json(self.body)


Handler = Callable[[Call], Awaitable[Answer]]


def say(value: object, *, status: int = 200) -> Answer:
    """Make a JSON answer."""
    return Answer(status, write_json(value))


def endpoint(handler: Handler, *, operation: str) -> Callable[[Request], Awaitable[Response]]:
    """Wrap a handler of `/v1` so that it is asked only by verified clients and answers only under signature."""

    async def answer(request: Request) -> Response:
        bank: Bank = request.app.state.bank
        credentials = read_credentials(_authorization(request))
        nonce = "" if credentials is None else credentials.nonce
        try:
            body = await read_body(request)
            client = await _authenticate(bank, request, body=body)
        except Refusal as refusal:
            return _signed(bank, say({"code": refusal.code}, status=refusal.status), nonce=nonce)
        fault = bank.faults.take(operation, _key_of(request, body))
        whim = None if fault is None else fault.whim()
        call = Call(bank=bank, client=client, path=dict(request.path_params), body=body, whim=whim)
        if fault is None:
            return _signed(bank, await _work(handler, call), nonce=nonce)
        return await _misbehave(fault, handler, call=call, nonce=nonce)

    return answer


def _authorization(request: Request) -> str:
    found = request.headers.getlist("authorization")
    return found[0] if len(found) == 1 else ""


async def _authenticate(bank: Bank, request: Request, *, body: bytes) -> Client:
    """Return who signed the request. Raises: Refusal(401, bad_signature | unknown_client | stale | replayed)."""
    credentials = read_credentials(_authorization(request))
    if credentials is None:
        raise Refusal(401, "bad_signature")
    client = await find_client(bank.db, credentials.key_id)
    if client is None:
        raise Refusal(401, "unknown_client")
    query: bytes = request.scope["query_string"]
    target = request.scope["raw_path"].decode("latin-1") + (f"?{query.decode('latin-1')}" if query else "")
    text = request_text(request.method, target, timestamp=credentials.timestamp, nonce=credentials.nonce, body=body)
    if not verifies(client.public_key, credentials.signature, text=text):
        raise Refusal(401, "bad_signature")
    if abs(time.time() - credentials.timestamp) > WINDOW_S:
        raise Refusal(401, "stale")
    if not await spend_nonce(bank.nonces, client.client_id, nonce=credentials.nonce):
        raise Refusal(401, "replayed")
    return client


def _key_of(request: Request, body: bytes) -> str | None:
    """Return the key (or agreement id) a call is about, by which faults are matched; None if it names none."""
    named = request.path_params.get("key") or request.path_params.get("agreement_id")
    if named is not None:
        return str(named)
    try:
        key = read_json(body).take("key")
    except Refusal:
        return None
    return key if isinstance(key, str) else None


async def _work(handler: Handler, call: Call) -> Answer:
    try:
        return await handler(call)
    except Refusal as refusal:
        return say({"code": refusal.code}, status=refusal.status)
    except Exception:
        log.exception("a call failed inside the bank")
        return say({"code": "internal"}, status=500)


def _signature_headers(bank: Bank, answer: Answer, *, nonce: str) -> dict[str, str]:
    timestamp = int(time.time())
    text = answer_text(answer.status, timestamp=timestamp, nonce=nonce, body=answer.body)
    return {
        "Kinbank-Key": bank.key.key_id,
        "Kinbank-Timestamp": str(timestamp),
        "Kinbank-Nonce": nonce,
        "Kinbank-Signature": bank.key.sign(text),
    }


def _signed(bank: Bank, answer: Answer, *, nonce: str) -> Response:
    headers = _signature_headers(bank, answer, nonce=nonce) | {"Cache-Control": "no-store"}
    return Response(answer.body, answer.status, headers, answer.media_type)


class _NoAnswer(Response):
    """The connection is cut where an answer should have been."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await cut(scope, receive)


class _HalfAnswer(Response):
    """The head and half of the body leave, then the connection is cut."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        await cut(scope, receive, after_sending=True)


async def _misbehave(fault: Fault, handler: Handler, *, call: Call, nonce: str) -> Response:
    """Do the work or not, and answer it wrongly, late, or not at all, as the fault says."""
    seconds = DEFAULT_HANG_S if fault.seconds is None else fault.seconds
    if fault.refuses():
        status = 404 if fault.code == "not_found" else 422
        return _signed(call.bank, say({"code": fault.code}, status=status), nonce=nonce)
    if fault.kind == "drop_before_commit":
        return _NoAnswer()
    if fault.kind == "hang_before_commit":
        await asyncio.sleep(seconds)
    if fault.kind == "garbage" and not fault.commit:
        answer = say({"code": "internal"}, status=500)
    else:
        answer = await _work(handler, call)
    if fault.kind == "drop_after_commit":
        return _NoAnswer()
    if fault.kind == "hang_after_commit":
        await asyncio.sleep(seconds)
    if fault.kind == "garbage":
        return _garbage(call.bank, answer, form=fault.form or "html", nonce=nonce)
    return _signed(call.bank, answer, nonce=nonce)


def _garbage(bank: Bank, answer: Answer, *, form: str, nonce: str) -> Response:
    if form == "html":
        return Response(HTML, 502, media_type="text/html")
    if form == "unsigned":
        return Response(answer.body, answer.status, media_type=answer.media_type)
    if form == "error_500":
        return _signed(bank, say({"code": "internal"}, status=500), nonce=nonce)
    if form == "truncated":
        headers = _signature_headers(bank, answer, nonce=nonce)
        return _HalfAnswer(answer.body, answer.status, headers, answer.media_type)
    twisted = Answer(answer.status, twist(answer.body, form))
    return _signed(bank, twisted, nonce=nonce)
