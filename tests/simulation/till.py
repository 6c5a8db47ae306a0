"""Tills that never stop, for campaigns: what each asked under which key, and the last that it heard."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from kinpay.cli.demo.cast import Device
from kinpay_client import Problem, Unreachable, new_key

AGAIN = ("idempotency-key-in-use", "busy", "internal", "restored")
"""Problems that say: the same request, under the same key, once more."""
OVER = ("refused", "voided", "declined")
"""States in which nobody is debited."""


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
    holder: str = ""
    """Whose card it was."""


@dataclass(slots=True)
class Card:
    """A spender's card, and who pays for it, in turn. `most`: how many sales; a day's debit tells only so many charges."""

    code: str
    payers: tuple[str, ...]
    most: int | None = None


async def sell(device: Device, cards: Sequence[Card], asked: list[Asked], over: asyncio.Event, chance: random.Random) -> None:
    """One till: charges at once, or holds and captures in part, and gives some of it back."""
    while not over.is_set():
        at_once, amount, card = chance.random() < 0.7, chance.randint(2, 3_00), chance.choice(cards)
        if card.most is not None and sum(one.subject == card.code for one in asked) >= card.most:
            card = cards[0]
        one = _new(device, "charge" if at_once else "hold", amount, card.code, card.code)
        asked.append(one)
        await insist(one)
        if one.charge_id is None:
            continue
        if one.state == "held":
            asked.append(_new(device, "capture", chance.randint(1, amount), one.charge_id, card.code))
            await insist(asked[-1])
        elif one.state == "succeeded" and chance.random() < 0.2:
            asked.append(_new(device, "refund", chance.randint(1, amount), one.charge_id, card.code))
            await insist(asked[-1])
        await asyncio.sleep(0.02)


def _new(device: Device, what: str, amount: int, subject: str, holder: str) -> Asked:
    return Asked(device, what, new_key(), amount, subject, datetime.now(UTC), holder=holder)


async def insist(one: Asked) -> None:
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


async def repeat(asked: list[Asked], point: datetime) -> int:
    """Every till repeats what was lost, under its key: the same charge is answered, or it is refused; never a new one.

    What was still held when it was lost was never debited; it is captured once more where it is, too.
    """
    repeated = 0
    for one in list(asked):
        if one.at > point and one.charge_id is not None and one.state not in OVER and one.what != "hold":
            again = Asked(one.device, one.what, one.key, one.amount, one.subject, one.at, holder=one.holder)
            await insist(again)
            asked.append(again)
            repeated += 1
    return repeated
