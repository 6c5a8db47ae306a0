"""A play under way: the cast, what their bank says they have, and the one way in which a step is told.

A step is only told after it was checked: that everybody heard what they had to hear, and that at the bank exactly the money
moved that had to move.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from kinpay.cli.demo.cast import Device, Player
from kinpay.cli.demo.told import Teller, money
from kinpay.cli.demo.world import StoryBroken, World
from kinpay_client import Problem

ZONES: Final = ("Asia/Shanghai", "Asia/Dubai", "Europe/Berlin", "America/New_York")
LONGEST: Final = timedelta(minutes=30)
"""How long a play may take at most: it begins and ends on one day of its circle."""


def zone_of_today(now: datetime | None = None) -> str:
    """Shanghai, or where it is no midnight soon: every limit of the story is of one day."""
    now = now or datetime.now(UTC)
    return next(name for name in ZONES if _day(now, name) == _day(now + LONGEST, name))


def _day(moment: datetime, zone: str) -> str:
    return moment.astimezone(ZoneInfo(zone)).date().isoformat()


@dataclass
class Play:
    """Who and what is on the stage. `circle_id` and `mandates` are filled in as the story goes.

    `faces`: whether there are pictures and models to enrol and pay by face with.
    """

    world: World
    teller: Teller
    zone: str
    people: dict[str, Player] = field(default_factory=dict)
    devices: dict[str, Device] = field(default_factory=dict)
    merchants: dict[str, str] = field(default_factory=dict)
    mandates: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    opened_with: dict[str, int] = field(default_factory=dict)
    circle_id: str = ""
    faces: bool = False
    _balances: dict[str, int] = field(default_factory=dict)

    def say(self, zh: str, en: str) -> str:
        """The text in the chosen language."""
        return self.teller.say(zh, en)

    async def open_bank_account(self, player: Player, balance_minor: int) -> None:
        """Makes somebody a customer of the bank; from here on every step says how their balance moved."""
        await player.open_bank_account(balance_minor)
        self._balances[player.account] = self.opened_with[player.account] = balance_minor

    async def step(
        self,
        zh: str,
        en: str,
        *,
        told: Mapping[Player, tuple[str, ...]] | None = None,
        moved: Mapping[Player, int] | None = None,
        shown: tuple[Device, str, str] | None = None,
    ) -> None:
        """Tells a step after checking who was told and what money moved; `moved` {}: say that none did.

        Raises: StoryBroken.
        """
        heard = {player: await player.told(*kinds) for player, kinds in (told or {}).items()}
        moves = await self._moves(moved or {})
        self.teller.step(self.say(zh, en))
        if shown is not None:
            device, zh_shown, en_shown = shown
            self.teller.shown(device.name, self.say(zh_shown, en_shown))
        for player, notices in heard.items():
            for notice in notices:
                self.teller.heard(player.name, notice["text"] or notice["title"])
        if moves:
            self.teller.moved(moves)
        elif moved is not None:
            self.teller.nothing_moved()

    async def _moves(self, expected: Mapping[Player, int]) -> list[tuple[str, int, int]]:
        wanted = {player.account: change for player, change in expected.items()}
        moves = []
        for player in self.people.values():
            if player.account not in self._balances:
                continue
            before, after = self._balances[player.account], await player.balance_minor()
            if after - before != wanted.get(player.account, 0):
                due = wanted.get(player.account, 0)
                raise StoryBroken(
                    f"{player.name}'s bank balance should move by {money(due)}, it moved by {money(after - before)}"
                )
            self._balances[player.account] = after
            if after != before:
                moves.append((player.name, before, after))
        return moves

    async def hush_until(self, player: Player, *kinds: str) -> None:
        """Waits until somebody is told that, then hushes everybody."""
        await player.told(*kinds)
        await self.hush()

    async def hush(self) -> None:
        """Lets everybody look at what they were told so far, so that the next step shows its own notices only."""
        for player in self.people.values():
            await player.news()


def expect(fact: bool, what: str) -> None:
    """Raises: StoryBroken, saying what was expected, unless it is so."""
    if not fact:
        raise StoryBroken(what)


def expect_charge(charge: Mapping[str, Any], state: str, **facts: Any) -> None:
    """The charge is in that state, and these of its members are so. Raises: StoryBroken."""
    wanted = {"state": state, **facts}
    found = {name: charge.get(name) for name in wanted}
    expect(found == wanted, f"a charge should be {wanted}, it is {found} (refusal: {charge.get('refusal')})")


def expect_refused(charge: Mapping[str, Any], *codes: str, possible_now_minor: int | None = None) -> None:
    """It was refused for exactly these reasons, in this order. Raises: StoryBroken."""
    expect_charge(charge, "refused")
    refusal = charge["refusal"]
    found = tuple(reason["code"] for reason in refusal["reasons"])
    expect(found == codes, f"it should be refused for {codes}, it was for {found}")
    if possible_now_minor is not None:
        now = refusal["possible_now_minor"]
        expect(now == possible_now_minor, f"{money(possible_now_minor)} should be possible now, it is {money(now)}")


class Denied:
    """`async with Denied("code")`: what is asked inside must be refused with that problem."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.problem: Problem | None = None

    async def __aenter__(self) -> Denied:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if error is None:
            raise StoryBroken(f"it should be denied with {self.code}, but it was done")
        if isinstance(error, Problem):
            expect(error.code == self.code, f"it should be denied with {self.code}, it was with {error.code}")
            self.problem = error
            return True
        return False


def limits(*, each: int, day: int, count: int, month: int, payees: list[str] | None = None) -> dict[str, Any]:
    """Terms in canonical form: per payment, a day's sum and count, a month's sum; and, if named, only these payees."""
    wanted = [
        {"metric": "amount", "window": "per_payment", "at_most": each, "filter": {}},
        {"metric": "amount", "window": "day", "at_most": day, "filter": {}},
        {"metric": "count", "window": "day", "at_most": count, "filter": {}},
        {"metric": "amount", "window": "month", "at_most": month, "filter": {}},
    ]
    conditions = [{"kind": "payees", "allow": payees}] if payees else []
    return {"currency": "CNY", "limits": wanted, "conditions": conditions}
