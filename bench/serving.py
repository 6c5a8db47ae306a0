"""`kinpay serve` in processes of their own, as an operator runs it, but for the worker: authorising alone is measured."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

_READY = "kinpay ready on "


@dataclass(frozen=True, slots=True)
class Served:
    """A server process and where it answers."""

    pid: int
    port: int


@asynccontextmanager
async def serving(database_url: str, home: Path, *, processes: int) -> AsyncIterator[list[Served]]:
    """Starts servers on free ports, all with the secret in `home`; stops them at the end."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("KINPAY_")},
        "KINPAY_HOME": str(home),
        "KINPAY_DATABASE_URL": database_url,
        "KINPAY_WORKER": "apart",
        "KINPAY_PORT": "0",
        "KINPAY_DEMO": "1",
        "KINPAY_CODE_CHANNEL": f"file:{home / 'codes'}",
        "KINPAY_MAX_CONNECTIONS": "8",
    }
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(_one(environment, home / f"server-{number}.log")) for number in range(processes)]


@asynccontextmanager
async def _one(environment: dict[str, str], log: Path) -> AsyncIterator[Served]:
    with log.open("wb") as journal:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "kinpay.cli.main", "serve",
            env=environment, stdout=asyncio.subprocess.PIPE, stderr=journal,
        )  # fmt: skip
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
        if not line.startswith(_READY):
            raise RuntimeError(f"kinpay serve did not start; see {log}")
        yield Served(process.pid, int(line.rsplit(":", 1)[1]))
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
