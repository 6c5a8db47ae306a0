"""pgbench's TPC-B-like transaction, prepared: three updates of one row each, one select, one insert. The yardstick."""

from __future__ import annotations

import asyncio
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import kinpay_postgres
from bench.cell import Cell, percentile
from bench.ground import Ground
from bench.machine import server_time_s
from kinpay_postgres.account import plain_environment
from kinpay_postgres.postmaster import PORT

PARTY = "pgbench TPC-B"
DATABASE = "tpcb"


_CONNECTING_S = 4
"""On a busy machine many clients need seconds to connect: a cell is never shorter."""


@dataclass(frozen=True, slots=True)
class TpcB:
    """A database with pgbench's tables. `scale` is at least the number of clients, or they would queue for few branches."""

    ground: Ground
    scale: int

    @classmethod
    async def open(cls, ground: Ground, *, scale: int) -> TpcB:
        """Makes and fills the tables."""
        await asyncio.to_thread(kinpay_postgres.drop_database, ground.cluster, DATABASE)
        await asyncio.to_thread(kinpay_postgres.create_database, ground.cluster, DATABASE)
        found = cls(ground, scale)
        await found._pgbench("-i", "-q", "-s", str(scale))
        return found

    async def measure(self, clients: int, *, warm_s: float, seconds: float) -> Cell:
        """One cell, from pgbench's log of every transaction."""
        with tempfile.TemporaryDirectory(prefix="kinpay-bench-") as folder:
            prefix = str(Path(folder) / "transactions")
            whole = str(max(_CONNECTING_S, round(warm_s + seconds)))
            arguments = ["-n", "-M", "prepared", "-c", str(clients), "-j", str(min(clients, 2)), "-T", whole]
            running = asyncio.create_task(self._pgbench(*arguments, "--log", f"--log-prefix={prefix}"))
            await asyncio.sleep(warm_s)
            before = server_time_s(self.ground.postmaster)
            await asyncio.sleep(max(0.1, seconds - 0.5))
            server_share = server_time_s(self.ground.postmaster) - before
            await running
            ended, latencies = _read(Path(folder), seconds)
        # The server's time is taken over half a second less, so that no client has left when it is read.
        counted = sum(1 for moment, _ in latencies if moment <= ended - 0.5) or 1
        ordered = sorted(latency for _, latency in latencies)
        return Cell(
            party=PARTY,
            shape="",
            callers=clients,
            operations=len(ordered),
            seconds=seconds,
            p50_ms=percentile(ordered, 0.5) / 1e3,
            p99_ms=percentile(ordered, 0.99) / 1e3,
            client_us=None,
            server_us=server_share / counted * 1e6,
        )

    async def _pgbench(self, *arguments: str) -> None:
        cluster = self.ground.cluster
        program = str(kinpay_postgres.client_binaries(cluster) / "pgbench")
        place = ["-h", str(cluster.socket_dir), "-p", str(PORT), "-U", cluster.user, DATABASE]
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            *place,
            env={**plain_environment(), "PGPASSWORD": cluster.password, "PATH": os.environ.get("PATH", "")},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"pgbench failed: {said.decode(errors='replace')[-2000:]}")


def _read(folder: Path, seconds: float) -> tuple[float, list[tuple[float, float]]]:
    """(When the last transaction ended, (when it ended, how many µs it took) of every transaction of the last `seconds`)."""
    found: list[tuple[float, float]] = []
    for file in folder.iterdir():
        with file.open(encoding="ascii") as lines:
            for line in lines:
                _, _, took, _, second, microsecond = line.split()[:6]
                found.append((int(second) + int(microsecond) / 1e6, float(took)))
    if not found:
        raise RuntimeError("pgbench ended no transaction: this machine is too busy to be measured")
    ended = max(moment for moment, _ in found)
    return ended, [item for item in found if item[0] > ended - seconds]
