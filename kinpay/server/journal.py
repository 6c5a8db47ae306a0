"""The log: one JSON object a line, events with ids and numbers, nothing of people.

The text of an exception is left out, because a database's or a parser's may quote a row or a request.
"""

from __future__ import annotations

import logging
import sys
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


def open_journal(level: str, stream: TextIO | None = None) -> None:
    """Sends everything that is logged in this process, at `level` or above, to `stream` (standard error) as JSON lines."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio", "httpx", "httpcore"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(max(logging.getLevelName(level.upper()), logging.WARNING))
