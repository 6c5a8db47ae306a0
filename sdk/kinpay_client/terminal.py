"""A terminal's side: it is installed once, keeps its key, signs every request and renews its session by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import httpx

from kinpay_client.drive import AsyncClosing, AsyncWire, SyncClosing, SyncWire, awaited, blocking
from kinpay_client.signing import TerminalKey
from kinpay_client.terminal_steps import TerminalSteps, kept


class Terminal(AsyncClosing, TerminalSteps):
    """An installed terminal. Safe for many requests at once on one event loop."""

    @classmethod
    async def install(cls, base_url: str, install_code: str, *, http: httpx.AsyncClient | None = None) -> Self:
        """Makes a key, presents the install code and proves to hold the key. Keep the result (`save`) before anything else.

        Raises: Problem, Unreachable.
        """
        wire = AsyncWire.to(base_url, http)
        terminal = cls(wire, terminal_id=install_code.partition(".")[0], key=TerminalKey.new())
        await wire.drive(terminal._install(install_code))
        return terminal

    @classmethod
    def from_json(cls, text: str, *, http: httpx.AsyncClient | None = None) -> Self:
        """The terminal that `to_json` described. Raises: ValueError, KeyError for another text."""
        base_url, terminal_id, key = kept(text)
        return cls(AsyncWire.to(base_url, http), terminal_id=terminal_id, key=key)

    @classmethod
    def load(cls, file: Path, *, http: httpx.AsyncClient | None = None) -> Self:
        """The terminal kept in `file`. Raises: OSError, ValueError, KeyError."""
        return cls.from_json(file.read_text(encoding="utf-8"), http=http)

    session = awaited(TerminalSteps._new_session)
    request = awaited(TerminalSteps._request)
    function_code = awaited(TerminalSteps._function_code)
    scan = awaited(TerminalSteps._scan)
    choose = awaited(TerminalSteps._choose)
    commands = awaited(TerminalSteps._commands)
    done = awaited(TerminalSteps._done)
    payment_code = awaited(TerminalSteps._payment_code)
    payment_code_state = awaited(TerminalSteps._payment_code_state)
    charge = awaited(TerminalSteps._charge)
    charge_state = awaited(TerminalSteps._charge_state)
    settled = awaited(TerminalSteps._settled)
    capture = awaited(TerminalSteps._capture)
    void = awaited(TerminalSteps._void)
    refund = awaited(TerminalSteps._refund)


class SyncTerminal(SyncClosing, TerminalSteps):
    """An installed terminal, for programs without an event loop. Safe for several threads."""

    @classmethod
    def install(cls, base_url: str, install_code: str, *, http: httpx.Client | None = None) -> Self:
        """Makes a key, presents the install code and proves to hold the key. Keep the result (`save`) before anything else.

        Raises: Problem, Unreachable.
        """
        wire = SyncWire.to(base_url, http)
        terminal = cls(wire, terminal_id=install_code.partition(".")[0], key=TerminalKey.new())
        wire.drive(terminal._install(install_code))
        return terminal

    @classmethod
    def from_json(cls, text: str, *, http: httpx.Client | None = None) -> Self:
        """The terminal that `to_json` described. Raises: ValueError, KeyError for another text."""
        base_url, terminal_id, key = kept(text)
        return cls(SyncWire.to(base_url, http), terminal_id=terminal_id, key=key)

    @classmethod
    def load(cls, file: Path, *, http: httpx.Client | None = None) -> Self:
        """The terminal kept in `file`. Raises: OSError, ValueError, KeyError."""
        return cls.from_json(file.read_text(encoding="utf-8"), http=http)

    session = blocking(TerminalSteps._new_session)
    request = blocking(TerminalSteps._request)
    function_code = blocking(TerminalSteps._function_code)
    scan = blocking(TerminalSteps._scan)
    choose = blocking(TerminalSteps._choose)
    commands = blocking(TerminalSteps._commands)
    done = blocking(TerminalSteps._done)
    payment_code = blocking(TerminalSteps._payment_code)
    payment_code_state = blocking(TerminalSteps._payment_code_state)
    charge = blocking(TerminalSteps._charge)
    charge_state = blocking(TerminalSteps._charge_state)
    settled = blocking(TerminalSteps._settled)
    capture = blocking(TerminalSteps._capture)
    void = blocking(TerminalSteps._void)
    refund = blocking(TerminalSteps._refund)
