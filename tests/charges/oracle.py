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

from tests.charges.walls import Per, jumps, label, name_of, on_such_a_day, per, window_of

NEAR = timedelta(days=70)
"""After two months every week and month is another and every weekday has come round: what does not pass by then never will."""
FAR = timedelta(days=400)
"""As far as anybody looks ahead, where years, school holidays or days of validity are written."""


@dataclass(frozen=True)
class Asked:
    """A payment, asked for or made. `at` None for one that is only asked for."""

    amount: int
    currency: str
    merchant: str
    mcc: str
    spender: str
    card: str | None
    method: str = "card"
    terminal: str = "7e" * 16
    items: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Made:
    """A payment that was approved, under which mandate, and how much of it was given back."""

    asked: Asked
    at: datetime
    mandate: str
    payer: str
    refunded: int = 0


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
    cooling: Sequence[tuple[Mapping[str, Any], datetime]] = ()


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


@dataclass(frozen=True)
class Bound:
    """What binds, whose it is, and until when if only for a time."""

    scope: str
    id: str
    terms: Mapping[str, Any]
    until: datetime | None = None


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
    anchor: date = date(2026, 1, 1)
    """The day of every consent."""

    def card(self, card_id: str | None) -> Card | None:
        """The credential presented."""
        return next((card for card in self.cards if card.id == card_id), None)

    def mandates_of(self, spender: str) -> list[Allowed]:
        """In the order to try."""
        return [mandate for mandate in self.mandates if mandate.spender == spender]

    def scopes(self, asked: Asked, mandate: Allowed) -> Iterator[Bound]:
        """Everything that binds."""
        yield Bound("mandate", mandate.id, mandate.terms)
        for terms, until in mandate.cooling:
            yield Bound("mandate", mandate.id, terms, until)
        card = self.card(asked.card)
        if card is not None and card.terms is not None:
            yield Bound("credential", card.id, card.terms)
        for pool in self.pools:
            if pool.payer == mandate.payer and (pool.spenders is None or asked.spender in pool.spenders):
                yield Bound("pool", pool.id, pool.terms)

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
    named = {"payees": asked.merchant, "mccs": asked.mcc, "methods": asked.method, "terminals": asked.terminal}
    if any(value not in chosen.get(name, [value]) for name, value in named.items()):
        return False
    return "items" not in chosen or not asked.items or any(code in chosen["items"] for code, _ in asked.items)


def part(chosen: Mapping[str, Sequence[str]], asked: Asked, whole: int) -> int:
    """How much of `whole` a filter counts."""
    if "items" not in chosen or not asked.items:
        return whole
    return min(whole, sum(amount for code, amount in asked.items if code in chosen["items"]))


def used(world: World, bound: Bound, limit: Mapping[str, Any], at: datetime) -> tuple[int, int]:
    """Amount and number of the past payments that count for a limit at an instant."""
    chosen, over = limit.get("filter", {}), per(limit, world.anchor)
    found = []
    for made in world.history:
        if over.window == "trailing":
            inside = made.at > at - timedelta(seconds=over.trailing_s)
        else:
            inside = label(made.at, over, world.zone) == label(at, over, world.zone)
        if inside and world.counted(bound.scope, bound.id, made) and selects(chosen, made.asked):
            kept = limit.get("refunds") == "keep"
            found.append(part(chosen, made.asked, made.asked.amount - (0 if kept else made.refunded)))
    return sum(found), len(found)


def used_at(world: World, bound: Bound, limit: Mapping[str, Any], at: datetime) -> tuple[int, int]:
    """The same, of just that instant."""
    just = replace(world, history=[made for made in world.history if made.at == at])
    return used(just, bound, {**limit, "window": "lifetime"}, at)


def allowed(world: World, bound: Bound, limit: Mapping[str, Any], at: datetime) -> int:
    """What a limit allows at an instant: of the first period its part by days of validity, counted one by one."""
    most, over = limit["at_most"], per(limit, world.anchor)
    begun = max(world.anchor, date.fromisoformat(bound.terms.get("valid_from", "2000-01-01")))
    day, first = datetime.fromtimestamp(int(at.timestamp()), ZoneInfo(world.zone)).date(), name_of(begun, over)
    if limit.get("proration") != "first_period" or name_of(day, over) != first:
        return int(most)
    days = [begun + timedelta(days=number) for number in range(-366, 367)]
    same = [one for one in days if name_of(one, over) == first]
    return int(most * sum(one >= begun for one in same) // len(same))


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
    for bound in world.scopes(asked, mandate):
        if bound.until is not None and at >= bound.until:
            continue
        cooling = "COOLING_" if bound.until else ""
        for said in (*conditions_against(bound.terms, asked, at, world), *limits_against(bound, asked, at, world)):
            says.append(replace(said, code=cooling + said.code, resets_at=_first_of(said, bound)))
    if fund(mandate, asked, spent) is None:
        says.append(Says(15, "PROVIDER"))
    return sorted(says, key=lambda said: said.rank)


def _first_of(said: Says, bound: Bound) -> datetime | None:
    ends = [moment for moment in (said.resets_at, bound.until) if moment is not None]
    return min(ends, default=None)


def conditions_against(terms: Mapping[str, Any], asked: Asked, at: datetime, world: World) -> Iterator[Says]:
    """What days of validity and conditions say."""
    today = f"{datetime.fromtimestamp(int(at.timestamp()), ZoneInfo(world.zone)):%Y-%m-%d}"
    if today < terms.get("valid_from", ""):
        begins = datetime.combine(date.fromisoformat(terms["valid_from"]), time(12), ZoneInfo(world.zone)).astimezone(UTC)
        yield Says(2, "NOT_YET_VALID", resets_at=window_of(begins, Per("day"), world.zone)[0])
    if today > terms.get("valid_to", "9999"):
        yield Says(2, "NO_LONGER_VALID")
    for condition in terms["conditions"]:
        yield from refused_by(condition, asked, at, world.zone)


def limits_against(bound: Bound, asked: Asked, at: datetime, world: World) -> Iterator[Says]:
    """What limits say."""
    for limit in bound.terms["limits"]:
        yield from beyond(world, bound, limit, asked, at)


def fund(mandate: Allowed, asked: Asked, spent: frozenset[str] = frozenset()) -> Funding | None:
    """The first agreement that takes the payment."""
    for agreement in mandate.agreements:
        fits = agreement.per_debit is None or asked.amount <= agreement.per_debit
        if agreement.active and agreement.currency == asked.currency and agreement.id not in spent and fits:
            return agreement
    return None


def refused_by(condition: Mapping[str, Any], asked: Asked, at: datetime, zone: str) -> Iterator[Says]:
    """What a condition says."""
    kind = condition["kind"]
    if kind == "hours":
        wall = datetime.fromtimestamp(int(at.timestamp()), ZoneInfo(zone))
        clock = f"{wall:%H:%M}"
        inside = (o for o in condition["open"] if o["opens"] <= clock < o["closes"] and wall.isoweekday() in o["weekdays"])
        if not any(on_such_a_day(condition, opening, wall.date()) for opening in inside):
            yield Says(4, "TIME")
        return
    values = [code for code, _ in asked.items]
    if kind != "items":
        values = [{"payees": asked.merchant, "mccs": asked.mcc, "methods": asked.method, "terminals": asked.terminal}[kind]]
    elif not values:
        yield Says(3, "ITEMS_UNKNOWN")
    names = {"payees": "PAYEE", "mccs": "CATEGORY", "items": "ITEM", "methods": "METHOD", "terminals": "TERMINAL"}
    if any(value not in condition["allow"] if "allow" in condition else value in condition["deny"] for value in values):
        yield Says(3, names[kind])


PREFIX = {"mandate": "", "credential": "CARD_", "pool": "POOL_"}
RANKS = {"trailing": 7, "day": 8, "week": 9, "month": 10, "half_year": 11, "year": 11, "lifetime": 13}


def beyond(world: World, bound: Bound, limit: Mapping[str, Any], asked: Asked, at: datetime) -> Iterator[Says]:
    """What a limit says. Equality passes."""
    chosen = limit.get("filter", {})
    if not selects(chosen, asked):
        return
    wanted = part(chosen, asked, asked.amount)
    name = PREFIX[bound.scope] + ("CATEGORY_" if chosen else "")
    window, over = limit["window"], per(limit, world.anchor)
    if window == "per_payment":
        if limit.get("at_most") is not None and wanted > limit["at_most"]:
            yield Says(5, f"{name}PER_PAYMENT", at_most=limit["at_most"])
        if limit.get("at_least") is not None and wanted < limit["at_least"]:
            yield Says(5, f"{name}PER_PAYMENT_MIN", at_least=limit["at_least"])
        return
    amount, number = used(world, bound, limit, at)
    counts, most = limit["metric"] == "count", allowed(world, bound, limit, at)
    taken, more = (number, 1) if counts else (amount, wanted)
    if taken + more > most:
        rank = 14 if bound.scope == "pool" else 6 if counts else 12 if over.consent else RANKS[window]
        code = f"{name}{'CONSENT_' if over.consent else ''}{window.upper()}_{limit['metric'].upper()}"
        end: datetime | None = None
        if window == "trailing":
            end = _leaves_at(world, bound, limit, at, most - more)
        elif window != "lifetime":
            end = window_of(at, over, world.zone)[1]
        yield Says(rank, code, at_most=most, used=taken, remaining=max(0, most - taken), resets_at=end)


def _leaves_at(world: World, bound: Bound, limit: Mapping[str, Any], at: datetime, room: int) -> datetime | None:
    """The first instant at which no more than `room` is left of what was used; or the last at which anything leaves."""
    length = timedelta(seconds=limit["trailing_s"])
    chosen = limit.get("filter", {})
    counted = [m for m in world.history if world.counted(bound.scope, bound.id, m) and selects(chosen, m.asked)]
    exits = sorted({made.at + length for made in counted if made.at + length > at})
    which = 1 if limit["metric"] == "count" else 0
    return next((end for end in exits if used(world, bound, limit, end)[which] <= room), exits[-1] if exits else None)


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
    if barred(world, asked) or not any(_hopeful(world, m, asked, at, spent) for m in world.mandates_of(asked.spender)):
        return None
    return next((moment for moment in changes(world, at) if passes(world, asked, moment, spent)), None)


def _hopeful(world: World, mandate: Allowed, asked: Asked, at: datetime, spent: frozenset[str]) -> bool:
    """Whether nothing is against it that no time lifts. (A lifetime's limit is one of those: nothing leaves it.)"""
    said = against(world, asked, mandate, at, spent)
    timeless = [s for s in said if s.rank in (2, 3, 5, 13, 15) or "LIFETIME" in s.code]
    too_little = any(
        limit.get("at_most") is not None
        and selects(limit.get("filter", {}), asked)
        and (1 if limit["metric"] == "count" else part(limit.get("filter", {}), asked, asked.amount)) > limit["at_most"]
        for bound in world.scopes(asked, mandate)
        if bound.until is None
        for limit in bound.terms["limits"]
    )
    return not too_little and all(s.code.startswith("COOLING_") or s.code == "NOT_YET_VALID" for s in timeless)


def changes(world: World, at: datetime) -> list[datetime]:
    """Every instant after `at`, for a while, at which anything could change: midnights, openings, jumps of the clock, the end
    of a cooling time, a payment that leaves a trailing window."""
    every = [terms for mandate in world.mandates for terms in (mandate.terms, *(terms for terms, _ in mandate.cooling))]
    every += [pool.terms for pool in world.pools] + [card.terms for card in world.cards if card.terms]
    conditions = [condition for terms in every for condition in terms["conditions"] if condition["kind"] == "hours"]
    clocks = frozenset(clock for hours in conditions for o in hours["open"] for clock in (o["opens"], o["closes"]))
    limits = [limit for terms in every for limit in terms["limits"]]
    far = any(limit["window"] in ("half_year", "year") for limit in limits)
    far = far or any(hours.get("calendar") for hours in conditions) or any(terms.get("valid_from") for terms in every)
    ends = [until for mandate in world.mandates for _, until in mandate.cooling]
    lengths = {limit["trailing_s"] for limit in limits if limit["window"] == "trailing"}
    ends += [made.at + timedelta(seconds=length) for made in world.history for length in lengths]
    found = {*_changes(world.zone, at, clocks, FAR if far else NEAR), *ends}
    return sorted(moment for moment in found if at < moment <= at + FAR)


@lru_cache(maxsize=1000)
def _changes(zone: str, at: datetime, clocks: frozenset[str], far: timedelta) -> list[datetime]:
    found = {jump for jump in jumps(zone) if at < jump < at + far}
    day, here = label(at, Per("day"), zone), ZoneInfo(zone)
    assert isinstance(day, date)
    times = [time(int(clock[:2]), int(clock[3:])) for clock in clocks if clock != "24:00"]
    noon = datetime.combine(day, time(12), here)
    for number in range(far.days + 1):
        middle = (noon + timedelta(days=number)).astimezone(UTC)
        found.add(window_of(middle, Per("day"), zone)[0])
        for clock in times:
            for fold in (0, 1):
                found.add(datetime.combine(day + timedelta(days=number), clock, here).replace(fold=fold).astimezone(UTC))
    return sorted(found)
