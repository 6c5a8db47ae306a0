"""Backup under load, a lost database, a restore to a point in the past, the re-query: `python -m tests.simulation.restore`.

Tills charge, capture and refund without pause. While they do, a base backup is taken and the log is kept. At some moment T
everything later is to be lost: the server and its PostgreSQL are killed and the backup is restored as of T. The bank knows what
was debited after T. After `kinpay requery` the bank's own books and ours must be the same, every charge that a till was told
has succeeded must be there under its id, and a till that repeats what it asked before must not debit anybody twice.

Before that, the same backup is restored a first time and opened without asking the bank for what was lost: there the comparison
has to complain, or it proves nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import httpx

import kinpay_postgres
from kinpay.audit.check import check
from kinpay.cli.demo.cast import Device, Player, merchant
from kinpay.cli.demo.stage import Stage, new_home, remove_cluster, set_stage, start_server
from kinpay.cli.demo.world import World, open_world
from kinpay.database.pool import Database, prepare_connection
from kinpay.recovery.closed import RECOVERING
from kinpay.recovery.gap import ask_for_gap
from kinpay.server.house import open_house
from kinpay.server.settings import read_settings
from kinpay_client import Problem, Unreachable, new_key
from tests.simulation.kill import FAULTS, OPEN, _family

AGAIN = ("idempotency-key-in-use", "busy", "internal", "restored")
STATEMENTS = frozenset({"statements"})


@dataclass(slots=True)
class Asked:
    """One request of a till, and the last that it heard; `at` by the wall, when it was asked first."""

    device: Device
    what: str
    key: str
    amount: int
    subject: str
    at: datetime
    charge_id: str | None = None
    state: str | None = None
    problem: str | None = None


@dataclass(slots=True)
class Outcome:
    """What a run came to; `complaints` is empty if everything held, `planted` is not if the checks are worth anything."""

    told: int
    lost: int
    repeated: int
    bank_debits: int
    complaints: list[str] = field(default_factory=list)
    planted: list[str] = field(default_factory=list)


async def campaign(*, before_s: float, lost_s: float, seed: int, tills: int = 4, families: int = 2) -> Outcome:
    """Runs one campaign on a stage of its own: `before_s` of load until the point that is restored, `lost_s` after it."""
    chance = random.Random(seed)
    with new_home(Path(tempfile.gettempdir())) as home, set_stage(home) as stage:
        async with open_world(stage.environment, url=stage.server.url, bank_url=stage.bank.url, codes=stage.codes) as world:
            cards = [await _family(world, number) for number in range(families)]
            owner = await Player.sign_in(world, world.owner_account)
            merchant_id, site_id = await merchant(owner, name="Canteen", mcc="5812", site="School")
            devices = [
                await Device.install(owner, merchant_id=merchant_id, site_id=site_id, name=f"Till {number}")
                for number in range(tills)
            ]
            try:
                return await _play(stage, world, devices, cards, chance, before_s=before_s, lost_s=lost_s)
            finally:
                for folder in ("postgres", "postgres.lost", "postgres.wrong"):
                    remove_cluster(home / folder)


async def _play(
    stage: Stage,
    world: World,
    devices: list[Device],
    cards: list[str],
    chance: random.Random,
    *,
    before_s: float,
    lost_s: float,
) -> Outcome:
    over = asyncio.Event()
    asked: list[Asked] = []
    place = stage.home / "backups"
    with _keeper(stage, place):
        selling = [asyncio.create_task(_sell(device, cards, asked, over, random.Random(chance.random()))) for device in devices]
        await asyncio.sleep(before_s / 2)
        _succeeded(await asyncio.to_thread(stage.command, "backup", str(place)), "is whole")
        await asyncio.sleep(before_s / 2)
        point = datetime.now(UTC)
        for _ in range(max(2, round(lost_s))):
            fault = dict(chance.choice(FAULTS))
            await world.control.misbehave(fault.pop("operation"), fault.pop("kind"), **fault)  # type: ignore[arg-type]
            await asyncio.sleep(lost_s / max(2, round(lost_s)))
        await asyncio.to_thread(stage.server.kill)
        kinpay_postgres.stop(stage.home / "postgres", mode="immediate")
        over.set()
    await world.control.heal()
    (stage.home / "postgres").rename(stage.home / "postgres.lost")
    done, planted = await asyncio.gather(
        asyncio.to_thread(_restore, stage, place, stage.home / "postgres", point), _wrongly(stage, world, place, point, asked)
    )
    _succeeded(done, "everything adds up")
    port = world.url.rsplit(":", 1)[1]
    server = start_server({**stage.environment, "KINPAY_PORT": port}, stage.home / "server.log")
    try:
        await asyncio.to_thread(server.wait_ready)
        complaints = await _closed(world, devices[0], cards[0], asked)
        _succeeded(await asyncio.to_thread(stage.command, "requery"), "the database is open")
        await asyncio.gather(*selling)
        repeated = await _repeat(asked, point)
        complaints += await _judge(stage, world, asked, point)
    finally:
        server.stop()
    lost = [one for one in asked if one.at > point and one.state == "succeeded"]
    if len(lost) < 5:
        complaints.append(f"only {len(lost)} sales were lost: the campaign proves nothing")
    bank = await world.control.debits(world.bank_client_id)
    return Outcome(len(asked), len(lost), repeated, len(bank), complaints, planted)


class _keeper:
    """Keeps the log while the play goes on; lets it go calmly afterwards."""

    def __init__(self, stage: Stage, place: Path) -> None:
        self._command = [sys.executable, "-m", "kinpay.cli.main", "backup", str(place), "--wal"]
        self._environment = dict(stage.environment)
        self._log = stage.home / "keeper.log"

    def __enter__(self) -> None:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        assert self._process.wait(30) == 0, self._log.read_text()


def _succeeded(done: subprocess.CompletedProcess[str], wanted: str) -> None:
    assert done.returncode == 0, f"{done.args}: {done.stdout}\n{done.stderr}"
    assert wanted in done.stdout, done.stdout


async def _sell(device: Device, cards: list[str], asked: list[Asked], over: asyncio.Event, chance: random.Random) -> None:
    """One till: charges at once, or holds and captures in part, and gives some of it back."""
    while not over.is_set():
        at_once, amount = chance.random() < 0.7, chance.randint(2, 3_00)
        one = _new(device, "charge" if at_once else "hold", amount, chance.choice(cards))
        asked.append(one)
        await _insist(one)
        if one.charge_id is None:
            continue
        if one.state == "held":
            asked.append(_new(device, "capture", chance.randint(1, amount), one.charge_id))
            await _insist(asked[-1])
        elif one.state == "succeeded" and chance.random() < 0.2:
            asked.append(_new(device, "refund", chance.randint(1, amount), one.charge_id))
            await _insist(asked[-1])
        await asyncio.sleep(0.02)


def _new(device: Device, what: str, amount: int, subject: str) -> Asked:
    return Asked(device, what, new_key(), amount, subject, datetime.now(UTC))


async def _insist(one: Asked) -> None:
    """Asks under the one key until there is an answer."""
    terminal = one.device.terminal
    ask = {
        "charge": partial(one.device.charge, one.subject, one.amount, capture=True),
        "hold": partial(one.device.charge, one.subject, one.amount, capture=False),
        "capture": partial(terminal.capture, one.subject, one.amount),
        "refund": partial(terminal.refund, one.subject, one.amount),
    }[one.what]
    for _ in range(900):
        try:
            body = (await ask(key=one.key)).body
        except Unreachable:
            await asyncio.sleep(0.1)
            continue
        except Problem as problem:
            if problem.code in AGAIN:
                await asyncio.sleep(0.1)
                continue
            one.problem = problem.code
            return
        one.charge_id, one.state = body["id"], body["state"]
        return
    one.problem = "no answer"


async def _closed(world: World, device: Device, card: str, asked: list[Asked]) -> list[str]:
    """A server on a restored database: it answers, says why it is not ready, and neither charges nor gives back."""
    complaints = []
    async with httpx.AsyncClient(base_url=world.url, trust_env=False) as http:
        ready = await http.get("/readyz")
    if (ready.status_code, ready.json()["code"], ready.headers.get("retry-after")) != (503, "restored", "30"):
        complaints.append(f"/readyz of a closed database says {ready.status_code} {ready.text}")
    paid = next(one for one in asked if one.what == "charge" and one.state == "succeeded" and one.charge_id)
    for what, ask in (
        ("charge", partial(device.charge, card, 100)),
        ("refund", partial(paid.device.terminal.refund, paid.charge_id, 1)),
    ):
        try:
            answer = await ask(key=new_key())
            complaints.append(f"a closed database took a {what}: {answer.body}")
        except Problem as problem:
            if problem.code != "restored":
                complaints.append(f"a {what} on a closed database heard {problem.code}")
    return complaints


async def _repeat(asked: list[Asked], point: datetime) -> int:
    """Every till repeats what was lost, under its key: the same charge is answered, or it is refused; never a new one."""
    repeated = 0
    for one in list(asked):
        if one.at > point and one.state == "succeeded" and one.what in ("charge", "refund"):
            again = Asked(one.device, one.what, one.key, one.amount, one.subject, one.at)
            await _insist(again)
            asked.append(again)
            repeated += 1
    return repeated


async def _judge(stage: Stage, world: World, asked: list[Asked], point: datetime) -> list[str]:
    cluster = kinpay_postgres.status(stage.home / "postgres")
    assert cluster is not None
    conn = await asyncpg.connect(cluster.url("kinpay"))
    try:
        await prepare_connection(conn)
        for _ in range(240):
            if await conn.fetchval(OPEN) == 0:
                break
            await asyncio.sleep(0.25)
        else:
            return ["something is still not known"]
        complaints = await _compare(conn, world, asked, point)
        complaints += [str(finding) for finding in await check(conn)]
    finally:
        await conn.close()
    return complaints


async def _compare(conn: Any, world: World, asked: list[Asked], point: datetime) -> list[str]:
    """The bank's own debits and refunds against ours, and what tills were told against both."""
    complaints = []
    for kind, theirs in (
        ("debit", await world.control.debits(world.bank_client_id)),
        ("refund", await world.control.refunds(world.bank_client_id)),
    ):
        bank = {one["key"]: one["amount_minor"] for one in theirs if one["state"] == "succeeded"}
        rows = await conn.fetch(f"SELECT id, amount_minor FROM {kind} WHERE state = 'succeeded'")
        ours = {row["id"]: row["amount_minor"] for row in rows}
        complaints += [f"{kind} {key} is only at the bank" for key in bank.keys() - ours.keys()]
        complaints += [f"{kind} {key} is only here" for key in ours.keys() - bank.keys()]
        complaints += [f"{kind} {key} differs" for key in ours.keys() & bank.keys() if ours[key] != bank[key]]
    states = {row["id"]: row["state"] for row in await conn.fetch("SELECT id, state FROM charge")}
    told: dict[str, set[str]] = {}
    for one in asked:
        if one.problem == "no answer":
            complaints.append(f"no answer to a {one.what} under {one.key}")
        if one.charge_id is None or one.what == "hold":
            continue  # A hold that came after the point was lost, and nobody was debited for it.
        if one.state == "succeeded" and states.get(one.charge_id) != "succeeded":
            complaints.append(f"charge {one.charge_id}, told succeeded, is {states.get(one.charge_id)}")
        if one.what == "charge":
            told.setdefault(one.key, set()).add(one.charge_id)
    complaints += [f"request {key} made {len(charges)} charges" for key, charges in told.items() if len(charges) > 1]
    given = await conn.fetch(
        "SELECT charge_id, sum(amount_minor) AS minor FROM refund WHERE reason = 'asked' AND state = 'succeeded' GROUP BY 1"
    )
    wanted: dict[str, int] = {}
    for one in {one.key: one for one in asked if one.what == "refund" and one.state == "succeeded"}.values():
        wanted[one.subject] = wanted.get(one.subject, 0) + one.amount
    complaints += [
        f"charge {row['charge_id']} gave back {row['minor']} instead of {wanted[row['charge_id']]}"
        for row in given
        if row["charge_id"] in wanted and row["minor"] > wanted[row["charge_id"]]
    ]
    return complaints


def _restore(stage: Stage, place: Path, folder: Path, point: datetime) -> subprocess.CompletedProcess[str]:
    return stage.command("restore", str(place), "--into", str(folder), "--until", point.isoformat(timespec="microseconds"))


@asynccontextmanager
async def _restored(stage: Stage, place: Path, point: datetime) -> AsyncIterator[kinpay_postgres.Cluster]:
    folder = stage.home / "postgres.wrong"
    _succeeded(await asyncio.to_thread(_restore, stage, place, folder, point), "everything adds up")
    try:
        yield kinpay_postgres.start(folder)
    finally:
        kinpay_postgres.stop(folder)


async def _wrongly(stage: Stage, world: World, place: Path, point: datetime, asked: list[Asked]) -> list[str]:
    """The same restore opened without asking for what was lost: what the comparison says of it."""
    settings = read_settings(stage.environment)
    async with _restored(stage, place, point) as cluster:
        url = cluster.url("kinpay")
        async with open_house(settings, url, public_url=world.url) as house:
            db = await Database.open(url, max_connections=4, settings=RECOVERING)
            try:
                await ask_for_gap(db, house.providers, public_url=world.url, skip=STATEMENTS)
                async with db.connection() as conn:
                    return await _compare(conn, world, asked, point)
            finally:
                await db.close()


def main() -> None:
    """Runs a campaign and says what came of it; status 1 if anything did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="of load before the point that is restored, and after it")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    outcome = asyncio.run(campaign(before_s=asked.seconds, lost_s=asked.seconds, seed=asked.seed))
    print(f"{outcome.told} requests, {outcome.lost} of them lost and found, {outcome.repeated} repeated, ", end="")
    print(f"{outcome.bank_debits} debits at the bank; without the re-query: {len(outcome.planted)} complaints")
    for complaint in outcome.complaints[:50]:
        print(f"  {complaint}")
    held = not outcome.complaints and outcome.planted
    print("nothing lost, nothing doubled" if held else f"{len(outcome.complaints)} complaints")
    sys.exit(not held)


if __name__ == "__main__":
    main()
