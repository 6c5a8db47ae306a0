"""Random circles with a random past, for the oracle, and the same circles as `decide` wants them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from kinpay.charges.compile import bounds_of, chosen, filter_name
from kinpay.charges.order import Item, Order
from kinpay.charges.standing import (
    TRAIL,
    AgreementStanding,
    Bounds,
    CircleStanding,
    CounterKey,
    CredentialStanding,
    MandateStanding,
    Scope,
    SpenderStanding,
    Trail,
    Used,
)
from kinpay.mandates.limit import period_of, refunds_of
from kinpay.mandates.terms import Terms
from tests.charges.oracle import Allowed, Asked, Bound, Card, Funding, Made, Shared, World, part, selects
from tests.charges.walls import ZONES, jumps, per, window_of

MERCHANTS = tuple(f"{number:032x}" for number in (1, 2, 3))
MCCS = ("5411", "5812", "7995")
SPENDERS = ("5a" * 16, "5b" * 16)
PAYERS = ("aa" * 16, "ab" * 16)
CARD = "cd" * 16
TERMINALS = ("7e" * 16, "7f" * 16)
METHODS = ("card", "pay_code")
GOODS = ("milk", "sweets", "tobacco")
UNNEEDED = {"metric": "amount", "window": "week", "at_most": 1, "filter": {"payees": [MERCHANTS[0]]}}
"""A filter that is counted although no limit needs it any more."""

filters = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"payees": st.lists(st.sampled_from(MERCHANTS), min_size=1, max_size=2)}),
    st.fixed_dictionaries({"mccs": st.lists(st.sampled_from(MCCS), min_size=1, max_size=2)}),
    st.fixed_dictionaries({"payees": st.just(list(MERCHANTS[:2])), "mccs": st.lists(st.sampled_from(MCCS), min_size=1)}),
    st.fixed_dictionaries({"items": st.lists(st.sampled_from(GOODS), min_size=1, max_size=2)}),
    st.fixed_dictionaries({"methods": st.lists(st.sampled_from(METHODS), min_size=1, max_size=2)}),
    st.fixed_dictionaries({"terminals": st.lists(st.sampled_from(TERMINALS), min_size=1, max_size=2)}),
)
COMMON = ("per_payment", "day", "day", "week", "month", "trailing")
RARE = ("half_year", "year", "lifetime", "fortnight", "week@7", "consent")


@st.composite
def limits(draw: st.DrawFn) -> dict[str, Any]:
    """A limit that small payments may or may not hit."""
    window = draw(st.sampled_from(COMMON * 4 + RARE))
    known: dict[str, Any] = {"window": window, "filter": draw(filters)}
    if window == "trailing":
        known["trailing_s"] = draw(st.sampled_from((3600, 86_400, 7 * 86_400)))
    elif window == "week@7":
        known |= {"window": "week", "week_start": 7}
    elif window in ("consent", "fortnight"):
        lengths = ("fortnight",) if window == "fortnight" else ("day", "week", "month", "half_year", "year")
        known |= {"window": draw(st.sampled_from(lengths)), "alignment": "consent"}
    if window == "per_payment":
        least = draw(st.one_of(st.none(), st.integers(1, 12)))
        most = draw(st.integers(least or 5, 40)) if least is None or draw(st.booleans()) else None
        return {**known, "metric": "amount", "at_most": most, "at_least": least}
    if draw(st.integers(0, 3)) == 0:
        known["refunds"] = "keep"
    if draw(st.integers(0, 2)) == 0:
        return {**known, "metric": "count", "at_most": draw(st.integers(0, 5))}
    if window in ("day", "week", "month", "half_year", "year", "week@7") and draw(st.integers(0, 3)) == 0:
        known["proration"] = "first_period"
    return {**known, "metric": "amount", "at_most": draw(st.integers(0, 90))}


CLOCKS = ("00:00", "00:30", "01:30", "01:40", "02:00", "02:10", "02:30", "06:30", "18:30", "23:30")


@st.composite
def openings(draw: st.DrawFn) -> dict[str, Any]:
    """A part of some days."""
    opens = draw(st.sampled_from(CLOCKS))
    closes = draw(st.sampled_from([clock for clock in (*CLOCKS, "24:00") if clock > opens]))
    days = draw(st.one_of(st.just([1, 2, 3, 4, 5, 6, 7]), st.lists(st.integers(1, 7), min_size=1, max_size=4)))
    return {"opens": opens, "closes": closes, "weekdays": days}


def _one_of_two(values: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    lists = st.lists(st.sampled_from(values), max_size=3)
    return st.one_of(st.fixed_dictionaries({"allow": lists}), st.fixed_dictionaries({"deny": lists}))


days = st.dates(date(2024, 12, 25), date(2026, 9, 1)).map(date.isoformat)
calendars = st.fixed_dictionaries(
    {
        "weekdays": st.sampled_from(([1, 2, 3, 4, 5], [6, 7], [1, 3])),
        "semesters": st.one_of(
            st.just([]), st.lists(st.tuples(days, days).map(lambda two: {"first": min(two), "last": max(two)}), max_size=2)
        ),
        "off": st.lists(days, max_size=3),
        "on": st.lists(days, max_size=2),
    }
)
hours = st.fixed_dictionaries(
    {"kind": st.just("hours"), "open": st.lists(openings(), min_size=1, max_size=2)},
    optional={"calendar": calendars},
)
some_days = st.fixed_dictionaries({}, optional={"days": st.sampled_from(("school", "other"))})
school_hours = st.fixed_dictionaries(
    {
        "kind": st.just("hours"),
        "open": st.lists(st.builds(dict.__or__, openings(), some_days), min_size=1, max_size=3),
        "calendar": calendars,
        "days": st.sampled_from(("school", "other")),
    }
)
conditions = st.one_of(
    _one_of_two(MERCHANTS).map(lambda lists: {"kind": "payees", **lists}),
    _one_of_two(MCCS).map(lambda lists: {"kind": "mccs", **lists}),
    _one_of_two(GOODS).map(lambda lists: {"kind": "items", **lists}),
    _one_of_two(METHODS).map(lambda lists: {"kind": "methods", **lists}),
    _one_of_two(TERMINALS).map(lambda lists: {"kind": "terminals", **lists}),
    st.lists(openings(), min_size=1, max_size=2).map(lambda found: {"kind": "hours", "open": found}),
    st.lists(openings(), min_size=1, max_size=2).map(lambda found: {"kind": "hours", "open": found}),
    hours,
    school_hours,
)


def terms(max_limits: int = 4) -> st.SearchStrategy[dict[str, Any]]:
    """Canonical terms."""
    few = st.one_of(st.just([]), st.lists(conditions, max_size=2))
    parts = {"currency": st.just("CNY"), "limits": st.lists(limits(), max_size=max_limits), "conditions": few}
    rarely = st.integers(0, 9).flatmap(lambda number: validity if number == 0 else st.just({}))
    written = st.tuples(st.fixed_dictionaries(parts), rarely).map(lambda two: {**two[0], **two[1]})
    return written.map(lambda every: Terms.kept(every).canonical())


validity = st.one_of(
    days.map(lambda day: {"valid_from": day}),
    days.map(lambda day: {"valid_to": day}),
    st.tuples(days, days).map(lambda two: {"valid_from": min(two), "valid_to": max(two)}),
)


@st.composite
def moments(draw: st.DrawFn, zone: str) -> datetime:
    """An instant, most often near a jump of the clock or the end of a month or year."""
    ends = [datetime(2026, month, 1, tzinfo=UTC) for month in (1, 3, 4, 8)] + [datetime(2025, 1, 1, tzinfo=UTC)]
    near = draw(st.sampled_from([*jumps(zone)[2:6], *ends]))
    seconds = draw(st.one_of(st.integers(-7200, 7200), st.integers(-2 * 86400, 2 * 86400), st.sampled_from((-1, 0, 1))))
    return near + timedelta(seconds=seconds)


@st.composite
def orders(draw: st.DrawFn, *, spender: str | None = None) -> Asked:
    """A small payment."""
    who = spender or draw(st.sampled_from(SPENDERS))
    card = draw(st.sampled_from((None, CARD, CARD)))
    lines = draw(
        st.one_of(st.just([]), st.lists(st.tuples(st.sampled_from(GOODS), st.integers(1, 20)), min_size=1, max_size=3))
    )
    return Asked(
        sum(amount for _, amount in lines) if lines else draw(st.integers(1, 40)),
        "CNY",
        draw(st.sampled_from(MERCHANTS)),
        draw(st.sampled_from(MCCS)),
        who,
        card,
        draw(st.sampled_from(METHODS)),
        draw(st.sampled_from(TERMINALS)),
        tuple(lines),
    )


@st.composite
def mandates(draw: st.DrawFn, number: int, spender: str, payer: str) -> Allowed:
    """A mandate that is most often active."""
    state = draw(st.sampled_from(("active",) * 12 + ("paused", "suspended", "pending")))
    agreements = [
        Funding(
            id=f"{number:016x}{place:016x}",
            active=draw(st.integers(0, 5)) > 0,
            currency="CNY" if draw(st.integers(0, 9)) > 0 else "USD",
            per_debit=draw(st.sampled_from((None, None, 15, 30))),
        )
        for place in range(draw(st.integers(1, 3)))
    ]
    arrears = draw(st.integers(0, 15)) == 15
    return Allowed(f"{number:032x}", payer, spender, state, arrears, draw(terms()), agreements)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[World, datetime]:
    """A circle with its past, and now."""
    zone = draw(st.sampled_from(ZONES))
    now = draw(moments(zone))
    pairs = [(SPENDERS[0], PAYERS[0]), (SPENDERS[1], PAYERS[0])]
    if draw(st.booleans()):
        pairs.insert(draw(st.integers(0, 1)), (SPENDERS[0], PAYERS[1]))
    allowed = [draw(mandates(0x100 + number, *pair)) for number, pair in enumerate(pairs)]
    members = st.sampled_from((None, frozenset(SPENDERS[:1]), frozenset(SPENDERS)))
    pools = [
        Shared(f"{0x900 + number:032x}", PAYERS[0], draw(members), draw(terms(2))) for number in range(draw(st.integers(0, 2)))
    ]
    card = Card(CARD, draw(st.integers(0, 15)) > 0, draw(st.one_of(st.none(), terms(2))))
    past = []
    for _ in range(draw(st.integers(0, 8))):
        mandate = draw(st.sampled_from(allowed))
        ago = draw(st.one_of(st.integers(0, 86400), st.integers(0, 8 * 86400), st.integers(0, 40 * 86400)))
        asked = draw(orders(spender=mandate.spender))
        refunded = draw(st.integers(0, asked.amount)) if draw(st.integers(0, 4)) == 0 else 0
        past.append(Made(asked, now - timedelta(seconds=ago), mandate.id, mandate.payer, refunded))
    if draw(st.integers(0, 3)) == 0:
        until = now + timedelta(seconds=draw(st.sampled_from((-1, 0, 1, 3600, 86_400, 5 * 86_400))))
        allowed[0] = replace(allowed[0], cooling=[(draw(terms(2)), until)])
    since = draw(st.integers(0, 60))
    for number, mandate in enumerate(allowed):
        if any(limit.get("proration") for limit in mandate.terms["limits"]) and draw(st.booleans()):
            # What is prorated from a day of its own, between the consent and now.
            begins = (now - timedelta(days=draw(st.integers(0, since)))).date().isoformat()
            allowed[number] = replace(mandate, terms={**mandate.terms, "valid_from": begins})
    world = World(
        zone,
        anchor=(now - timedelta(days=since)).date(),
        frozen=draw(st.integers(0, 20)) == 20,
        spender_active={SPENDERS[0]: draw(st.integers(0, 20)) > 0, SPENDERS[1]: True},
        mandates=allowed,
        pools=pools,
        cards=[card],
        history=past,
    )
    return world, now


class Compiled:
    """A world as `decide` wants it: a standing and the usage that its history makes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.counters: dict[str, tuple[Bound, Mapping[str, Any]]] = {}
        self.names: dict[str, dict[tuple[str, str, str], str]] = defaultdict(dict)
        self.usage: dict[CounterKey, Used] = defaultdict(Used)
        self.standing = self._standing()
        for counter_id, (bound, limit) in self.counters.items():
            self._count(counter_id, bound, limit)

    def _count(self, counter_id: str, bound: Bound, limit: Mapping[str, Any]) -> None:
        world, selected, over = self.world, limit["filter"], per(limit, self.world.anchor)
        trail: list[tuple[datetime, int, int]] = []
        for made in sorted(world.history, key=lambda made: made.at):
            if not world.counted(bound.scope, bound.id, made) or not selects(selected, made.asked):
                continue
            amount = part(selected, made.asked, made.asked.amount - (0 if limit.get("refunds") == "keep" else made.refunded))
            if over.window == "trailing":
                trail.append((made.at, amount, 1))
                continue
            used = self.usage[counter_id, window_of(made.at, over, world.zone)[0]]
            used.amount_minor += amount
            used.count += 1
        if over.window == "trailing":
            self.usage[counter_id, TRAIL] = Trail(made=trail)

    def _bounds(
        self, scope: Scope, scope_id: str, written: Mapping[str, Any] | None, *, until: datetime | None = None
    ) -> Bounds:
        written = written if written is not None else {"limits": [], "conditions": []}
        mapped = self.names[scope_id]
        for limit in [*written["limits"], UNNEEDED]:
            period = period_of(limit, self.world.anchor)
            if period is None:
                continue
            key = (period, filter_name(limit["filter"]), refunds_of(limit))
            if key not in mapped:
                mapped[key] = f"{len(self.counters) + 0xC000:032x}"
                self.counters[mapped[key]] = (Bound(scope.value, scope_id, {}), limit)
        counters = {key: (ident, chosen(self.counters[ident][1]["filter"])) for key, ident in mapped.items()}
        return bounds_of(
            written, scope=scope, counters=counters, anchor=self.world.anchor, time_zone=self.world.zone, until=until
        )

    def _standing(self) -> CircleStanding:
        world = self.world
        pools = {pool.id: self._bounds(Scope.POOL, pool.id, pool.terms) for pool in world.pools}
        by_spender: dict[str, list[MandateStanding]] = defaultdict(list)
        for mandate in world.mandates:
            covering = [
                p.id for p in world.pools if p.payer == mandate.payer and (not p.spenders or mandate.spender in p.spenders)
            ]
            agreements = tuple(
                AgreementStanding(
                    id=a.id, provider_account_id="e" * 32, active=a.active, currency=a.currency, per_debit_minor=a.per_debit
                )
                for a in mandate.agreements
            )
            # What cools is counted with the mandate's own: its counters are there before those are listed.
            cooling = tuple(self._bounds(Scope.MANDATE, mandate.id, cool, until=until) for cool, until in mandate.cooling)
            standing = MandateStanding(
                id=mandate.id,
                version=1,
                payer_id=mandate.payer,
                state=mandate.state,
                in_arrears=mandate.arrears,
                currency=mandate.terms["currency"],
                bounds=self._bounds(Scope.MANDATE, mandate.id, mandate.terms),
                cooling=cooling,
                pools=tuple(pools[pool_id] for pool_id in covering),
                agreements=agreements,
            )
            by_spender[mandate.spender].append(standing)
        return CircleStanding(
            id="c1" * 16,
            operator_id="0e" * 16,
            version=1,
            time_zone=world.zone,
            active=not world.frozen,
            spenders={
                spender: SpenderStanding(spender, active, world.pending, tuple(by_spender[spender]))
                for spender, active in world.spender_active.items()
            },
            credentials={
                card.id: CredentialStanding(
                    id=card.id,
                    kind="card",
                    active=card.active,
                    bounds=self._bounds(Scope.CREDENTIAL, card.id, card.terms),
                    currency=card.terms["currency"] if card.terms else None,
                )
                for card in world.cards
            },
        )

    def uses(self, asked: Asked, mandate: Allowed, at: datetime) -> set[tuple[str, datetime, datetime]]:
        """The windows that an approval uses: of every counter of every scope it falls under."""
        made = Made(asked, at, mandate.id, mandate.payer)
        return {
            (counter_id, *window_of(at, per(limit, self.world.anchor), self.world.zone))
            for counter_id, (bound, limit) in self.counters.items()
            if self.world.counted(bound.scope, bound.id, made) and selects(limit["filter"], asked)
        }


def order_of(asked: Asked) -> Order:
    """The same payment in `decide`'s words."""
    items = tuple(Item(code, amount) for code, amount in asked.items)
    who = (asked.spender, asked.card, asked.method, asked.terminal)
    return Order(asked.amount, asked.currency, asked.merchant, asked.mcc, *who, items)
