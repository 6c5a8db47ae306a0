"""What `decide` looks at: a circle's people, mandates, limits and agreements, compiled once per version of the circle.

Everything here is immutable and holds no usage: usage is handed to `decide` apart, as a mapping.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from enum import StrEnum
from functools import cached_property
from typing import Any

import msgspec

from kinpay.primitives.clock import Span, Window, window_around, zone

CounterKey = tuple[str, datetime]
"""(counter id, start of the window)."""


class Used(msgspec.Struct, gc=False):
    """What a window has used so far, carried amounts included. The one mutable thing: a batch adds to it as it decides."""

    amount_minor: int = 0
    count: int = 0


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

    def fits(self, merchant_id: str, mcc: str) -> bool:
        """Whether a payment to that merchant, of that category, is selected."""
        return (self.payees is None or merchant_id in self.payees) and (self.mccs is None or mcc in self.mccs)


def chosen(canonical: Mapping[str, Sequence[str]]) -> Chosen | None:
    """Compiles a canonical filter; None if everything fits it."""
    payees, mccs = canonical.get("payees"), canonical.get("mccs")
    if not payees and not mccs:
        return None
    return Chosen(frozenset(payees) if payees else None, frozenset(mccs) if mccs else None)


@dataclass(frozen=True, slots=True)
class Ceiling:
    """A compiled limit. `window` None means per payment; then nothing is counted, and `counter_id` is empty."""

    scope: Scope
    counts: bool
    window: Window | None
    at_most: int | None
    at_least: int | None
    filter: Chosen | None
    counter_id: str


@dataclass(frozen=True, slots=True)
class Counter:
    """Something counted, whether or not a limit needs it now."""

    id: str
    window: Window
    filter: Chosen | None


@dataclass(frozen=True, slots=True)
class Opening:
    """A compiled opening: `[opens, closes)` on weekdays 1-7; `closes` None means until midnight."""

    opens: time
    closes: time | None
    weekdays: frozenset[int]


@dataclass(frozen=True, slots=True)
class Conditions:
    """Compiled conditions: sets of (allowed?, values), and openings per hours condition."""

    payees: tuple[tuple[bool, frozenset[str]], ...] = ()
    mccs: tuple[tuple[bool, frozenset[str]], ...] = ()
    hours: tuple[tuple[Opening, ...], ...] = ()


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
    """Ceilings, conditions and counters of one scope (a mandate, a pool, a card)."""

    ceilings: tuple[Ceiling, ...] = ()
    counters: tuple[Counter, ...] = ()
    conditions: Conditions = Conditions()


@dataclass(frozen=True, slots=True)
class MandateStanding:
    """A mandate with all that binds it: its own bounds and the payer's pools over this spender."""

    id: str
    version: int
    payer_id: str
    state: str
    in_arrears: bool
    currency: str
    bounds: Bounds
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


class Moment:
    """`now` on the circle's wall: computed once for all orders of a batch."""

    def __init__(self, now: datetime, time_zone: str) -> None:
        self.now = now
        self.time_zone = time_zone

    @cached_property
    def local(self) -> datetime:
        """The wall clock's reading."""
        return self.now.astimezone(zone(self.time_zone))

    @property
    def day(self) -> date:
        """The wall calendar's date."""
        return self.local.date()

    @cached_property
    def spans(self) -> dict[Window, Span]:
        """The day, week and month around now."""
        return {window: window_around(self.now, window, self.time_zone) for window in Window}

    @cached_property
    def starts(self) -> dict[Window, datetime]:
        """Where those begin: how usage is named."""
        return {window: span.start for window, span in self.spans.items()}


CounterMap = Mapping[tuple[str, str], tuple[str, Chosen | None]]
"""(period, filter's canonical JSON) → (counter id, compiled filter)."""


def bounds_of(terms: Mapping[str, Any], *, scope: Scope, counters: CounterMap) -> Bounds:
    """Compiles canonical terms."""
    ceilings = []
    for limit in terms.get("limits", ()):
        window = None if limit["window"] == "per_payment" else Window(limit["window"])
        counter_id = counters[(limit["window"], filter_name(limit.get("filter", {})))][0] if window else ""
        ceilings.append(
            Ceiling(
                scope,
                limit["metric"] == "count",
                window,
                limit.get("at_most"),
                limit.get("at_least"),
                chosen(limit.get("filter", {})),
                counter_id,
            )
        )
    counted = tuple(Counter(ident, Window(period), fil) for (period, _), (ident, fil) in counters.items())
    return Bounds(tuple(ceilings), counted, _conditions(terms.get("conditions", ())))


def filter_name(canonical: Mapping[str, Sequence[str]]) -> str:
    """A comparable name for a canonical filter."""
    return repr([(name, sorted(set(values))) for name, values in sorted(canonical.items()) if values])


def _conditions(written: Sequence[Mapping[str, Any]]) -> Conditions:
    payees: list[tuple[bool, frozenset[str]]] = []
    mccs: list[tuple[bool, frozenset[str]]] = []
    hours: list[tuple[Opening, ...]] = []
    for condition in written:
        if condition["kind"] == "hours":
            hours.append(tuple(_opening(item) for item in condition["open"]))
            continue
        allowed = condition.get("allow")
        pair = (allowed is not None, frozenset(allowed if allowed is not None else condition["deny"]))
        (payees if condition["kind"] == "payees" else mccs).append(pair)
    return Conditions(tuple(payees), tuple(mccs), tuple(hours))


def _opening(written: Mapping[str, Any]) -> Opening:
    closes = None if written["closes"] == "24:00" else time.fromisoformat(written["closes"])
    return Opening(time.fromisoformat(written["opens"]), closes, frozenset(written["weekdays"]))
