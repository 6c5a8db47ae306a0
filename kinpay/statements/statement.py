"""A statement: what a calendar month of a circle came to, by day, spender, payer, merchant and category. Pure.

Gross is what payers were really debited for charges of the month; refunded is what of it went back, or is on its way; net is
the rest. Every grouping comes from the same rows, so that all of them add up to the same totals. A refund counts in the month
of its charge, whenever it happens: closing a month for good is a later issue.
Source: [0004]; product.md S1 (two-day statement).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from kinpay.primitives.clock import Span, start_of_day
from kinpay.primitives.errors import Invalid

_MONTH: Final = re.compile(r"(20[0-9]{2})-(0[1-9]|1[0-2])")


def read_month(text: str) -> date:
    """The first day of the month written `YYYY-MM`. Raises: Invalid for anything else, and outside this century."""
    found = _MONTH.fullmatch(text)
    if found is None:
        raise Invalid("month_malformed", field="month")
    return date(int(found.group(1)), int(found.group(2)), 1)


def following(month: date) -> date:
    """The first day of the month after."""
    return (month.replace(day=1) + timedelta(days=32)).replace(day=1)


@dataclass(frozen=True, slots=True)
class Era:
    """From `since` on, the circle's wall clock followed `time_zone`."""

    since: datetime
    time_zone: str


def first_instant(day: date, eras: Sequence[Era]) -> datetime:
    """When the circle's wall first showed `day` or a later one, through every change of its zone.

    `eras` are in order of time and not empty; the first holds for all time before it, too. Days that are defined so follow
    each other without a gap or an overlap: a day that a change of zone skips is empty.
    """
    for place, era in enumerate(eras):
        start = start_of_day(day, era.time_zone)
        moment = start if place == 0 else max(start, era.since)
        if place + 1 == len(eras) or moment < eras[place + 1].since:
            return moment
    raise ValueError("no era")


def day_starts(month: date, eras: Sequence[Era]) -> list[datetime]:
    """The first instant of every day of the month, and last that of the next month."""
    days = (following(month) - month).days
    return [first_instant(month + timedelta(days=number), eras) for number in range(days + 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """Charges of one day, spender, payer, merchant and category taken together. Amounts in minor units of `currency`.

    `charges`: how many charges begin here (one that was debited from two payers counts with the first); `debits`: how many
    parts of debits there are.
    """

    currency: str
    day: date
    spender_id: str
    payer_id: str
    merchant_id: str
    mcc: str
    charges: int
    debits: int
    gross_minor: int
    refunded_minor: int


@dataclass(frozen=True, slots=True)
class Tally:
    """So many, and their sum in minor units."""

    count: int = 0
    amount_minor: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpaid:
    """What was asked in a currency but not (or not yet) debited."""

    currency: str
    refused: Tally
    """Refused by a limit or condition."""
    declined: Tally
    """Refused by the provider, before anything was handed over."""
    owed: Tally
    """Arrears: handed over, and still not paid."""
    pending: Tally
    """Held, or at the provider: the month may still grow by this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row of a grouping. `key`: a person's or merchant's id, a category code or a date.

    `count`: how many charges; for payers, how many debits.
    """

    key: str
    name: str
    count: int
    gross_minor: int
    refunded_minor: int

    @property
    def net_minor(self) -> int:
        """What it cost in the end."""
        return self.gross_minor - self.refunded_minor


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The month in one currency: `total`, and the same money five times over, each time grouped by something else."""

    currency: str
    total: Line
    by_day: tuple[Line, ...]
    by_spender: tuple[Line, ...]
    by_payer: tuple[Line, ...]
    by_merchant: tuple[Line, ...]
    by_category: tuple[Line, ...]
    unpaid: Unpaid


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a month came to. `span` is the month in UTC instants; `spender_id`: if not None, only what this one spent."""

    circle_id: str
    circle_name: str
    month: str
    time_zone: str
    span: Span
    spender_id: str | None
    parts: tuple[Part, ...]


_NOTHING: Final = Tally()


def parts_of(paid: Sequence[Paid], unpaid: Iterable[Unpaid], *, names: Mapping[str, str]) -> tuple[Part, ...]:
    """One part a currency, in the order of their codes; `names` of people and merchants by id."""
    left = {one.currency: one for one in unpaid}
    parts = []
    for currency in sorted({row.currency for row in paid} | set(left)):
        rows = [row for row in paid if row.currency == currency]
        nothing = Unpaid(currency=currency, refused=_NOTHING, declined=_NOTHING, owed=_NOTHING, pending=_NOTHING)
        parts.append(
            Part(
                currency=currency,
                total=_line("", rows, {}),
                by_day=_group(rows, lambda row: row.day.isoformat(), names, by_key=True),
                by_spender=_group(rows, lambda row: row.spender_id, names),
                by_payer=_group(rows, lambda row: row.payer_id, names, of_debits=True),
                by_merchant=_group(rows, lambda row: row.merchant_id, names),
                by_category=_group(rows, lambda row: row.mcc, names),
                unpaid=left.get(currency, nothing),
            )
        )
    return tuple(parts)


def _group(
    rows: Sequence[Paid],
    key_of: Callable[[Paid], str],
    names: Mapping[str, str],
    *,
    by_key: bool = False,
    of_debits: bool = False,
) -> tuple[Line, ...]:
    """Lines, the largest net first (or in order of their keys)."""
    grouped: dict[str, list[Paid]] = {}
    for row in rows:
        grouped.setdefault(key_of(row), []).append(row)
    lines = [_line(key, members, names, of_debits=of_debits) for key, members in grouped.items()]
    return tuple(sorted(lines, key=lambda line: line.key if by_key else (-line.net_minor, line.name, line.key)))


def _line(key: str, rows: Sequence[Paid], names: Mapping[str, str], *, of_debits: bool = False) -> Line:
    return Line(
        key=key,
        name=names.get(key, key),
        count=sum(row.debits if of_debits else row.charges for row in rows),
        gross_minor=sum(row.gross_minor for row in rows),
        refunded_minor=sum(row.refunded_minor for row in rows),
    )
