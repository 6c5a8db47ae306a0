"""Ask a cluster with the driver that kinpay uses."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg


def ask(url: str, sql: str) -> Any:
    """The first value of the first row that `sql` answers."""

    async def run() -> Any:
        connection = await asyncpg.connect(url, timeout=10)
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(run())
