"""A terminal's side: it is installed once, keeps its key, signs every request and renews its session by itself."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx

from kinpay_client.answer import Answer, Problem
from kinpay_client.signing import Agreeing, OwnKeySigner, SessionSigner, Signer, TerminalKey, sign_request
from kinpay_client.wire import Wire, new_key

_SESSION_ENDED = "terminal-session-ended"
_STALE = "request-stale"


class Terminal:
    """An installed terminal. Safe for many requests at once on one event loop.

    `clock`: seconds since the epoch; where it is wrong, the difference to the server's is learnt and made up for.
    """

    def __init__(self, wire: Wire, *, terminal_id: str, key: TerminalKey, clock: Callable[[], float] = time.time) -> None:
        self.terminal_id = terminal_id
        self._wire = wire
        self._key = key
        self._own = OwnKeySigner(terminal_id, key)
        self._session: SessionSigner | None = None
        self._opening = asyncio.Lock()
        self._clock = clock
        self._skew_s = 0.0

    # ---------------------------------------------------------------- installing and keeping

    @classmethod
    async def install(cls, base_url: str, install_code: str, *, http: httpx.AsyncClient | None = None) -> Self:
        """Makes a key, presents the install code and proves to hold the key. Keep the result (`save`) before anything else.

        Raises: Problem, Unreachable.
        """
        terminal_id = install_code.partition(".")[0]
        terminal = cls(Wire.to(base_url, http), terminal_id=terminal_id, key=TerminalKey.new())
        content = {"install_code": install_code, "public_key": terminal._key.public_point()}
        # The same code with the same key gets the same answer again, so a lost answer costs nothing.
        await terminal._send("POST", "/v1/terminals/install", content=content, own_key=True, repeatable=True)
        return terminal

    def to_json(self) -> str:
        """Everything that has to be kept, the private key among it: guard it."""
        kept = {"base_url": self._wire.base_url, "terminal_id": self.terminal_id, "private_key": self._key.to_pem()}
        return json.dumps(kept)

    @classmethod
    def from_json(cls, text: str, *, http: httpx.AsyncClient | None = None) -> Self:
        """The terminal that `to_json` described. Raises: ValueError, KeyError for another text."""
        kept = json.loads(text)
        key = TerminalKey.from_pem(kept["private_key"])
        return cls(Wire.to(kept["base_url"], http), terminal_id=kept["terminal_id"], key=key)

    def save(self, file: Path) -> None:
        """Writes `to_json` to a file that only its owner can read; the file is whole or not there."""
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")  # made with mode 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(self.to_json())
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).replace(file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, file: Path, *, http: httpx.AsyncClient | None = None) -> Self:
        """The terminal kept in `file`. Raises: OSError, ValueError, KeyError."""
        return cls.from_json(file.read_text(encoding="utf-8"), http=http)

    async def close(self) -> None:
        """Closes its connections."""
        await self._wire.http.aclose()

    # ------------------------------------------------------------------------------- asking

    async def session(self) -> str:
        """Agrees on a new session key; returns the session's id. Requests open one by themselves when they need it."""
        return (await self._open_session(instead_of=self._session)).session_id

    async def request(
        self,
        method: str,
        path: str,
        content: dict[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        own_key: bool = False,
        timeout_s: float | None = None,
    ) -> Answer:
        """Asks anything; `own_key`: signed by the terminal's own key (captures, registrations) instead of its session's.

        It is repeated after a lost answer only if it reads or has an idempotency key.

        Raises: Problem, Unreachable.
        """
        repeatable = method == "GET" or idempotency_key is not None
        return await self._send(
            method, path, content=content, key=idempotency_key, own_key=own_key, repeatable=repeatable, timeout_s=timeout_s
        )

    async def function_code(self) -> Answer:
        """The next code to show: `code` (an address), `rotates_in_s`, `expires_at`."""
        return await self._send("POST", "/v1/terminal/function-code", repeatable=True)

    async def scan(self, code: str) -> Answer:
        """Stands for a person without a phone, with this terminal's own function code."""
        return await self._send("POST", "/v1/terminal/scans", content={"code": code})

    async def choose(self, scan_id: str, business_type: str) -> Answer:
        """Chooses `self` or `proxy` for a scan of this terminal."""
        content = {"business_type": business_type}
        return await self._send("POST", f"/v1/scans/{scan_id}/business-type", content=content, repeatable=True)

    async def commands(self, *, wait_s: int = 20, again: bool = False) -> list[dict[str, Any]]:
        """What the server wants done, waiting up to `wait_s`. `again`: also what was handed out before (after a restart)."""
        path = f"/v1/terminal/commands?wait_s={wait_s}&again={'true' if again else 'false'}"
        answer = await self._send("GET", path, repeatable=True, timeout_s=wait_s + 15.0)
        found: list[dict[str, Any]] = answer["commands"]
        return found

    async def done(self, command_id: str, *, ok: bool, reason: str | None = None) -> None:
        """Says what came of a command."""
        content = {"ok": ok, "reason": reason}
        await self._send("POST", f"/v1/terminal/commands/{command_id}/done", content=content, repeatable=True)

    async def payment_code(self, amount_minor: int, currency: str, *, reference: str | None = None) -> Answer:
        """A code for one sale: `payment_code` to draw, `payment_code_id` to ask about."""
        content = {"amount_minor": amount_minor, "currency": currency, "reference": reference}
        return await self._send("POST", "/v1/terminal/payment-codes", content=content, repeatable=True)

    async def payment_code_state(self, payment_code_id: str) -> Answer:
        """Whether the code was `used`, and its `charge_id`."""
        return await self._send("GET", f"/v1/terminal/payment-codes/{payment_code_id}", repeatable=True)

    # ----------------------------------------------------------------------------- charging

    async def charge(
        self,
        presented: dict[str, Any],
        amount_minor: int,
        currency: str,
        *,
        capture: bool = True,
        pin: str | None = None,
        reference: str | None = None,
        items: list[dict[str, Any]] | None = None,
        key: str | None = None,
    ) -> Answer:
        """Charges what was presented (`{"code": …}`); `capture=False` only reserves. Give `key` to go on after a restart.

        `items`: the receipt's lines (`code`, `amount_minor`, `quantity`), which together come to the amount.
        """
        content: dict[str, Any] = {
            "presented": presented, "amount_minor": amount_minor, "currency": currency, "capture": capture,
        }  # fmt: skip
        content |= {name: value for name, value in (("pin", pin), ("reference", reference), ("items", items)) if value}
        return await self._keyed("/v1/charges", content, key)

    async def charge_state(self, charge_id: str) -> Answer:
        """The charge as it is now."""
        return await self._send("GET", f"/v1/charges/{charge_id}", repeatable=True)

    async def capture(self, charge_id: str, amount_minor: int, *, key: str | None = None) -> Answer:
        """Debits up to the reserved amount; the rest is released."""
        return await self._keyed(f"/v1/charges/{charge_id}/capture", {"amount_minor": amount_minor}, key)

    async def void(self, charge_id: str, *, key: str | None = None) -> Answer:
        """Releases a reservation: nothing was delivered."""
        return await self._keyed(f"/v1/charges/{charge_id}/void", {}, key)

    async def refund(self, charge_id: str, amount_minor: int, *, key: str | None = None) -> Answer:
        """Gives back part or all of a captured charge."""
        return await self._keyed(f"/v1/charges/{charge_id}/refunds", {"amount_minor": amount_minor}, key)

    async def _keyed(self, path: str, content: dict[str, Any], key: str | None) -> Answer:
        return await self._send("POST", path, content=content, key=key or new_key(), repeatable=True)

    # ------------------------------------------------------------------------------ signing

    async def _send(self, method: str, path: str, *, own_key: bool = False, **how: Any) -> Answer:
        """Sends; where the server says that session or clock are wrong, puts that right and sends once more."""
        used: Signer = self._own

        async def credentials(request: httpx.Request) -> None:
            nonlocal used
            used = self._own if own_key else await self._current_session()
            sign_request(request, used, now_s=self._clock() + self._skew_s)

        try:
            return await self._wire.send(method, path, credentials=credentials, **how)
        except Problem as problem:
            if problem.code == _STALE:
                self._learn_clock(problem)
            elif problem.code == _SESSION_ENDED and isinstance(used, SessionSigner):
                await self._open_session(instead_of=used)
            else:
                raise
        return await self._wire.send(method, path, credentials=credentials, **how)

    async def _current_session(self) -> SessionSigner:
        # When a session is over is the server's to say: it may end early, and clocks differ.
        return self._session or await self._open_session(instead_of=None)

    async def _open_session(self, *, instead_of: SessionSigner | None) -> SessionSigner:
        async with self._opening:
            if self._session is not None and self._session is not instead_of:
                return self._session  # somebody else renewed it while we waited
            agreeing = Agreeing.begin()
            answer = await self._send("POST", "/v1/terminals/sessions", content=agreeing.asked(), own_key=True, repeatable=True)
            self._session = agreeing.finish(answer.body, terminal_id=self.terminal_id)
            return self._session

    def _learn_clock(self, problem: Problem) -> None:
        told = problem.body.get("server_time_s")
        if not isinstance(told, int | float):
            raise problem
        self._skew_s = float(told) - self._clock()
