"""The stop watch for parties that run in this process: callers that ask, wait and ask again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from bench.cell import Cell, percentile
from bench.machine import server_time_s


async def drive(
    ask: Callable[[int], Awaitable[None]],
    *,
    party: str,
    shape: str,
    callers: int,
    warm_s: float,
    seconds: float,
    postmaster: int,
) -> Cell:
    """Lets `callers` callers call `ask(number of the caller)` in a closed loop; what ends after the warm-up is counted.

    Raises: what `ask` raises; a party that errs has no rate.
    """
    taken: list[tuple[float, float]] = []
    over = False

    async def call(number: int) -> None:
        while not over:
            began = time.perf_counter()
            await ask(number)
            ended = time.perf_counter()
            taken.append((ended, ended - began))

    calling = [asyncio.create_task(call(number)) for number in range(callers)]
    try:
        await _watch(calling, warm_s)
        began, client_s, server_s = time.perf_counter(), time.process_time(), server_time_s(postmaster)
        await _watch(calling, seconds)
        while not any(moment >= began for moment, _ in taken):
            await _watch(calling, _A_MOMENT_S)  # On a busy machine the slowest party may have ended nothing yet.
        ended, client_s = time.perf_counter(), time.process_time() - client_s
        server_s = server_time_s(postmaster) - server_s
    finally:
        over = True
        await asyncio.gather(*calling, return_exceptions=True)
    ordered = sorted(latency for moment, latency in taken if began <= moment < ended)
    return Cell(
        party=party,
        shape=shape,
        callers=callers,
        operations=len(ordered),
        seconds=ended - began,
        p50_ms=percentile(ordered, 0.5) * 1e3,
        p99_ms=percentile(ordered, 0.99) * 1e3,
        client_us=client_s / len(ordered) * 1e6,
        server_us=server_s / len(ordered) * 1e6,
    )


_A_MOMENT_S: Final = 0.05


async def _watch(calling: list[asyncio.Task[None]], seconds: float) -> None:
    """Waits, but not longer than until a caller fails."""
    done, _ = await asyncio.wait(calling, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        task.result()
