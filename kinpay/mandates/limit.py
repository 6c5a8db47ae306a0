"""A limit: a ceiling (or, per payment, also a floor) over the payments that its filter selects.

Source: semantics.md "Limits"; product.md §4 (limit grammar); [0024] (amount per payment, per day, number of payments).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Annotated, Any, Final, Literal, Self

import msgspec
from pydantic import Field, model_validator

from kinpay.primitives.fields import LATEST, Amount, Closed, Id, ItemCode, Mcc
from kinpay.primitives.period import Period, Unit, days_around

TRAILING_S_MAX: Final = 31 * 86400
"""The longest trailing window: each payment in it is a row to be read by every charge."""

Method = Literal["pay_code", "card", "payment_code", "face"]
"""How a spender may have identified themselves: see `charges.charge.Method`."""
Weekday = Annotated[int, Field(strict=True, ge=1, le=7)]
"""1 Monday … 7 Sunday."""

SILENT: Final[Mapping[str, object]] = {"alignment": "calendar", "week_start": 1, "proration": "none", "refunds": "restore"}
"""What a limit says by saying nothing: left out of the canonical form."""

_CALENDAR: Final = frozenset({"day", "week", "month", "half_year", "year"})
_FROM_CONSENT: Final = _CALENDAR | {"fortnight"}


class Filter(Closed):
    """Which payments a limit is about: all named things must fit; nothing named means every payment.

    Of a payment whose items are told, a filter by items selects just their amounts; of another one, the whole of it.
    """

    payees: list[Id] | None = Field(default=None, min_length=1, max_length=100)
    mccs: list[Mcc] | None = Field(default=None, min_length=1, max_length=100)
    items: list[ItemCode] | None = Field(default=None, min_length=1, max_length=100)
    methods: list[Method] | None = Field(default=None, min_length=1, max_length=4)
    terminals: list[Id] | None = Field(default=None, min_length=1, max_length=100)

    def canonical(self) -> dict[str, Any]:
        """The filter with its lists sorted and its silence left out; `{}` selects everything."""
        chosen: dict[str, list[str] | None] = self.model_dump()
        return {name: sorted(set(values)) for name, values in chosen.items() if values}


class Limit(Closed):
    """One ceiling (or, per payment, also a floor). Amounts in minor units of the terms' currency, counts in payments.

    `window` trailing: the last `trailing_s` seconds, exactly. `alignment` consent: windows are counted from the day of the
    consent; `week_start`: a calendar week's first day. `proration` first_period: the calendar period in which the consent was
    given, or begins to be valid, gets its part by days, rounded down. `refunds` keep: money given back still counts.
    """

    metric: Literal["amount", "count"]
    window: Literal["per_payment", "trailing", "day", "week", "fortnight", "month", "half_year", "year", "lifetime"]
    trailing_s: Annotated[int, Field(strict=True, ge=10, le=TRAILING_S_MAX)] | None = None
    alignment: Literal["calendar", "consent"] = "calendar"
    week_start: Weekday = 1
    at_most: Annotated[int, Field(strict=True, ge=0, le=2**53 - 1)] | None = None
    at_least: Amount | None = None
    proration: Literal["none", "first_period"] = "none"
    refunds: Literal["restore", "keep"] = "restore"
    filter: Filter = Filter()

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.at_most is None and self.at_least is None:
            raise ValueError("a limit needs at_most or at_least")
        if self.at_least is not None and (self.metric, self.window) != ("amount", "per_payment"):
            raise ValueError("at_least is for the amount per payment only")
        if self.metric == "count" and self.window == "per_payment":
            raise ValueError("a count needs a window")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError("at_least is above at_most")
        return self

    @model_validator(mode="after")
    def _fits_its_window(self) -> Self:
        if (self.window == "trailing") != (self.trailing_s is not None):
            raise ValueError("a trailing window, and no other, needs trailing_s")
        if self.alignment == "consent" and self.window not in _FROM_CONSENT:
            raise ValueError("only a period of days, weeks, months or years is counted from the consent")
        if self.alignment == "calendar" and self.window == "fortnight":
            raise ValueError("a fortnight is counted from the consent only")
        if self.week_start != 1 and (self.window, self.alignment) != ("week", "calendar"):
            raise ValueError("week_start is for calendar weeks only")
        prorated = self.proration == "first_period"
        if prorated and (self.window not in _CALENDAR or self.alignment != "calendar" or self.metric != "amount"):
            raise ValueError("only an amount per calendar period can be prorated")
        if self.refunds == "keep" and self.window == "per_payment":
            raise ValueError("a payment by itself has no refunds to count")
        return self


def period_of(limit: Mapping[str, Any], anchor: date | None) -> str | None:
    """The name of the period over which a canonical limit counts, `anchor` being the day of the consent; None per payment.

    Without an anchor nothing can be counted from one. Raises: ValueError then.
    """
    window = limit["window"]
    if window == "per_payment":
        return None
    if window == "trailing":
        return Period(Unit.TRAILING, trailing=timedelta(seconds=limit["trailing_s"])).name
    if limit.get("alignment") == "consent":
        if anchor is None:
            raise ValueError("no day of consent")
        return Period(Unit(window), anchor=anchor).name
    return Period(Unit(window), week_start=limit.get("week_start", 1)).name


def begins(anchor: date, valid_from: str | None) -> date:
    """The first day that a prorated limit is about: that of the consent, or the first one of validity if it is later."""
    return anchor if valid_from is None else max(anchor, min(date.fromisoformat(valid_from), LATEST))


def prorated(at_most: int, start: date, period: Period) -> int:
    """The part of a calendar period's amount for its days from `start` on, rounded down: nobody gets more than their part."""
    first, after = days_around(start, period)
    return at_most * (after - start).days // (after - first).days


def allowed_around(limit: Limit, day: date, start: date) -> int:
    """What a limit allows in its window around `day`: if it is prorated, less in the period of `start`, its first day."""
    most = limit.at_most or 0
    if limit.proration == "none":
        return most
    period = Period(Unit(limit.window), week_start=limit.week_start)
    begun = days_around(day, period) == days_around(start, period)
    return prorated(most, start, period) if begun else most


def refunds_of(limit: Mapping[str, Any]) -> str:
    """What refunds do to a canonical limit: `restore` or `keep`."""
    return str(limit.get("refunds", SILENT["refunds"]))


def filter_hash(canonical_filter: Mapping[str, Any]) -> bytes:
    """Names a counter's filter; the empty filter has one, too."""
    return hashlib.sha256(msgspec.json.encode(canonical_filter, order="sorted")).digest()
