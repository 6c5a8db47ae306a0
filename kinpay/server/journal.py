"""The log: one JSON object a line, events with ids and numbers, nothing of people.

The text of an exception is left out, because a database's or a parser's may quote a row or a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import msgspec

from kinpay.server.problems import where

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}


class JsonLines(logging.Formatter):
    """One object: at, level, from, event, then whatever the event brought as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "from": record.name,
            "event": record.getMessage(),
        }
        line.update({name: value for name, value in vars(record).items() if name not in _STANDARD})
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = type(record.exc_info[1]).__name__
            line["at_code"] = where(record.exc_info[1])
        return msgspec.json.encode(line, enc_hook=_shown).decode()


def _shown(value: Any) -> str:
    """Values that JSON does not know are named by type, not shown: they could be anything."""
    return f"<{type(value).__name__}>"


class Together(logging.StreamHandler[TextIO]):
    """Writes what is logged in one turn of the event loop in one go; outside of it, and from a warning on, at once."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines: list[str] = []
        self._taking = threading.RLock()

    def emit(self, record: logging.LogRecord) -> None:
        """Takes the line."""
        try:
            line = self.format(record) + self.terminator
        except Exception:
            self.handleError(record)
            return
        self.take(line, at_once=record.levelno >= logging.WARNING)

    def take(self, line: str, *, at_once: bool = False) -> None:
        """Takes a line that is worded already, with its end."""
        with self._taking:  # Another thread may be writing: what is added to the lines it took would be lost.
            self._lines.append(line)
        loop = None if at_once else _turning()
        if loop is None:
            self.flush()
        elif len(self._lines) == 1:
            loop.call_soon(self.flush)

    def flush(self) -> None:
        """Writes what was taken so far."""
        with self._taking:
            lines, self._lines = self._lines, []
            with contextlib.suppress(OSError, ValueError):  # Where the stream is gone there is nobody left to tell.
                self.stream.write("".join(lines))
                self.stream.flush()


def _turning() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class AccessLine(msgspec.Struct, kw_only=True, rename={"where": "from"}, gc=False):
    """One line for each request: the template of its route, never its address, which can hold a code."""

    at: str
    level: str = "info"
    where: str = "kinpay.access"
    event: str = "request"
    method: str
    route: str
    status: int
    ms: float
    request_id: str
    actor_id: str | None


_access: list[Together] = []
"""Where requests are noted, if they are."""


def note_request(*, method: str, route: str, status: int, ms: float, request_id: str, actor_id: str | None) -> None:
    """Notes a request, straight into the journal: by way of `logging` its line took as long as all its checks."""
    if not _access:
        return
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = AccessLine(at=at, method=method, route=route, status=status, ms=ms, request_id=request_id, actor_id=actor_id)
    _access[0].take(msgspec.json.encode(line).decode() + "\n")


def open_journal(level: str, stream: TextIO | None = None) -> None:
    """Sends everything that is logged in this process, at `level` or above, to `stream` (standard error) as JSON lines."""
    handler = Together(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    _access[:] = [handler] if root.isEnabledFor(logging.INFO) else []
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio", "httpx", "httpcore"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(max(logging.getLevelName(level.upper()), logging.WARNING))
