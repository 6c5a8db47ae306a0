"""Backup under load, a lost database, a restore to a point in the past, the re-query: `python -m tests.simulation.restore`.

Tills charge, capture and refund without pause: of one family that is debited with each charge and has a second payer, and of
one that is debited once a day. While they do, a base backup is taken and the log is kept. At some moment T everything later
is to be lost: the first payer's money is gone, so that charges fall back to the second one; a day ends and is debited; some
orders stay pending at the bank. The server and its PostgreSQL are killed and the backup is restored as of T. After `kinpay
requery` every till repeats what it asked since, captures and refunds too; then what was pending ends, and the day ends once
more. The bank's own books and ours must be the same, every charge that a till was told has succeeded must be there under its
id, and nobody may have been debited for one request twice.

Before that, the same backup is restored a first time and opened without asking the bank for what was lost: there the comparison
has to name just what the bank did after T, and of fewer requests it has to say that too much was taken; or it proves nothing.
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
from kinpay.charges.daily import close_days
from kinpay.cli.demo.cast import Device, Player, merchant
from kinpay.cli.demo.stage import Stage, new_home, remove_cluster, set_stage, start_server
from kinpay.cli.demo.world import World, open_world
from kinpay.database.pool import Database, prepare_connection
from kinpay.recovery.closed import RECOVERING
from kinpay.recovery.gap import OUR_OWN, STATEMENTS, ask_again, ask_for_gap
from kinpay.server.house import open_house
from kinpay.server.serve import located
from kinpay.server.settings import read_settings
from kinpay_client import Problem, new_key
from tests.simulation.bank_books import compare, lost_at_bank, taken_too_much
from tests.simulation.kill import CARD, FAULTS, OPEN, TERMS
from tests.simulation.till import Asked, Card, repeat, sell

NOTHING = frozenset({STATEMENTS, OUR_OWN})
FIRST_ZONE, LATER_ZONE = "Etc/GMT+12", "Pacific/Kiritimati"
"""Between them lies more than a day: a day that is on in the one is over in the other."""
PENDING = ({"operation": "debit", "kind": "pending"}, {"operation": "refund", "kind": "pending"})
"""For ever, as far as the bank goes by itself."""
DAILY_BEFORE, DAILY_MOST = 5, 9
"""Sales before the point, and with those after it: as many as a day's debit still tells the amounts and terminals of."""


@dataclass(slots=True)
class Outcome:
    """What a run came to; `complaints` is empty if everything held, `blind` if the checks are worth anything."""

    told: int
    lost: int
    repeated: int
    bank_debits: int
    complaints: list[str] = field(default_factory=list)
    blind: list[str] = field(default_factory=list)


async def campaign(*, before_s: float, lost_s: float, seed: int, tills: int = 4) -> Outcome:
    """Runs one campaign on a stage of its own: `before_s` of load until the point that is restored, `lost_s` after it."""
    chance = random.Random(seed)
    with new_home(Path(tempfile.gettempdir())) as home, set_stage(home) as stage:
        async with open_world(
            stage.environment, url=stage.server.url, bank_url=stage.bank.url, codes=stage.codes, time_zone=FIRST_ZONE
        ) as world:
            cards = [await _with_second_payer(world), await _debited_daily(world)]
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
    cards: list[Card],
    chance: random.Random,
    *,
    before_s: float,
    lost_s: float,
) -> Outcome:
    over = asyncio.Event()
    asked: list[Asked] = []
    place = stage.home / "backups"
    with _keeper(stage, place):
        selling = [asyncio.create_task(sell(device, cards, asked, over, random.Random(chance.random()))) for device in devices]
        await asyncio.sleep(before_s / 2)
        _succeeded(await asyncio.to_thread(stage.command, "backup", str(place)), "is whole")
        await asyncio.sleep(before_s / 2)
        point = datetime.now(UTC)
        cards[1].most = DAILY_MOST
        await world.control.change_customer(cards[0].payers[0], balance_minor=0)
        times = max(4, round(lost_s))
        for number in range(times):
            for fault in (dict(chance.choice(FAULTS)), dict(PENDING[number % 2])):
                await world.control.misbehave(fault.pop("operation"), fault.pop("kind"), **fault)  # type: ignore[arg-type]
            await asyncio.sleep(lost_s / times)
            if number == times // 2:
                await _night(stage, world)
        await asyncio.to_thread(stage.server.kill)
        kinpay_postgres.stop(stage.home / "postgres", mode="immediate")
        over.set()
    await world.control.heal()
    (stage.home / "postgres").rename(stage.home / "postgres.lost")
    done, blind = await asyncio.gather(
        asyncio.to_thread(_restore, stage, place, stage.home / "postgres", point),
        _wrongly(stage, world, place, point, asked, cards),
    )
    _succeeded(done, "everything adds up")
    port = world.url.rsplit(":", 1)[1]
    server = start_server({**stage.environment, "KINPAY_PORT": port}, stage.home / "server.log")
    try:
        await asyncio.to_thread(server.wait_ready)
        complaints = await _closed(world, devices[0], cards[0].code, asked)
        _succeeded(await asyncio.to_thread(stage.command, "requery"), "the database is open")
        await asyncio.gather(*selling)
        repeated = await repeat(asked, point)
        await _end_pending(stage, world)
        await _night(stage, world)
        complaints += await _judge(stage, world, asked, cards)
    finally:
        server.stop()
    lost = [one for one in asked if one.at > point and one.state == "succeeded"]
    if len(lost) < 5:
        complaints.append(f"only {len(lost)} sales were lost: the campaign proves nothing")
    bank = await world.control.debits(world.bank_client_id)
    return Outcome(len(asked), len(lost), repeated, len(bank), complaints, blind)


async def _with_second_payer(world: World) -> Card:
    """A spender with two payers in one circle, each with an agreement of their own; debited with each charge."""
    mother, child = await _person(world, "mother"), await _person(world, "child", balance_minor=None)
    father = await _person(world, "father")
    bound = await _bind(mother, child, circle={"name": "Two", "time_zone": "Asia/Shanghai"})
    content = {"account": father.account, "role": "payer"}
    proof = await mother.prove("circle.invite", bound["circle_id"], content)
    await mother.ask("POST", f"/v1/circles/{bound['circle_id']}/members", {**content, "proof": proof})
    await father.ask("POST", f"/v1/circles/{bound['circle_id']}/join", {"role": "payer"})
    await _bind(father, child, circle=bound["circle_id"])
    return Card(await _card(mother, child, bound["circle_id"]), (mother.account, father.account))


async def _debited_daily(world: World) -> Card:
    """A spender whose payer is debited once a day."""
    uncle, nephew = await _person(world, "uncle"), await _person(world, "nephew", balance_minor=None)
    bound = await _bind(uncle, nephew, circle={"name": "Daily", "time_zone": "Asia/Shanghai"})
    path = f"/v1/mandates/{bound['mandate_id']}"
    funding = {"agreement_ids": (await uncle.mandate(bound["mandate_id"]))["agreement_ids"], "debited": "daily"}
    proof = await uncle.prove("mandate.funding", bound["mandate_id"], funding)
    await uncle.ask("PUT", f"{path}/funding", {**funding, "proof": proof})
    return Card(await _card(uncle, nephew, bound["circle_id"]), (uncle.account,), most=DAILY_BEFORE)


async def _person(world: World, name: str, *, balance_minor: int | None = 2_000_00) -> Player:
    player = await Player.join(world, name, name=name.title(), born="1990-01-01")
    if balance_minor is not None:
        await player.open_bank_account(balance_minor=balance_minor)
    return player


async def _bind(payer: Player, spender: Player, *, circle: str | dict[str, str]) -> dict[str, Any]:
    asked = await spender.request("C", payer=payer.account)
    number = asked["match_number"]
    approved = await payer.approve(asked["registration_id"], number=number, terms=TERMS, circle=circle)
    await payer.sign(approved["agreement"]["sign_url"])
    return await spender.bound(asked["registration_id"])


async def _card(payer: Player, spender: Player, circle_id: str) -> str:
    asked = {"person_id": spender.id, "currency": "CNY", "terms": CARD}
    return str((await payer.ask("POST", f"/v1/circles/{circle_id}/cards", asked))["code"])


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


async def _end_pending(stage: Stage, world: World) -> None:
    """What the bank left pending ends; then the statements are read once more, as the worker does every quarter of an hour."""
    for one in await world.control.debits(world.bank_client_id):
        if one["state"] == "pending":
            await world.control.finish_debit(one["key"], "succeeded", client_id=world.bank_client_id)
    for one in await world.control.refunds(world.bank_client_id):
        if one["state"] == "pending":
            await world.control.finish_refund(one["key"], "succeeded", client_id=world.bank_client_id)
    settings = read_settings(stage.environment)
    async with located(settings) as url, open_house(settings, url, public_url=world.url) as house:
        await ask_again(house.db, house.providers, public_url=world.url)


async def _night(stage: Stage, world: World) -> None:
    """The operator's day ends, and is debited."""
    settings = read_settings(stage.environment)
    async with located(settings) as url, open_house(settings, url, public_url=world.url) as house:
        async with house.db.transaction() as conn:
            await conn.execute("UPDATE operator SET time_zone = $1", LATER_ZONE)
        await close_days(house.db, house.providers)


async def _judge(stage: Stage, world: World, asked: list[Asked], cards: list[Card]) -> list[str]:
    cluster = kinpay_postgres.status(stage.home / "postgres")
    assert cluster is not None
    conn = await asyncpg.connect(cluster.url("kinpay"))
    try:
        await prepare_connection(conn)
        for _ in range(400):
            if await conn.fetchval(OPEN) == 0:
                break
            await asyncio.sleep(0.25)
        else:
            return ["something is still not known"]
        complaints = await compare(conn, world, asked, cards)
        complaints += [str(finding) for finding in await check(conn)]
    finally:
        await conn.close()
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


async def _wrongly(
    stage: Stage, world: World, place: Path, point: datetime, asked: list[Asked], cards: list[Card]
) -> list[str]:  # fmt: skip
    """The same restore opened without asking: what the comparison does not say of it, though it should, or says without cause.

    Empty if it is red for the right reason alone.
    """
    settings = read_settings(stage.environment)
    async with _restored(stage, place, point) as cluster:
        url = cluster.url("kinpay")
        async with open_house(settings, url, public_url=world.url) as house:
            db = await Database.open(url, max_connections=4, settings=RECOVERING)
            try:
                await ask_for_gap(db, house.providers, public_url=world.url, skip=NOTHING)
                async with db.connection() as conn:
                    said = set(await compare(conn, world, asked, cards))
                    unknown = {row[0] for row in await conn.fetch("SELECT id FROM debit WHERE state = 'submitted'")}
                    fewer = [one for one in asked if one.at < point]
                    enough = await taken_too_much(conn, world, asked, cards)
                    too_much = await taken_too_much(conn, world, fewer, cards)
            finally:
                await db.close()
    lost = await lost_at_bank(world, point)
    named = {text.split()[1] for text in said if text.startswith("debit ") and text.endswith(" is only at the bank")}
    blind = [f"debit {key} was lost, and is not missed" for key in lost - named]
    blind += [f"debit {key} was not lost, and is missed" for key in named - lost - unknown]
    blind += [f"said without a cause: {text}" for text in enough]
    if not any(cards[0].payers[0] in text for text in too_much):
        blind.append(f"what was taken for fewer requests is too much, and is not noticed: {too_much}")
    return blind


def main() -> None:
    """Runs a campaign and says what came of it; status 1 if anything did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="of load before the point that is restored, and after it")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    outcome = asyncio.run(campaign(before_s=asked.seconds, lost_s=asked.seconds, seed=asked.seed))
    print(f"{outcome.told} requests, {outcome.lost} of them lost and found, {outcome.repeated} repeated, ", end="")
    print(f"{outcome.bank_debits} debits at the bank")
    for complaint in [*outcome.complaints, *outcome.blind][:50]:
        print(f"  {complaint}")
    held = not outcome.complaints and not outcome.blind
    print("nothing lost, nothing doubled" if held else f"{len(outcome.complaints)} complaints")
    sys.exit(not held)


if __name__ == "__main__":
    main()
