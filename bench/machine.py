"""What the machine is, who else uses it, and how much processor time whom was spent on."""

from __future__ import annotations

import asyncio
import os
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The facts that decide what numbers mean. `memory_gib` is the whole."""

    processor: str
    cores: int
    memory_gib: int
    system: str
    python: str
    postgresql: str


def describe_machine(postgresql: str) -> dict[str, object]:
    """The facts as plain values. `postgresql`: the server's version."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    facts = Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(pages * size / 2**30),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        postgresql=postgresql,
    )
    return asdict(facts)


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


async def used_by_others(sample_s: float = 0.4) -> float:
    """The share of the machine (0 to 1) that is busy while we do nothing."""
    busy, whole = _machine_time()
    await asyncio.sleep(sample_s)
    busy_then, whole_then = _machine_time()
    return (busy_then - busy) / max(1, whole_then - whole)


def _machine_time() -> tuple[int, int]:
    with Path("/proc/stat").open(encoding="ascii") as lines:
        ticks = [int(text) for text in lines.readline().split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)  # the fourth and fifth are idle, and idle while a disk is waited for


def processor_time_s(pid: int) -> float:
    """What a process has used so far, in user and system mode together, threads included, children not."""
    return _times(pid)[0]


def server_time_s(postmaster: int) -> float:
    """What PostgreSQL has used so far: its first process, all that live beneath it, and those that have ended."""
    own, ended = _times(postmaster)
    total = own + ended
    for pid in Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text(encoding="ascii").split():
        with suppress(FileNotFoundError, ProcessLookupError):
            total += _times(int(pid))[0]
    return total


def _times(pid: int) -> tuple[float, float]:
    # The second field is the program's name in parentheses and may hold spaces; fields are counted after it.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    user, system, ended_user, ended_system = (int(text) for text in fields[11:15])
    return (user + system) / _TICKS_PER_S, (ended_user + ended_system) / _TICKS_PER_S
