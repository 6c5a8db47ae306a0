"""kill -9 under load: `python -m tests.simulation.kill --kills 50 --seed 1`.

Tills charge, capture, void and refund through HTTP without pause; the server is killed at random moments and started again,
and the bank misbehaves now and then. When the load is over and the worker has asked the bank about everything unknown, the
bank's own books are the judge: its debits are the succeeded debits, no charge was debited twice, nothing a till was told is
lost.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg

from kinpay.audit.check import check
from kinpay.cli.demo.cast import Device, Player, merchant
from kinpay.cli.demo.stage import Running, Stage, new_home, remove_cluster, set_stage, start_server
from kinpay.cli.demo.world import World, open_world
from kinpay.database.pool import prepare_connection
from kinpay.server.serve import located
from kinpay.server.settings import read_settings
from kinpay_client import Answer, Problem, Unreachable, new_key

TERMS = {
    "currency": "CNY",
    "limits": [
        {"metric": "amount", "window": "day", "at_most": 1_500_00, "filter": {}},
        {"metric": "count", "window": "month", "at_most": 100_000, "filter": {}},
    ],
    "conditions": [],
}
CARD = {
    "currency": "CNY",
    "limits": [{"metric": "amount", "window": "per_payment", "at_most": 100_00, "filter": {}}],
    "conditions": [],
}


@dataclass(slots=True)
class Told:
    """What tills were told: the last thing heard of each charge, and what stayed without an answer."""

    heard: dict[str, str] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    unanswered: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Outcome:
    """What a campaign came to; `complaints` is empty if everything held."""

    kills: int
    answers: Counter[str]
    bank_debits: int
    complaints: list[str]


async def campaign(*, kills: int, seed: int, tills: int = 6, families: int = 3) -> Outcome:
    """Runs one campaign on a stage of its own."""
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
            told = Told()
            over = asyncio.Event()
            server = stage.server
            selling = [
                asyncio.create_task(_sell(device, cards, told, over, random.Random(seed + at)))
                for at, device in enumerate(devices)
            ]
            try:
                server = await _kill_often(stage, world, kills=kills, chance=chance)
                over.set()
                await asyncio.gather(*selling)
                await world.control.heal()
                return await _judge(stage, world, told, kills)
            finally:
                over.set()
                server.stop()
                remove_cluster(home / "postgres")


async def _family(world: World, number: int) -> str:
    """A payer with money at the bank, a spender bound by order C, and the spender's card; returns its code."""
    payer = await Player.join(world, f"payer{number}", name=f"Payer {number}", born="1980-01-01")
    spender = await Player.join(world, f"spender{number}", name=f"Spender {number}", born="1990-01-01")
    await payer.open_bank_account(balance_minor=2_000_00)
    asked = await spender.request("C", payer=payer.account)
    approved = await payer.approve(
        asked["registration_id"],
        number=asked["match_number"],
        terms=TERMS,
        circle={"name": f"Circle {number}", "time_zone": "Asia/Shanghai"},
    )
    await payer.sign(approved["agreement"]["sign_url"])
    bound = await spender.bound(asked["registration_id"])
    issued = await payer.ask(
        "POST", f"/v1/circles/{bound['circle_id']}/cards", {"person_id": spender.id, "currency": "CNY", "terms": CARD}
    )
    return str(issued["code"])


async def _sell(device: Device, cards: list[str], told: Told, over: asyncio.Event, chance: random.Random) -> None:
    """One till: charges, and now and then holds, captures in part, voids or refunds. A till repeats under the same key."""
    while not over.is_set():
        at_once, card, amount = chance.random() < 0.7, chance.choice(cards), chance.randint(1, 3_00)
        charged = await _insist(told, partial(device.charge, card, amount, capture=at_once))
        if charged is None or charged["state"] not in ("held", "succeeded"):
            continue
        part = chance.randint(1, amount)
        if charged["state"] == "held" and chance.random() < 0.6:
            await _insist(told, partial(device.terminal.capture, charged["id"], part))
        elif charged["state"] == "held":
            await _insist(told, partial(device.terminal.void, charged["id"]))
        elif chance.random() < 0.15:
            await _insist(told, partial(device.terminal.refund, charged["id"], part))


AGAIN = ("idempotency-key-in-use", "busy", "internal")
"""Problems that say: the same request, under the same key, once more."""


async def _insist(told: Told, ask: Callable[..., Awaitable[Answer]]) -> dict[str, Any] | None:
    """Asks under one key until there is an answer; a problem is an answer, too."""
    key = new_key()
    for _ in range(400):
        try:
            body = (await ask(key=key)).body
        except Unreachable:
            await asyncio.sleep(0.1)
            continue
        except Problem as problem:
            if problem.code in AGAIN:
                await asyncio.sleep(0.1)
                continue
            told.answers[problem.code] += 1
            return None
        told.heard[body["id"]] = body["state"]
        told.answers[body["state"]] += 1
        return body
    told.unanswered.append(key)
    return None


FAULTS = (
    {"operation": "debit", "kind": "hang_after_commit", "seconds": 3},
    {"operation": "debit", "kind": "drop_after_commit"},
    {"operation": "debit", "kind": "drop_before_commit"},
    {"operation": "debit", "kind": "garbage", "form": "truncated"},
    {"operation": "debit", "kind": "pending", "seconds": 1},
    {"operation": "debit", "kind": "refuse", "code": "risk"},
    {"operation": "refund", "kind": "drop_after_commit"},
    {"operation": "get_debit", "kind": "garbage", "form": "error_500"},
)


async def _kill_often(stage: Stage, world: World, *, kills: int, chance: random.Random) -> Running:
    """Kills the server at random moments, and lets the bank misbehave; returns the server that runs in the end."""
    port = world.url.rsplit(":", 1)[1]
    environment = {**stage.environment, "KINPAY_PORT": port}
    server = stage.server
    for number in range(kills):
        await asyncio.sleep(chance.uniform(0.3, 1.8))
        fault = dict(chance.choice(FAULTS))
        await world.control.misbehave(fault.pop("operation"), fault.pop("kind"), **fault)  # type: ignore[arg-type]
        await asyncio.to_thread(server.kill)
        server = start_server(environment, stage.home / "server.log")
        await asyncio.to_thread(server.wait_ready)
        print(f"kill {number + 1} of {kills}", file=sys.stderr, flush=True)
    await asyncio.sleep(1.0)
    return server


OPEN = """
    SELECT (SELECT count(*) FROM debit WHERE state = 'submitted') + (SELECT count(*) FROM refund WHERE state = 'submitted')
         + (SELECT count(*) FROM charge WHERE state IN ('held', 'submitted'))
"""


async def _judge(stage: Stage, world: World, told: Told, kills: int) -> Outcome:
    """Waits until nothing is unknown, then compares with the bank."""
    settings = read_settings(stage.environment)
    async with located(settings) as url:
        conn = await asyncpg.connect(url)
        await prepare_connection(conn)
        try:
            for _ in range(240):
                if await conn.fetchval(OPEN) == 0:
                    break
                await asyncio.sleep(0.5)
            complaints = [] if await conn.fetchval(OPEN) == 0 else ["something is still not known"]
            bank = [one for one in await world.control.debits(world.bank_client_id) if one["state"] == "succeeded"]
            complaints += await _compare(conn, bank, told)
            books = await world.control.books()
            if not books["balanced"]:
                complaints.append("the bank's own books do not balance")
            complaints += [str(finding) for finding in await check(conn)]
        finally:
            await conn.close()
    complaints += [f"no answer for key {key}" for key in told.unanswered]
    if told.answers["succeeded"] < kills:
        complaints.append("hardly anything was sold: the campaign proves nothing")
    return Outcome(kills, told.answers, len(bank), complaints)


async def _compare(conn: Any, bank: list[dict[str, Any]], told: Told) -> list[str]:
    """The bank's debits against ours, and ours against what tills were told."""
    complaints = []
    ours = {
        row["id"]: row["amount_minor"]
        for row in await conn.fetch("SELECT id, amount_minor FROM debit WHERE state = 'succeeded'")
    }
    theirs = {one["key"]: one["amount_minor"] for one in bank}
    complaints += [f"debit {key} is only at the bank" for key in theirs.keys() - ours.keys()]
    complaints += [f"debit {key} is only here" for key in ours.keys() - theirs.keys()]
    complaints += [f"debit {key} differs" for key in ours.keys() & theirs.keys() if ours[key] != theirs[key]]
    complaints += [f"money of {one['key']} moved {one['moves']} times" for one in bank if one.get("moves", 1) != 1]
    twice = await conn.fetch(
        "SELECT charge_id FROM charge_debit cd JOIN debit d ON d.id = cd.debit_id WHERE d.state = 'succeeded'"
        " GROUP BY charge_id HAVING sum(d.amount_minor) - coalesce((SELECT sum(r.amount_minor) FROM refund r"
        " WHERE r.charge_id = cd.charge_id AND r.reason = 'surplus'), 0)"
        " <> (SELECT captured_minor FROM charge c WHERE c.id = cd.charge_id)"
    )
    complaints += [f"charge {row[0]} was not debited exactly once" for row in twice]
    states = {row["id"]: row["state"] for row in await conn.fetch("SELECT id, state FROM charge")}
    complaints += [f"charge {ident}, told {said}, is lost" for ident, said in told.heard.items() if ident not in states]
    complaints += [
        f"charge {ident} was told {said} but is {states[ident]}"
        for ident, said in told.heard.items()
        if said in ("succeeded", "refused", "voided", "declined") and states.get(ident) not in (said, "succeeded")
    ]
    return complaints


def main() -> None:
    """Runs a campaign and says what came of it; status 1 if anything did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    outcome = asyncio.run(campaign(kills=asked.kills, seed=asked.seed))
    print(f"kills {outcome.kills}, debits at the bank {outcome.bank_debits}, tills were told {dict(outcome.answers)}")
    for complaint in outcome.complaints[:50]:
        print(f"  {complaint}")
    print("nothing lost, nothing doubled" if not outcome.complaints else f"{len(outcome.complaints)} complaints")
    sys.exit(bool(outcome.complaints))


if __name__ == "__main__":
    main()
