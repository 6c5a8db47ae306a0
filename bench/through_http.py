"""kinpay through HTTP: everything in process, and before it connections, signatures, codes and JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cell import Cell
from bench.circles import World, shuffled
from bench.ground import Ground
from bench.load import Spec
from bench.machine import processor_time_s, server_time_s
from bench.serving import Served

PARTY = "kinpay through HTTP"
_EXPECTED_PER_S = 4500


@dataclass(frozen=True, slots=True)
class ThroughHttp:
    """Servers on one database. `home` holds their secret, with which the load makes pay codes."""

    ground: Ground
    world: World
    servers: list[Served]
    home: Path

    async def warm(self) -> None:
        """Lets every server meet every circle once, as after a day's work."""
        for server in self.servers:
            await self._load([server], callers=64, warm_s=0.0, seconds=0.0, until=len(self.world.families))

    async def measure(self, callers: int, *, processes: int, warm_s: float, seconds: float) -> Cell:
        """One cell, over `processes` of the servers."""
        servers = self.servers[:processes]
        said, client_s, server_s = await self._load(servers, callers=callers, warm_s=warm_s, seconds=seconds)
        operations = said["operations"]
        return Cell(
            party=PARTY,
            shape=f"{processes} process" + ("es" if processes > 1 else ""),
            callers=callers,
            operations=operations,
            seconds=said["seconds"],
            p50_ms=said["p50_ms"],
            p99_ms=said["p99_ms"],
            client_us=client_s / operations * 1e6,
            server_us=server_s / operations * 1e6,
        )

    async def _load(
        self, servers: list[Served], *, callers: int, warm_s: float, seconds: float, until: int = 0
    ) -> tuple[dict[str, Any], float, float]:
        """(What the load says, processor seconds of the servers' Python, of PostgreSQL), the latter two without the warm-up."""
        among = self.world
        spec = Spec(
            ports=[server.port for server in servers],
            callers=callers,
            warm_s=warm_s,
            seconds=seconds,
            until=until,
            prepared=until or int((warm_s + seconds) * min(_EXPECTED_PER_S, 1500 * callers)),
            secret_file=str(self.home / "secret"),
            operator_id=among.shop.operator_id,
            families=[(f.circle_id, f.spender_id, f.credential_id) for f in shuffled(among.families, callers)],
            tills=[(till.terminal_id, till.private_key) for till in among.tills[: min(callers, 64)]],
        )
        file = self.home / "load.json"
        file.write_text(json.dumps({name: getattr(spec, name) for name in Spec.__dataclass_fields__}), encoding="utf-8")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.load", str(file), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        await process.stdout.readline()
        before = self._times(servers)
        await process.stdout.readline()
        after = self._times(servers)
        rest, complaint = await process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"the load failed: {complaint.decode(errors='replace')[-2000:]}")
        return json.loads(rest), after[0] - before[0], after[1] - before[1]

    def _times(self, servers: list[Served]) -> tuple[float, float]:
        return sum(processor_time_s(server.pid) for server in servers), server_time_s(self.ground.postmaster)
