"""From one version to the next without a stop: two servers, tills without pause, a migration, one server after the other.

The next version is this program with one more migration, an additive one. A till that finds its server gone asks the other one
under the same key, as behind a load balancer that sends nothing new to a server that is about to stop.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import httpx

import kinpay_postgres
from kinpay.audit.check import check
from kinpay.cli.demo.cast import Device, Player, merchant
from kinpay.cli.demo.stage import Running, Stage, new_home, set_stage, start_server
from kinpay.cli.demo.world import World, open_world
from kinpay.database.migrate import FOLDER, migrate, migrations
from kinpay.database.pool import prepare_connection
from kinpay_client import Problem, Unreachable, new_key
from tests.simulation.bank_books import compare
from tests.simulation.kill import OPEN, _family
from tests.simulation.till import Asked

NEXT_PROGRAM = """
import sys
from pathlib import Path
from kinpay.database import migrate
migrate.FOLDER = Path(sys.argv.pop(1))
from kinpay.cli.main import main
sys.exit(main())
"""
ADDITIVE = """-- What the next version brings.
ALTER TABLE charge ADD COLUMN brought integer NOT NULL DEFAULT 7;
CREATE TABLE brought (id uuid PRIMARY KEY, note text NOT NULL);
"""
BREAKING = "ALTER TABLE charge RENAME COLUMN reference TO remark"


@dataclass(slots=True)
class Outcome:
    """What it came to. `wrong`: answers of a server that were not about the request; none may be."""

    answers: Counter[str]
    wrong: Counter[str]
    elsewhere: int
    longest_s: float
    complaints: list[str] = field(default_factory=list)
    red: bool = False


@dataclass(slots=True)
class Tills:
    """Where tills may ask; what they heard."""

    urls: list[str]
    asked: list[Asked] = field(default_factory=list)
    wrong: Counter[str] = field(default_factory=Counter)
    elsewhere: int = 0
    longest_s: float = 0.0


async def campaign(*, pause_s: float, seed: int, tills: int = 4) -> Outcome:
    """Runs it once; `pause_s` of load lie between the steps."""
    with new_home(Path(tempfile.gettempdir())) as home, set_stage(home) as stage:
        async with open_world(stage.environment, url=stage.server.url, bank_url=stage.bank.url, codes=stage.codes) as world:
            cards = [await _family(world, number) for number in range(2)]
            owner = await Player.sign_in(world, world.owner_account)
            merchant_id, site_id = await merchant(owner, name="Canteen", mcc="5812", site="School")
            devices = [
                await Device.install(owner, merchant_id=merchant_id, site_id=site_id, name=f"Till {number}")
                for number in range(tills)
            ]
            return await _play(stage, world, devices, cards, pause_s=pause_s, seed=seed)


async def _play(stage: Stage, world: World, devices: list[Device], cards: list[str], *, pause_s: float, seed: int) -> Outcome:
    beside = start_server(stage.environment, stage.home / "beside.log")
    running = [stage.server, beside]
    try:
        await asyncio.to_thread(beside.wait_ready)
        at, over = Tills([stage.server.url, beside.url]), asyncio.Event()
        selling = [
            asyncio.create_task(_sell(device, world, cards, at, over, random.Random(seed + number)))
            for number, device in enumerate(devices)
        ]
        await asyncio.sleep(pause_s)
        folder = next_version(stage.home / "next")
        cluster = kinpay_postgres.status(stage.home / "postgres")
        assert cluster is not None
        assert await migrate(cluster.url("kinpay"), folder=folder) == [migrations(folder)[-1].name]
        await asyncio.sleep(pause_s)
        complaints = await _ready(at.urls)
        for number in range(2):
            complaints += await _replace(stage, running, at, number, folder)
            await asyncio.sleep(pause_s)
        over.set()
        await asyncio.gather(*selling)
        complaints += await _judge(cluster, world, at)
        red = await _break(cluster, devices[0].at(world.at(at.urls[0])), cards[0])
    finally:
        for server in running[1:]:
            server.stop()
    answers = Counter(one.state or one.problem or "" for one in at.asked)
    return Outcome(answers, at.wrong, at.elsewhere, at.longest_s, complaints, red)


def next_version(folder: Path) -> Path:
    """The migrations of the next version."""
    shutil.copytree(FOLDER, folder)
    now = len(migrations())
    (folder / f"{now + 1:04d}_brought_beside.sql").write_text(ADDITIVE)
    return folder


async def _replace(stage: Stage, running: list[Running], at: Tills, number: int, folder: Path) -> list[str]:
    """One server is taken out of the rotation and asked to stop at once, with requests under way; the next version takes its
    place. What finds nobody there is asked of the other.
    """
    old = running[number]
    at.urls[number] = at.urls[1 - number]
    if await asyncio.to_thread(old.stop) != 0:
        return [f"the old server ended with {old.process.returncode}"]
    log = stage.home / f"next-{number}.log"
    command = [sys.executable, "-c", NEXT_PROGRAM, str(folder), "serve"]
    new = Running("the next version", command, environment=stage.environment, log=log, ready="kinpay ready on ")
    running.append(new)
    await asyncio.to_thread(new.wait_ready)
    at.urls[number] = new.url
    return await _ready(at.urls)


async def _ready(urls: list[str]) -> list[str]:
    async with httpx.AsyncClient(trust_env=False) as http:
        answers = {url: (await http.get(f"{url}/readyz")).status_code for url in urls}
    return [f"{url}/readyz says {status}" for url, status in answers.items() if status != 200]


async def _sell(device: Device, world: World, cards: list[str], at: Tills, over: asyncio.Event, chance: random.Random) -> None:
    here = {}
    while not over.is_set():
        amount = chance.randint(2, 3_00)
        one = Asked(device, "charge", new_key(), amount, chance.choice(cards), datetime.now(UTC))
        at.asked.append(one)
        await _insist(one, world, at, here, chance, lambda till, one=one: till.charge(one.subject, one.amount, key=one.key))
        if one.state == "succeeded" and chance.random() < 0.2:
            given = Asked(device, "refund", new_key(), chance.randint(1, amount), one.charge_id or "", datetime.now(UTC))
            at.asked.append(given)
            await _insist(
                given,
                world,
                at,
                here,
                chance,
                lambda till, given=given: till.terminal.refund(given.subject, given.amount, key=given.key),
            )
        await asyncio.sleep(0.02)


async def _insist(
    one: Asked, world: World, at: Tills, here: dict[str, Device], chance: random.Random, ask: Callable[..., object]
) -> None:  # fmt: skip
    """Asks one server, and the other if that is gone, under the one key."""
    began = asyncio.get_running_loop().time()
    for _ in range(50):
        url = chance.choice(at.urls)
        till = here.setdefault(url, one.device.at(world.at(url)))
        try:
            body = (await ask(till)).body  # type: ignore[attr-defined, misc]
        except Unreachable:
            at.elsewhere += 1
            await asyncio.sleep(0.02)
            continue
        except Problem as problem:
            if problem.code == "idempotency-key-in-use":  # the other server is at it still
                await asyncio.sleep(0.1)
                continue
            one.problem = problem.code
            at.wrong[problem.code] += 1
            break
        one.charge_id, one.state = body["id"], body["state"]
        break
    else:
        one.problem = "no answer"
    at.longest_s = max(at.longest_s, asyncio.get_running_loop().time() - began)


async def _judge(cluster: kinpay_postgres.Cluster, world: World, at: Tills) -> list[str]:
    conn = await asyncpg.connect(cluster.url("kinpay"))
    try:
        await prepare_connection(conn)
        for _ in range(120):
            if await conn.fetchval(OPEN) == 0:
                break
            await asyncio.sleep(0.25)
        else:
            return ["something is still not known"]
        complaints = await compare(conn, world, at.asked)
        complaints += [str(finding) for finding in await check(conn)]
    finally:
        await conn.close()
    return complaints


async def _break(cluster: kinpay_postgres.Cluster, device: Device, card: str) -> bool:
    """The control: a migration that takes something away under a running server is heard at the till."""
    conn = await asyncpg.connect(cluster.url("kinpay"))
    try:
        await device.charge(card, 100, key=new_key())  # which is no Problem: it is the migration that makes one
        await conn.execute(BREAKING)
        await device.charge(card, 100, key=new_key())
    except Problem as problem:
        return problem.code == "internal"
    finally:
        await conn.close()
    return False
