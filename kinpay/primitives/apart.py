"""Many things that are due at once: each is done by itself."""

from __future__ import annotations

import logging
from collections.abc import Awaitable

log = logging.getLogger(__name__)


async def apart(work: Awaitable[object], subject_id: str) -> None:
    """Does one of many things that are due, so that one that goes wrong holds up none of those behind it; it stays due."""
    try:
        await work
    except Exception as error:
        log.error("due, and failed", extra={"subject_id": subject_id, "error": type(error).__name__}, exc_info=error)
