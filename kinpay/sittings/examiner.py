"""Where pictures are computed on: a few threads, a short queue before them, and the models, loaded when first needed.

The event loop never waits for a model, and a till that only charges never pays for one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from kinpay.faces.engine import Engine
from kinpay.primitives.errors import Busy

T = TypeVar("T")

QUEUE: Final = 8
"""How many requests may wait for a thread; at a second each, whoever came later would wait in vain."""


class Examiner:
    """One a process. `open_engine` is called once, in a thread, at the first use; what it raises is raised anew each time."""

    def __init__(self, open_engine: Callable[[], Engine], *, threads: int = 1, queue: int = QUEUE) -> None:
        self._open_engine = open_engine
        self._engine: Engine | None = None
        self._opening = threading.Lock()
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="faces")
        self._room = threads + queue
        self._under_way = 0

    async def run(self, work: Callable[[Engine], T]) -> T:
        """Has a thread carry out `work`. Raises: Busy where the queue is full; ModelMissing, ModelAltered; what it raises."""
        self.require_room()
        self._under_way += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._carry_out, work)
        finally:
            self._under_way -= 1

    def require_room(self) -> None:
        """For whoever must not begin what would then be refused. Raises: Busy."""
        if self._under_way >= self._room:
            raise Busy(reason="faces", retry_after_s=2)

    def _carry_out(self, work: Callable[[Engine], T]) -> T:
        with self._opening:
            engine = self._engine = self._engine or self._open_engine()
        return work(engine)

    def close(self) -> None:
        """Begins nothing more; what is under way ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)
