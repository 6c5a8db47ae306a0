"""Every operation of the OpenAPI document, asked by everybody in ways that nobody thought of: `python -m tests.api.fuzz`.

    python -m tests.api.fuzz --cases 20000 --seed 7
    python -m tests.api.fuzz --cases 20000 --seed 7 --case 41.12      one case again, as a failure names it

The cases come from `cases.py`, what must hold of the answers from `judging.py`; afterwards the books are audited. A failure
that hangs on what went before comes again with the whole run of the same seed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

import kinpay_postgres
from kinpay.database.migrate import migrate
from kinpay.server.journal import open_journal
from kinpay_postgres.folder import Folder
from tests.api.asking import URL
from tests.api.cases import Asked, invented, seasoned, shares
from tests.api.judging import judged
from tests.api.matrix import ROWS, Row
from tests.api.schema import operations
from tests.api.standing import standing_bank, standing_town
from tests.api.test_roles import fresh_codes
from tests.api.town import Town
from tests.conftest import check_books, watch_lanes

FRESH_EVERY: Final = 8
"""After so many cases of a row that shows codes there are new ones: the others are used up, or run out within the minute."""


@dataclass(frozen=True, slots=True)
class Found:
    """An answer that is wrong: which, why, and how to see it again."""

    asked: Asked
    wrong: str
    cases: int
    seed: int

    def __str__(self) -> str:
        again = (
            f"python -m tests.api.fuzz --cases {self.cases} --seed {self.seed} --case {self.asked.place}.{self.asked.number}"
        )
        sent = f"{self.asked.method} {self.asked.path[:200]} by {self.asked.asker} {self.asked.body[:300]!r}"
        return f"{self.asked.operation}: {self.wrong}\n    sent: {sent}\n    headers: {self.asked.headers}\n    again: {again}"


@dataclass(slots=True)
class Outcome:
    """What a run came to: how each operation was answered, and everything that was wrong."""

    heard: dict[str, Counter[int]] = field(default_factory=dict)
    succeeded: Counter[int] = field(default_factory=Counter)
    """Row's place → how many of its cases did what they asked for."""
    found: list[Found] = field(default_factory=list)

    @property
    def cases(self) -> int:
        """How many were sent."""
        return sum(heard.total() for heard in self.heard.values())

    def lines(self) -> Iterable[str]:
        """A line for each operation: how many cases, and what was answered how often."""
        for operation, heard in sorted(self.heard.items(), key=lambda item: item[0].partition(" ")[2]):
            yield f"{heard.total():>6}  {operation:<64} " + "  ".join(f"{status}×{n}" for status, n in sorted(heard.items()))


async def campaign(
    town: Town, *, cases: int, seed: int, rows: Sequence[Row] = ROWS, only: tuple[int, int] | None = None
) -> Outcome:
    """Asks `cases` times, what ends things last; `only`: one case, by its row's place and its number."""
    text = (await town.http.get(f"{URL}/openapi.json")).text
    document = json.loads(text)
    outcome = Outcome()
    share = shares(rows, cases)
    for place, row in sorted(enumerate(rows), key=lambda item: item[1].last):
        if only is not None and only[0] != place:
            continue
        for number, case in enumerate(invented(text, row.operation, share[place], seed)):
            if only is not None and only[1] != number:
                continue
            if number % FRESH_EVERY == 0 or only is not None:
                await fresh_codes(town, row)
            asked = seasoned(town, row, case, place=place, number=number, seed=seed)
            await _ask(town, document, asked, outcome, again=(cases, seed))
    return outcome


async def _ask(town: Town, document: Mapping[str, Any], asked: Asked, outcome: Outcome, *, again: tuple[int, int]) -> None:
    heard = outcome.heard.setdefault(asked.operation, Counter())
    try:
        response = await town.principals[asked.asker].ask(
            asked.method, asked.path, asked.body, headers=asked.headers, own_key=asked.own_key
        )
    except httpx.InvalidURL:
        # No client could send this.
        heard[0] += 1
        return
    except Exception as error:
        heard[500] += 1
        outcome.found.append(Found(asked, f"raises {error!r}"[:300], *again))
        return
    heard[response.status_code] += 1
    outcome.succeeded[asked.place] += response.is_success
    outcome.found += [
        Found(asked, f"{wrong}\n    heard: {response.text[:300]}", *again) for wrong in judged(document, asked, response)
    ]


def unasked(document: Mapping[str, Any], outcome: Outcome) -> set[str]:
    """The operations of the document that were not asked."""
    return {name for name, *_ in operations(document)} - set(outcome.heard)


async def run(*, cases: int, seed: int, only: tuple[int, int] | None) -> Outcome:
    """One run in a town of its own, whose books are audited at the end."""
    folder = Path(tempfile.mkdtemp(prefix="kinpay-fuzz-", dir="/tmp"))
    quick = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "64MB", "max_connections": "50"}
    try:
        url = kinpay_postgres.create_database(kinpay_postgres.start(folder, settings=quick), "town")
        await migrate(url)
        await watch_lanes(url)
        with standing_bank() as bank:
            async with standing_town(url, bank) as town:
                outcome = await campaign(town, cases=cases, seed=seed, only=only)
                await check_books(url)
                return outcome
    finally:
        kinpay_postgres.stop(folder, mode="immediate")
        shutil.rmtree(Folder(folder).socket_dir, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Runs, and says what was asked and found."""
    parser = argparse.ArgumentParser(prog="python -m tests.api.fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=20_000, help="how many requests (20000)")
    parser.add_argument("--seed", type=int, help="the same seed makes the same cases; by chance if not given")
    parser.add_argument("--case", help="ROW.NUMBER: only this one, as a failure names it")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(10**9) if given.seed is None else given.seed
    only = None
    if given.case:
        place, _, number = given.case.partition(".")
        only = (int(place), int(number))
    # What is expected of such requests need not be read; an incident has to be.
    open_journal("error")
    print(f"seed {seed}", flush=True)
    began = time.monotonic()
    outcome = asyncio.run(run(cases=given.cases, seed=seed, only=only))
    print("\n".join(outcome.lines()))
    print("\n".join(str(found) for found in outcome.found))
    took_s = time.monotonic() - began
    told = f"{outcome.cases} cases, {outcome.succeeded.total()} of them succeeded, {len(outcome.found)} failures"
    print(f"{told}, seed {seed}, {took_s:.0f} s")
    return 1 if outcome.found else 0


if __name__ == "__main__":
    sys.exit(main())
