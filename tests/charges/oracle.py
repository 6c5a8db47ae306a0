"""A naive second opinion on `decide`, written from the documents and sharing no rule with it.

It keeps a plain list of what was approved and sums it anew for every question; it finds the greatest amount that passes by
trying every smaller one, and the first instant by trying every instant at which anything could change.
Source: semantics.md "Limits"; product.md §5 "Common rules".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

ZONES = ("Asia/Shanghai", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Africa/Cairo", "America/Havana")
FAR = timedelta(days=70)
"""After two months every window is empty and every weekday has come round: what does not pass by then never will."""

Label = date | tuple[int, int]


def label(moment: datetime, window: str, zone: str) -> Label:
    """The name of the day, ISO week or month that the wall shows."""
    return _label(int(moment.timestamp()), window, zone)


@lru_cache(maxsize=200_000)
def _label(second: int, window: str, zone: str) -> Label:
    day = datetime.fromtimestamp(second, ZoneInfo(zone)).date()
    if window == "day":
        return day
    return day.isocalendar()[:2] if window == "week" else (day.year, day.month)


@lru_cache(maxsize=20_000)
def window_of(moment: datetime, window: str, zone: str) -> tuple[datetime, datetime]:
    """The first instant with the label of `moment`, and the first one after it with another; found by halving."""
    here, mine, reach = int(moment.timestamp()), label(moment, window, zone), 35 * 86400
    start = _first(here - reach, here, lambda second: _label(second, window, zone) == mine)
    end = _first(here, here + reach, lambda second: _label(second, window, zone) != mine)
    return datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC)


def _first(low: int, high: int, true: Any) -> int:
    """The first second in (low, high] at which `true` holds, given that it stays true."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if true(middle) else (middle, high)
    return high


@lru_cache(maxsize=64)
def jumps(zone: str, first_year: int = 2024, last_year: int = 2028) -> tuple[datetime, ...]:
    """The instants at which the zone's clocks change."""
    second, found = int(datetime(first_year, 1, 1, tzinfo=UTC).timestamp()), []
    end, step = int(datetime(last_year, 1, 1, tzinfo=UTC).timestamp()), 86400

    def offset(at: int) -> timedelta | None:
        return datetime.fromtimestamp(at, ZoneInfo(zone)).utcoffset()

    while second < end:
        before = offset(second)
        if offset(second + step) != before:
            found.append(datetime.fromtimestamp(_first(second, second + step, lambda at, old=before: offset(at) != old), UTC))
        second += step
    return tuple(found)


@dataclass(frozen=True)
class Asked:
    """A payment, asked for or made. `at` None for one that is only asked for."""

    amount: int
    currency: str
    merchant: str
    mcc: str
    spender: str
    card: str | None


@dataclass(frozen=True)
class Made:
    """A payment that was approved, and under which mandate."""

    asked: Asked
    at: datetime
    mandate: str
    payer: str


@dataclass(frozen=True)
class Funding:
    """An agreement."""

    id: str
    active: bool
    currency: str
    per_debit: int | None


@dataclass(frozen=True)
class Allowed:
    """A mandate: canonical terms and what else decides."""

    id: str
    payer: str
    spender: str
    state: str
    arrears: bool
    terms: Mapping[str, Any]
    agreements: Sequence[Funding]


@dataclass(frozen=True)
class Shared:
    """A pool of a payer over some spenders (None: all of theirs)."""

    id: str
    payer: str
    spenders: frozenset[str] | None
    terms: Mapping[str, Any]


@dataclass(frozen=True)
class Card:
    """A credential, with terms of its own or without."""

    id: str
    active: bool
    terms: Mapping[str, Any] | None


@dataclass(frozen=True)
class Says:
    """A reason, as the oracle puts it."""

    rank: int
    code: str
    at_most: int | None = None
    at_least: int | None = None
    used: int | None = None
    remaining: int | None = None
    resets_at: datetime | None = None


@dataclass
class World:
    """A circle and its past."""

    zone: str
    frozen: bool = False
    spender_active: Mapping[str, bool] = field(default_factory=dict)
    pending: bool = False
    mandates: Sequence[Allowed] = ()
    pools: Sequence[Shared] = ()
    cards: Sequence[Card] = ()
    history: Sequence[Made] = ()

    def card(self, card_id: str | None) -> Card | None:
        """The credential presented."""
        return next((card for card in self.cards if card.id == card_id), None)

    def mandates_of(self, spender: str) -> list[Allowed]:
        """In the order to try."""
        return [mandate for mandate in self.mandates if mandate.spender == spender]

    def scopes(self, asked: Asked, mandate: Allowed) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        """(scope, its id, terms) of everything that binds."""
        yield "mandate", mandate.id, mandate.terms
        card = self.card(asked.card)
        if card is not None and card.terms is not None:
            yield "credential", card.id, card.terms
        for pool in self.pools:
            if pool.payer == mandate.payer and (pool.spenders is None or asked.spender in pool.spenders):
                yield "pool", pool.id, pool.terms

    def counted(self, scope: str, scope_id: str, made: Made) -> bool:
        """Whether a payment of the past belongs to a scope."""
        if scope == "mandate":
            return made.mandate == scope_id
        if scope == "credential":
            return made.asked.card == scope_id
        pool = next(pool for pool in self.pools if pool.id == scope_id)
        return made.payer == pool.payer and (pool.spenders is None or made.asked.spender in pool.spenders)


def selects(chosen: Mapping[str, Sequence[str]], asked: Asked) -> bool:
    """Whether a filter selects a payment."""
    return asked.merchant in chosen.get("payees", [asked.merchant]) and asked.mcc in chosen.get("mccs", [asked.mcc])


def used(
    world: World, scope: str, scope_id: str, chosen: Mapping[str, Sequence[str]], window: str, at: datetime
) -> tuple[int, int]:
    """Amount and number of the past payments that fit, in the window around `at`."""
    here = label(at, window, world.zone)
    found = [
        made.asked.amount
        for made in world.history
        if world.counted(scope, scope_id, made) and selects(chosen, made.asked) and label(made.at, window, world.zone) == here
    ]
    return sum(found), len(found)


def barred(world: World, asked: Asked) -> list[Says]:
    """What refuses before any mandate is looked at."""
    says = []
    if world.frozen:
        says.append(Says(1, "CIRCLE_FROZEN"))
    if not world.spender_active.get(asked.spender, False):
        says.append(Says(1, "SPENDER_INACTIVE"))
    card = world.card(asked.card)
    if asked.card is not None and (card is None or not card.active):
        says.append(Says(1, "CREDENTIAL_REVOKED"))
    if not world.mandates_of(asked.spender):
        says.append(Says(2, "MANDATE_PENDING" if world.pending else "MANDATE_NONE"))
    return says


def against(world: World, asked: Asked, mandate: Allowed, at: datetime, spent: frozenset[str] = frozenset()) -> list[Says]:
    """Every reason against a mandate at an instant, in order."""
    says = []
    if mandate.state != "active":
        says.append(Says(2, f"MANDATE_{mandate.state.upper()}"))
    if mandate.arrears:
        says.append(Says(2, "MANDATE_ARREARS"))
    if asked.currency != mandate.terms["currency"]:
        says.append(Says(2, "CURRENCY"))
    for scope, scope_id, terms in world.scopes(asked, mandate):
        for condition in terms["conditions"]:
            says += refused_by(condition, asked, at, world.zone)
        for limit in terms["limits"]:
            says += beyond(world, scope, scope_id, limit, asked, at)
    if fund(mandate, asked, spent) is None:
        says.append(Says(11, "PROVIDER"))
    return sorted(says, key=lambda said: said.rank)


def fund(mandate: Allowed, asked: Asked, spent: frozenset[str] = frozenset()) -> Funding | None:
    """The first agreement that takes the payment."""
    for agreement in mandate.agreements:
        fits = agreement.per_debit is None or asked.amount <= agreement.per_debit
        if agreement.active and agreement.currency == asked.currency and agreement.id not in spent and fits:
            return agreement
    return None


def refused_by(condition: Mapping[str, Any], asked: Asked, at: datetime, zone: str) -> Iterator[Says]:
    """What a condition says."""
    if condition["kind"] == "hours":
        wall = datetime.fromtimestamp(int(at.timestamp()), ZoneInfo(zone))
        clock = f"{wall:%H:%M}"
        inside = (o["opens"] <= clock < o["closes"] and wall.isoweekday() in o["weekdays"] for o in condition["open"])
        if not any(inside):
            yield Says(4, "TIME")
        return
    value, code = (asked.merchant, "PAYEE") if condition["kind"] == "payees" else (asked.mcc, "CATEGORY")
    bad = value not in condition["allow"] if "allow" in condition else value in condition["deny"]
    if bad:
        yield Says(3, code)


PREFIX = {"mandate": "", "credential": "CARD_", "pool": "POOL_"}
RANKS = {"day": 7, "week": 8, "month": 9}


def beyond(world: World, scope: str, scope_id: str, limit: Mapping[str, Any], asked: Asked, at: datetime) -> Iterator[Says]:
    """What a limit says. Equality passes."""
    chosen = limit.get("filter", {})
    if not selects(chosen, asked):
        return
    name = PREFIX[scope] + ("CATEGORY_" if chosen else "")
    most, window = limit.get("at_most"), limit["window"]
    pool = 10 if scope == "pool" else None
    if window == "per_payment":
        if most is not None and asked.amount > most:
            yield Says(5, f"{name}PER_PAYMENT", at_most=most)
        if limit.get("at_least") is not None and asked.amount < limit["at_least"]:
            yield Says(5, f"{name}PER_PAYMENT_MIN", at_least=limit["at_least"])
        return
    amount, number = used(world, scope, scope_id, chosen, window, at)
    taken, more = (number, 1) if limit["metric"] == "count" else (amount, asked.amount)
    if taken + more > most:
        rank = pool or (6 if limit["metric"] == "count" else RANKS[window])
        code = f"{name}{window.upper()}_{limit['metric'].upper()}"
        end = window_of(at, window, world.zone)[1]
        yield Says(rank, code, at_most=most, used=taken, remaining=max(0, most - taken), resets_at=end)


def passes(world: World, asked: Asked, at: datetime, spent: frozenset[str] = frozenset()) -> Allowed | None:
    """The first mandate that lets it pass."""
    if barred(world, asked):
        return None
    return next((m for m in world.mandates_of(asked.spender) if not against(world, asked, m, at, spent)), None)


def possible_now(world: World, asked: Asked, at: datetime, spent: frozenset[str] = frozenset()) -> int:
    """The greatest smaller amount that passes; every one is tried."""
    tries = range(asked.amount - 1, 0, -1)
    return next((amount for amount in tries if passes(world, replace(asked, amount=amount), at, spent)), 0)


def again_at(world: World, asked: Asked, at: datetime, spent: frozenset[str] = frozenset()) -> datetime | None:
    """The first later instant at which it passes as asked."""
    if barred(world, asked):
        return None
    timeless = (2, 3, 5, 11)
    hopeful = [
        m for m in world.mandates_of(asked.spender) if not any(s.rank in timeless for s in against(world, asked, m, at, spent))
    ]
    if not hopeful:
        return None
    return next((moment for moment in changes(world, at) if passes(world, asked, moment, spent)), None)


def changes(world: World, at: datetime) -> list[datetime]:
    """Every instant after `at`, for a while, at which anything could change: midnights, openings, jumps of the clock."""
    return [moment for moment in _changes(world.zone, at, _openings(world)) if moment > at]


def _openings(world: World) -> frozenset[str]:
    every = [terms for mandate in world.mandates for terms in (mandate.terms,)]
    every += [pool.terms for pool in world.pools] + [card.terms for card in world.cards if card.terms]
    hours = [condition for terms in every for condition in terms["conditions"] if condition["kind"] == "hours"]
    return frozenset(clock for condition in hours for o in condition["open"] for clock in (o["opens"], o["closes"]))


@lru_cache(maxsize=1000)
def _changes(zone: str, at: datetime, clocks: frozenset[str]) -> list[datetime]:
    found = {jump for jump in jumps(zone) if at < jump < at + FAR}
    day, here = label(at, "day", zone), ZoneInfo(zone)
    assert isinstance(day, date)
    times = [time(int(clock[:2]), int(clock[3:])) for clock in clocks if clock != "24:00"]
    noon = datetime.combine(day, time(12), here)
    for number in range(FAR.days):
        middle = (noon + timedelta(days=number)).astimezone(UTC)
        found.add(window_of(middle, "day", zone)[0])
        for clock in times:
            for fold in (0, 1):
                found.add(datetime.combine(day + timedelta(days=number), clock, here).replace(fold=fold).astimezone(UTC))
    return sorted(found)
