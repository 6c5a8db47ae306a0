"""What a terminal says to the server, step by step: every request signed, sessions renewed, a wrong clock made up for."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx

from kinpay_client.answer import Answer, Problem
from kinpay_client.exchange import Alone, Driven, Prepare, Steps, exchange, new_key, until_known
from kinpay_client.reading import read, typed
from kinpay_client.results import Charge, Choice, Command, FunctionCode, Item, PaymentCode, PaymentCodeState, Scan
from kinpay_client.signing import Agreeing, OwnKeySigner, SessionSigner, Signer, TerminalKey, sign_request

_SESSION_ENDED = "terminal-session-ended"
_STALE = "request-stale"

A = TypeVar("A", bound=Answer)


class TerminalSteps(Driven):
    """An installed terminal, apart from how its requests are carried out.

    `clock`: seconds since the epoch; where it is wrong, the difference to the server's is learnt and made up for.
    """

    def __init__(self, wire: Any, *, terminal_id: str, key: TerminalKey, clock: Callable[[], float] = time.time) -> None:
        self.terminal_id = terminal_id
        self._wire = wire
        self._key = key
        self._own = OwnKeySigner(terminal_id, key)
        self._session: SessionSigner | None = None
        self._clock = clock
        self._skew_s = 0.0

    # ---------------------------------------------------------------- installing and keeping

    def _install(self, install_code: str) -> Steps[None]:
        content = {"install_code": install_code, "public_key": self._key.public_point()}
        # The same code with the same key gets the same answer again, so a lost answer costs nothing.
        yield from self._send("POST", "/v1/terminals/install", content=content, own_key=True, repeatable=True)

    def to_json(self) -> str:
        """Everything that has to be kept, the private key among it: guard it."""
        kept = {"base_url": self._wire.base_url, "terminal_id": self.terminal_id, "private_key": self._key.to_pem()}
        return json.dumps(kept)

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

    # ------------------------------------------------------------------------------- asking

    def _new_session(self) -> Steps[str]:
        """Agrees on a new session key; returns the session's id. Requests open one by themselves when they need it."""
        return (yield from self._open_session(instead_of=self._session)).session_id

    def _request(
        self,
        method: str,
        path: str,
        content: dict[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        own_key: bool = False,
        timeout_s: float | None = None,
    ) -> Steps[Answer]:
        """Asks anything; `own_key`: signed by the terminal's own key (captures, registrations) instead of its session's.

        It is repeated after a lost answer only if it reads or has an idempotency key.

        Raises: Problem, Unreachable.
        """
        repeatable = method == "GET" or idempotency_key is not None
        return self._send(
            method, path, content=content, key=idempotency_key, own_key=own_key, repeatable=repeatable, timeout_s=timeout_s
        )

    def _function_code(self) -> Steps[FunctionCode]:
        """The next code to show."""
        return self._typed(FunctionCode, "POST", "/v1/terminal/function-code", repeatable=True)

    def _scan(self, code: str) -> Steps[Scan]:
        """Stands for a person without a phone, with this terminal's own function code."""
        return self._typed(Scan, "POST", "/v1/terminal/scans", content={"code": code})

    def _choose(self, scan_id: str, business_type: str) -> Steps[Choice]:
        """Chooses `self` or `proxy` for a scan of this terminal."""
        content = {"business_type": business_type}
        return self._typed(Choice, "POST", f"/v1/scans/{scan_id}/business-type", content=content, repeatable=True)

    def _commands(self, *, wait_s: int = 20, again: bool = False) -> Steps[list[Command]]:
        """What the server wants done, waiting up to `wait_s`. `again`: also what was handed out before (after a restart)."""
        path = f"/v1/terminal/commands?wait_s={wait_s}&again={'true' if again else 'false'}"
        answer = yield from self._send("GET", path, repeatable=True, timeout_s=wait_s + 15.0)
        return [read(Command, told, content=told["body"], told=told) for told in answer["commands"]]

    def _done(self, command_id: str, *, ok: bool, reason: str | None = None) -> Steps[None]:
        """Says what came of a command."""
        content = {"ok": ok, "reason": reason}
        yield from self._send("POST", f"/v1/terminal/commands/{command_id}/done", content=content, repeatable=True)

    def _payment_code(
        self, amount_minor: int, currency: str, *, reference: str | None = None, emv: dict[str, str] | None = None
    ) -> Steps[PaymentCode]:
        """A code for one sale, to be drawn; `emv` (`country`, `city`): also as an EMVCo code, as `emv_code`."""
        content = {"amount_minor": amount_minor, "currency": currency, "reference": reference}
        more = {"emv": emv} if emv is not None else {}
        return self._typed(PaymentCode, "POST", "/v1/terminal/payment-codes", content=content | more, repeatable=True)

    def _payment_code_state(self, payment_code_id: str) -> Steps[PaymentCodeState]:
        """Whether the code was `used`, and its `charge_id`."""
        return self._typed(PaymentCodeState, "GET", f"/v1/terminal/payment-codes/{payment_code_id}", repeatable=True)

    # ----------------------------------------------------------------------------- charging

    def _charge(
        self,
        presented: dict[str, Any],
        amount_minor: int,
        currency: str,
        *,
        capture: bool = True,
        pin: str | None = None,
        reference: str | None = None,
        items: Sequence[Item | dict[str, Any]] | None = None,
        key: str | None = None,
    ) -> Steps[Charge]:
        """Charges what was presented (`{"code": …}`); `capture=False` only reserves. Give `key` to go on after a restart.

        `items`: the receipt's lines, which together come to the amount. A refusal is a charge, not an exception: see `state`.
        Raises: Problem; Unreachable if it is not known whether it was charged: ask again under the same key.
        """
        lines = [one if isinstance(one, dict) else _line(one) for one in items or ()]
        content: dict[str, Any] = {
            "presented": presented, "amount_minor": amount_minor, "currency": currency, "capture": capture,
        }  # fmt: skip
        content |= {name: value for name, value in (("pin", pin), ("reference", reference), ("items", lines)) if value}
        return self._keyed("/v1/charges", content, key)

    def _charge_state(self, charge_id: str) -> Steps[Charge]:
        """The charge as it is now."""
        return self._typed(Charge, "GET", f"/v1/charges/{charge_id}", repeatable=True)

    def _settled(self, charge: Charge, *, within_s: float = 60.0) -> Steps[Charge]:
        """The charge, as soon as the provider's answer is known; at once if it is. Raises: NotSettled; Problem, Unreachable."""
        return until_known(lambda: self._charge_state(charge.id), charge, within_s=within_s)

    def _capture(self, charge_id: str, amount_minor: int | None = None, *, key: str | None = None) -> Steps[Charge]:
        """Debits up to the reserved amount (None: all of it); the rest is released."""
        return self._keyed(f"/v1/charges/{charge_id}/capture", {"amount_minor": amount_minor}, key)

    def _void(self, charge_id: str, *, key: str | None = None) -> Steps[Charge]:
        """Releases a reservation: nothing was delivered."""
        return self._keyed(f"/v1/charges/{charge_id}/void", {}, key)

    def _refund(self, charge_id: str, amount_minor: int, *, key: str | None = None) -> Steps[Charge]:
        """Gives back part or all of a captured charge."""
        return self._keyed(f"/v1/charges/{charge_id}/refunds", {"amount_minor": amount_minor}, key)

    def _keyed(self, path: str, content: dict[str, Any], key: str | None) -> Steps[Charge]:
        return self._typed(Charge, "POST", path, content=content, key=key or new_key(), repeatable=True)

    # ------------------------------------------------------------------------------ signing

    def _typed(self, kind: type[A], method: str, path: str, **how: Any) -> Steps[A]:
        return typed(kind, (yield from self._send(method, path, **how)))

    def _send(self, method: str, path: str, *, own_key: bool = False, **how: Any) -> Steps[Answer]:
        """Sends; where the server says that session or clock are wrong, puts that right and sends once more."""
        used: Signer = self._own

        def credentials() -> Steps[Prepare]:
            nonlocal used
            used = self._own if own_key else (yield from self._current_session())
            return self._signing(used)

        try:
            return (yield from exchange(method, path, credentials=credentials, **how))
        except Problem as problem:
            if problem.code == _STALE:
                self._learn_clock(problem)
            elif problem.code == _SESSION_ENDED and isinstance(used, SessionSigner):
                yield from self._open_session(instead_of=used)
            else:
                raise
        return (yield from exchange(method, path, credentials=credentials, **how))

    def _signing(self, signer: Signer) -> Prepare:
        def prepare(request: httpx.Request) -> None:
            sign_request(request, signer, now_s=self._clock() + self._skew_s)

        return prepare

    def _current_session(self) -> Steps[SessionSigner]:
        # When a session is over is the server's to say: it may end early, and clocks differ.
        return self._session or (yield from self._open_session(instead_of=None))

    def _open_session(self, *, instead_of: SessionSigner | None) -> Steps[SessionSigner]:
        session: SessionSigner = yield Alone(self._agree(instead_of))
        return session

    def _agree(self, instead_of: SessionSigner | None) -> Steps[SessionSigner]:
        if self._session is not None and self._session is not instead_of:
            return self._session  # somebody else renewed it while we waited
        agreeing = Agreeing.begin()
        answer = yield from self._send(
            "POST", "/v1/terminals/sessions", content=agreeing.asked(), own_key=True, repeatable=True
        )
        self._session = agreeing.finish(answer.body, terminal_id=self.terminal_id)
        return self._session

    def _learn_clock(self, problem: Problem) -> None:
        told = problem.body.get("server_time_s")
        if not isinstance(told, int | float):
            raise problem
        self._skew_s = float(told) - self._clock()


def kept(text: str) -> tuple[str, str, TerminalKey]:
    """Address, terminal's id and key from what `to_json` wrote. Raises: ValueError, KeyError for another text."""
    told = json.loads(text)
    return told["base_url"], told["terminal_id"], TerminalKey.from_pem(told["private_key"])


def _line(item: Item) -> dict[str, Any]:
    return {"code": item.code, "amount_minor": item.amount_minor, "quantity": item.quantity}
