"""The load of the HTTP cells, in a process of its own: tills that ask over kept connections, each request signed, each with
an unused pay code and an unused key. `python -m bench.load SPEC` prints its result as JSON.

It shares the machine with the server, so it is lean: raw HTTP/1.1, and whatever does not need the moment is made before.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvloop

from bench.cell import percentile
from kinpay.primitives.ids import new_id
from kinpay.server.secret_file import read_keys
from kinpay.terminals.codes import Codes, PayCode
from kinpay_client.signing import Agreeing, OwnKeySigner, SessionSigner, TerminalKey, sign_request

PATH = "/v1/charges"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What to do. `families`: (circle, spender, credential) each; `tills`: (terminal, PEM) each; `prepared`: so many requests
    are made before the watch runs; `until`: goes on at least until so many are answered."""

    ports: list[int]
    callers: int
    warm_s: float
    seconds: float
    prepared: int
    until: int
    secret_file: str
    operator_id: str
    families: list[tuple[str, str, str]]
    tills: list[tuple[str, str]]


class Maker:
    """Makes signed requests, one family after the other."""

    def __init__(self, spec: Spec, sessions: list[SessionSigner]) -> None:
        self._families = spec.families
        self._operator_id = spec.operator_id
        self._sessions = sessions
        self._codes = Codes(read_keys(Path(spec.secret_file), may_create=False))
        self._number = 0

    def make(self) -> bytes:
        """A whole request, good for two minutes."""
        number, self._number = self._number, self._number + 1
        circle, spender, credential = self._families[number % len(self._families)]
        signer = self._sessions[number % len(self._sessions)]
        now_s = int(time.time())
        code = self._codes.write(PayCode(new_id(), self._operator_id, circle, spender, credential, now_s + 600))
        body = b'{"presented":{"code":"%s"},"amount_minor":100,"currency":"CNY","capture":false}' % code.encode()
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        key = secrets.token_hex(16)
        parameters = (
            f'("@method" "@path" "@query" "content-digest" "idempotency-key");created={now_s};keyid="{signer.signer_id}"'
            f';alg="hmac-sha256";nonce="{secrets.token_urlsafe(18)}"'
        )
        base = (
            f'"@method": POST\n"@path": {PATH}\n"@query": ?\n"content-digest": sha-256=:{digest}:\n"idempotency-key": {key}\n'
            f'"@signature-params": {parameters}'
        )
        signature = base64.b64encode(hmac.digest(signer.key, base.encode(), "sha256")).decode()
        head = (
            f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
            f"idempotency-key: {key}\r\ncontent-digest: sha-256=:{digest}:\r\n"
            f"signature-input: kinpay={parameters}\r\nsignature: kinpay=:{signature}:\r\n\r\n"
        )
        return head.encode() + body


class Tally:
    """When answers came and how long each took."""

    def __init__(self) -> None:
        self.taken: list[tuple[float, float]] = []
        self.wrong: str | None = None
        self.over = False


class Caller(asyncio.Protocol):
    """One kept connection with one request under way."""

    def __init__(self, requests: Iterator[bytes], tally: Tally) -> None:
        self._requests = requests
        self._tally = tally
        self._buffer = b""
        self._began = 0.0
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        """Asks for the first time."""
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        request = next(self._requests)
        self._began = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Checks the answer once it is whole; asks again."""
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        at = head.index(b"content-length: ") + 16
        end = head.find(b"\r\n", at)
        if len(body) < int(head[at : end if end > 0 else None]):
            return
        now = time.perf_counter()
        self._buffer = b""
        if not head.startswith(b"HTTP/1.1 201 ") or b'"state":"held"' not in body:
            self._tally.wrong = (head.partition(b"\r\n")[0] + b" " + body).decode(errors="replace")[:500]
            return
        self._tally.taken.append((now, now - self._began))
        if not self._tally.over:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """A server that hangs up while we ask has failed."""
        if not self._tally.over:
            self._tally.wrong = self._tally.wrong or "connection lost"


async def open_session(port: int, terminal_id: str, pem: str) -> SessionSigner:
    """Agrees on a session key as every terminal does."""
    agreeing, signer = Agreeing.begin(), OwnKeySigner(terminal_id, TerminalKey.from_pem(pem))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
        request = http.build_request("POST", "/v1/terminals/sessions", json=agreeing.asked())
        sign_request(request, signer, now_s=time.time())
        answer = await http.send(request)
    answer.raise_for_status()
    return agreeing.finish(answer.json(), terminal_id=terminal_id)


async def run(spec: Spec) -> dict[str, Any]:
    """Asks for `warm_s` and `seconds`. Raises: RuntimeError for any answer but 201 held."""
    sessions = [await open_session(spec.ports[0], *till) for till in spec.tills]
    maker = Maker(spec, sessions)
    ready = [maker.make() for _ in range(spec.prepared)]

    def requests() -> Iterator[bytes]:
        ready.reverse()
        while True:
            yield ready.pop() if ready else maker.make()

    source, tally = requests(), Tally()
    loop = asyncio.get_running_loop()
    for number in range(spec.callers):
        await loop.create_connection(lambda: Caller(source, tally), "127.0.0.1", spec.ports[number % len(spec.ports)])
    await _wait(tally, spec.warm_s)
    _say("warm")
    began, used = time.perf_counter(), time.process_time()
    await _wait(tally, spec.seconds, until=spec.until)
    _say("done")
    ended, used = time.perf_counter(), time.process_time() - used
    tally.over = True
    await asyncio.sleep(0.3)
    ordered = sorted(took for at, took in tally.taken if began <= at < ended)
    return {
        "operations": len(ordered),
        "seconds": ended - began,
        "p50_ms": percentile(ordered, 0.5) * 1e3,
        "p99_ms": percentile(ordered, 0.99) * 1e3,
        "load_us": used / len(ordered) * 1e6,
        "made_meanwhile": not ready,
    }


async def _wait(tally: Tally, seconds: float, until: int = 0) -> None:
    deadline = time.perf_counter() + seconds
    while (left := deadline - time.perf_counter()) > 0 or len(tally.taken) < until:
        await asyncio.sleep(min(max(left, 0.0), 0.1))
        if tally.wrong is not None:
            raise RuntimeError(f"answered otherwise than 201 held: {tally.wrong}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Reads the spec's file, prints `warm`, `done` and the result."""
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    _say(json.dumps(uvloop.run(run(Spec(**given)))))


if __name__ == "__main__":
    main()
