"""A loop and a pool of their own, for random tests that are not coroutines themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from kinpay.database.pool import Database

T = TypeVar("T")


class Looping:
    """Runs coroutines one after another on one loop, with a database that is open on it."""

    def __init__(self, url: str, *, max_connections: int = 6) -> None:
        self._runner = asyncio.Runner()
        self.db = self.run(Database.open(url, max_connections=max_connections))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs `work` to its end."""
        return self._runner.run(work)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.run(self.db.close())
        self._runner.close()
