"""What `decide` looks at: a circle's people, mandates, limits and agreements, compiled once per version of the circle.

Everything here is immutable and holds no usage: usage is handed to `decide` apart, as a mapping.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Final

import msgspec

from kinpay.charges.hours import Hours
from kinpay.charges.order import Order
from kinpay.primitives.clock import Span, zone
from kinpay.primitives.period import Period, window_around

CounterKey = tuple[str, datetime]
"""(counter id, start of the window); of a trailing period, whose uses are not summed by windows, (counter id, TRAIL)."""

TRAIL: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Stands for the start of a window where there are none."""


class Used(msgspec.Struct, gc=False):
    """What a window has used so far, carried amounts included. The one mutable thing: a batch adds to it as it decides."""

    amount_minor: int = 0
    count: int = 0


class Trail(Used):
    """The uses of a trailing period one by one, oldest first: (when, minor units, payments). As a sum it says nothing."""

    made: list[tuple[datetime, int, int]] = []

    def since(self, moment: datetime) -> Used:
        """What was used after `moment`."""
        recent = [(amount, count) for at, amount, count in self.made if at > moment]
        return Used(sum(amount for amount, _ in recent), sum(count for _, count in recent))


Usage = Mapping[CounterKey, Used]


class Scope(StrEnum):
    """Whose ceiling it is."""

    MANDATE = "mandate"
    POOL = "pool"
    CREDENTIAL = "credential"


@dataclass(frozen=True, slots=True)
class Chosen:
    """A compiled filter. None: every value fits. Where nothing at all is filtered out there is no filter, but None."""

    payees: frozenset[str] | None = None
    mccs: frozenset[str] | None = None
    methods: frozenset[str] | None = None
    terminals: frozenset[str] | None = None
    items: frozenset[str] | None = None

    def part_of(self, order: Order) -> int:
        """How much of the order is selected, in minor units; 0 if nothing is.

        By items: what those items cost, if the till tells its items; never more than the order, which may have been cut.
        """
        if (
            (self.payees is not None and order.merchant_id not in self.payees)
            or (self.mccs is not None and order.mcc not in self.mccs)
            or (self.methods is not None and order.method not in self.methods)
            or (self.terminals is not None and order.terminal_id not in self.terminals)
        ):
            return 0
        if self.items is None or not order.items:
            return order.amount_minor
        return min(order.amount_minor, sum(item.amount_minor for item in order.items if item.code in self.items))


@dataclass(frozen=True, slots=True)
class Ceiling:
    """A compiled limit. `period` None means per payment; then nothing is counted, and `counter_id` is empty.

    `first`: the start of the first period, and what is allowed in that one, if the limit is prorated.
    """

    scope: Scope
    counts: bool
    period: Period | None
    at_most: int | None
    at_least: int | None
    filter: Chosen | None
    counter_id: str
    window: str = ""
    first: tuple[datetime, int] | None = None

    def used(self, usage: Usage, moment: Moment) -> Used:
        """What was used of it, as of `moment`."""
        if self.period is not None and self.period.trailing is not None:
            trail = usage.get((self.counter_id, TRAIL))
            return trail.since(moment.now - self.period.trailing) if isinstance(trail, Trail) else _NOTHING
        return usage.get((self.counter_id, moment.starts[self.window]), _NOTHING)

    def most(self, moment: Moment) -> int:
        """What it allows in the window around `moment`."""
        if self.first is not None and moment.starts[self.window] == self.first[0]:
            return self.first[1]
        return self.at_most or 0


_NOTHING: Final = Used()


@dataclass(frozen=True, slots=True)
class Counter:
    """Something counted, whether or not a limit needs it now. `window` is the name of its period."""

    id: str
    window: str
    filter: Chosen | None
    trailing: timedelta | None = None

    def part_of(self, order: Order) -> int:
        """How much of the order it counts; 0 if the order is none of its."""
        return order.amount_minor if self.filter is None else self.filter.part_of(order)

    def key(self, moment: Moment) -> CounterKey:
        """Under which usage is looked up."""
        return (self.id, moment.starts[self.window] if self.trailing is None else TRAIL)


Allowed = tuple[bool, frozenset[str]]
"""(only these?, values): otherwise all but these."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """Compiled conditions, several of a kind all binding."""

    payees: tuple[Allowed, ...] = ()
    mccs: tuple[Allowed, ...] = ()
    items: tuple[Allowed, ...] = ()
    methods: tuple[Allowed, ...] = ()
    terminals: tuple[Allowed, ...] = ()
    hours: tuple[Hours, ...] = ()
    valid_from: datetime | None = None
    valid_until: datetime | None = None


NO_CONDITIONS: Final = Conditions()


@dataclass(frozen=True, slots=True)
class AgreementStanding:
    """An agreement in a mandate's funding."""

    id: str
    provider_account_id: str
    active: bool
    currency: str
    per_debit_minor: int | None


@dataclass(frozen=True, slots=True)
class Bounds:
    """Ceilings, conditions and counters of one scope (a mandate, a pool, a card).

    `until`: the end of the cooling time that they are of, from which they bind no more.
    """

    scope: Scope
    ceilings: tuple[Ceiling, ...] = ()
    counters: tuple[Counter, ...] = ()
    conditions: Conditions = NO_CONDITIONS
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class MandateStanding:
    """A mandate with all that binds it: its own bounds, what binds while it cools, the payer's pools over this spender."""

    id: str
    version: int
    payer_id: str
    state: str
    in_arrears: bool
    currency: str
    bounds: Bounds
    cooling: tuple[Bounds, ...]
    pools: tuple[Bounds, ...]
    agreements: tuple[AgreementStanding, ...]


@dataclass(frozen=True, slots=True)
class CredentialStanding:
    """What the spender presented."""

    id: str
    kind: str
    active: bool
    bounds: Bounds
    currency: str | None


@dataclass(frozen=True, slots=True)
class SpenderStanding:
    """A spender in a circle: whether they may spend, and on whom, in the order to try."""

    id: str
    active: bool
    pending_registration: bool
    mandates: tuple[MandateStanding, ...]


@dataclass(frozen=True, slots=True)
class CircleStanding:
    """A circle as of one version of its row."""

    id: str
    operator_id: str
    version: int
    time_zone: str
    active: bool
    spenders: Mapping[str, SpenderStanding]
    credentials: Mapping[str, CredentialStanding]

    def counting(self, spender_id: str, credential_id: str | None) -> Iterator[Bounds]:
        """Everything by which an order of the spender with that credential may be counted, a pool once per mandate."""
        spender = self.spenders.get(spender_id)
        for mandate in spender.mandates if spender else ():
            yield mandate.bounds
            yield from mandate.pools
        credential = self.credentials.get(credential_id or "")
        if credential is not None:
            yield credential.bounds


class Moment:
    """`now` on the circle's wall: computed once for all orders of a batch."""

    def __init__(self, now: datetime, time_zone: str) -> None:
        self.now = now
        self.time_zone = time_zone

    @cached_property
    def local(self) -> datetime:
        """The wall clock's reading."""
        return self.now.astimezone(zone(self.time_zone))

    @cached_property
    def spans(self) -> _Spans:
        """The windows around now, by the names of their periods."""
        return _Spans(self.now, self.time_zone)

    @cached_property
    def starts(self) -> _Starts:
        """Where those begin: how usage is named."""
        return _Starts(self.spans)


class _Spans(dict[str, Span]):
    """Computed as they are asked for: a circle has a few periods of the many there are."""

    def __init__(self, now: datetime, time_zone: str) -> None:
        self._now = now
        self._time_zone = time_zone

    def __missing__(self, period: str) -> Span:
        span = self[period] = window_around(self._now, period, self._time_zone)
        return span


class _Starts(dict[str, datetime]):
    def __init__(self, spans: _Spans) -> None:
        self._spans = spans

    def __missing__(self, period: str) -> datetime:
        start = self[period] = self._spans[period].start
        return start
