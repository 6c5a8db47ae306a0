"""What a run consists of, and the run itself: every party in turn, round after round, on one server."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

from bench import inprocess, naive, statements, through_http, tpcb
from bench.cell import Cell
from bench.circles import World, found_world
from bench.ground import Ground
from bench.history import load_history
from bench.inprocess import InProcess
from bench.naive import Naive
from bench.serving import serving
from bench.statements import Statements
from bench.through_http import ThroughHttp
from bench.tpcb import TpcB
from kinpay.server.secret_file import read_keys

PARTIES: Final = ("tpcb", "inprocess", "http", "naive", "growth", "statements")
FEW: Final = 1000
CHARGES, NAIVE, YOUNG, GROWN, MONTHS, TEMPLATE = "charges", "naive", "young", "grown", "months", "empty"

Measure = Callable[[], Awaitable[Cell]]
Watch = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of what. `scale` is pgbench's, at least the number of its clients; `many` past charges against `FEW`.

    Statements are of twice `circles` circles: one charge a day in each of the first, `a_day` in each of the others, for `days`.
    """

    rounds: int = 3
    seconds: float = 8.0
    warm_s: float = 2.0
    families: int = 20_000
    pooled: int = 2_000
    tills: int = 64
    scale: int = 64
    many: int = 1_000_000
    circles: int = 40
    a_day: int = 40
    days: int = 5
    parties: frozenset[str] = field(default=frozenset(PARTIES))
    tpcb_clients: tuple[int, ...] = (1, 4, 8, 16, 32, 64)
    callers: tuple[int, ...] = (1, 8, 64, 256)
    contended_callers: tuple[int, ...] = (8, 64, 256)
    two_processes: tuple[int, ...] = (64, 256)
    naive_callers: tuple[int, ...] = (8, 64)

    @classmethod
    def quick(cls) -> Plan:
        """Small enough for a test: it shows that everything works, its numbers mean nothing."""
        return cls(
            rounds=1, seconds=0.4, warm_s=0.2, families=200, pooled=40, tills=4, scale=2, many=3_000,
            circles=4, a_day=6, days=2, tpcb_clients=(1, 8, 64),
            callers=(1, 8, 64), contended_callers=(64,), two_processes=(64,), naive_callers=(8,),
        )  # fmt: skip


@dataclass(slots=True)
class Run:
    """The rounds so far, and the databases that have to add up at the end."""

    rounds: list[list[Cell]] = field(default_factory=list)
    databases: list[str] = field(default_factory=list)


async def carry_out(plan: Plan, ground: Ground, home: Path, watch: Watch) -> Run:
    """Makes everything, then measures round after round. `watch` hears one line for each step."""
    run = Run()
    async with AsyncExitStack() as stack:
        groups = await _open(plan, ground, home, watch, stack, run)
        # The rules of several databases are in this process, as they never are in a server: the collector shall not walk them.
        gc.collect()
        gc.freeze()
        for number in range(plan.rounds):
            cells: list[Cell] = []
            # Each round begins with another party, so that nobody always runs first or last.
            turn = number % max(1, len(groups))
            for group in groups[turn:] + groups[:turn]:
                for measure in group(number):
                    cells.append(await _one(ground, measure, plan, watch))
            run.rounds.append(cells)
            if number + 1 < plan.rounds:
                watch("vacuuming all databases")
                await ground.tidy(*run.databases, *([tpcb.DATABASE] if "tpcb" in plan.parties else []))
    return run


async def _one(ground: Ground, measure: Measure, plan: Plan, watch: Watch) -> Cell:
    others = await ground.settle()
    cell = replace(await measure(), others=others)
    watch(
        f"{cell.party:20} {cell.shape:12} {cell.callers:4} callers {cell.per_s:8.0f}/s   p50 {cell.p50_ms:7.2f} ms"
        f"   p99 {cell.p99_ms:7.2f} ms" + (f"   (others use {others:.0%} of the machine)" if others > 0.1 else "")
    )
    return cell


Group = Callable[[int], list[Measure]]
"""The cells of one party in one round, by the round's number."""


async def _open(plan: Plan, ground: Ground, home: Path, watch: Watch, stack: AsyncExitStack, run: Run) -> list[Group]:
    groups: list[Group] = []
    if "tpcb" in plan.parties:
        watch(f"pgbench's tables at scale {plan.scale}")
        groups.append(_tpcb(plan, await TpcB.open(ground, scale=plan.scale)))
    world = await _found(plan, ground, watch)
    if plan.parties & {"inprocess", "http"}:
        await ground.copy(CHARGES, TEMPLATE)
        run.databases.append(CHARGES)
    if "inprocess" in plan.parties:
        watch("kinpay in process: reading the rules")
        groups.append(_inprocess(plan, await stack.enter_async_context(_inside(ground, CHARGES, world))))
    if "http" in plan.parties:
        watch("kinpay through HTTP: starting and warming two servers")
        groups.append(_http(plan, await stack.enter_async_context(_outside(ground, world, home))))
    if "naive" in plan.parties:
        await ground.copy(NAIVE, TEMPLATE)
        found = Naive.open(ground, NAIVE, world)
        stack.push_async_callback(found.close)
        groups.append(_naive(plan, found))
    if "growth" in plan.parties:
        groups.append(await _growth(plan, ground, world, watch, stack, run))
    if "statements" in plan.parties:
        groups.append(await _statements(plan, ground, world, watch, stack, run))
    return groups


async def _found(plan: Plan, ground: Ground, watch: Watch) -> World:
    watch(f"{plan.families + plan.pooled} circles")
    await ground.fresh(TEMPLATE)
    async with ground.connected(TEMPLATE) as conn:
        return await found_world(conn, families=plan.families, pooled=plan.pooled, tills=plan.tills)


@asynccontextmanager
async def _inside(ground: Ground, database: str, world: World) -> AsyncIterator[InProcess]:
    found = await InProcess.open(ground, database, world)
    try:
        yield found
    finally:
        await found.close()


@asynccontextmanager
async def _outside(ground: Ground, world: World, home: Path) -> AsyncIterator[ThroughHttp]:
    read_keys(home / "secret", may_create=True)
    (home / "keyring").mkdir(mode=0o700)
    async with serving(ground.url(CHARGES), home, processes=2) as servers:
        found = ThroughHttp(ground, world, servers, home)
        await found.warm()
        yield found


def _tpcb(plan: Plan, party: TpcB) -> Group:
    return lambda _: [
        partial(party.measure, clients, warm_s=plan.warm_s, seconds=plan.seconds) for clients in plan.tpcb_clients
    ]


def _inprocess(plan: Plan, party: InProcess) -> Group:
    wanted = [("spread", n) for n in plan.callers] + [("contended", n) for n in plan.contended_callers] + [("pooled", 64)]
    return lambda _: [partial(party.measure, *place, warm_s=plan.warm_s, seconds=plan.seconds) for place in wanted]


def _http(plan: Plan, party: ThroughHttp) -> Group:
    wanted = [(n, 1) for n in plan.callers] + [(n, 2) for n in plan.two_processes]
    return lambda _: [
        partial(party.measure, callers, processes=processes, warm_s=plan.warm_s, seconds=plan.seconds)
        for callers, processes in wanted
    ]


def _naive(plan: Plan, party: Naive) -> Group:
    return lambda _: [
        partial(party.measure, callers, warm_s=plan.warm_s, seconds=plan.seconds) for callers in plan.naive_callers
    ]


async def _growth(plan: Plan, ground: Ground, world: World, watch: Watch, stack: AsyncExitStack, run: Run) -> Group:
    """The same cell on a database with few and on one with many past charges, the one that begins alternating."""
    for name, count in ((YOUNG, FEW), (GROWN, plan.many)):
        watch(f"loading {count} past charges")
        await ground.copy(name, TEMPLATE)
        async with ground.connected(name) as conn:
            await load_history(conn, world, count)
        run.databases.append(name)
    few = await stack.enter_async_context(_inside(ground, YOUNG, world))
    many = await stack.enter_async_context(_inside(ground, GROWN, world))
    seconds = plan.seconds * 1.5

    def cells(number: int) -> list[Measure]:
        pair: list[Measure] = [
            partial(few.measure, "few past", 64, warm_s=plan.warm_s, seconds=seconds),
            partial(many.measure, "many past", 64, warm_s=plan.warm_s, seconds=seconds),
        ]
        return pair if number % 2 == 0 else pair[::-1]

    return cells


async def _statements(plan: Plan, ground: Ground, world: World, watch: Watch, stack: AsyncExitStack, run: Run) -> Group:
    """Summing up first, so that the months are then read as they are kept."""
    watch(f"{plan.circles * plan.days * (1 + plan.a_day)} charges captured and settled, for statements")
    await ground.copy(MONTHS, TEMPLATE)
    run.databases.append(MONTHS)
    found = await Statements.open(ground, MONTHS, world, circles=plan.circles, a_day=plan.a_day, days=plan.days)
    stack.push_async_callback(found.close)
    read = partial(found.read, warm_s=plan.warm_s, seconds=plan.seconds / 2)
    return lambda number: [
        found.sum_up,
        *(partial(read, shape) for shape in (("few a day", "many a day") if number % 2 == 0 else ("many a day", "few a day"))),
    ]


NAMES: Final = (tpcb.PARTY, inprocess.PARTY, through_http.PARTY, naive.PARTY, statements.PARTY)
"""The parties as tables call them, in order."""
