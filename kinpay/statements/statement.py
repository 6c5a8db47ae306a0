"""A statement: what a calendar month of a circle came to, by day, spender, payer, merchant and category. Pure.

Gross is what payers were really debited for charges of the month; refunded is what of it went back, or is on its way; net is
the rest. Every grouping comes from the same rows, so that all of them add up to the same totals. What happens to a charge
counts in the charge's month until that month is closed, and then, as something late, in the month in which it happens.
Source: [0004]; product.md S1 (two-day statement).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Final

from kinpay.primitives.clock import Span, local_date, start_of_day
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


def preceding(month: date) -> date:
    """The first day of the month before."""
    return (month.replace(day=1) - timedelta(days=1)).replace(day=1)


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


def time_zone_at(moment: datetime, eras: Sequence[Era]) -> str:
    """The zone that the circle's wall clock followed just before `moment`; before the first era, that era's."""
    return next((era.time_zone for era in reversed(eras) if era.since < moment), eras[0].time_zone)


def month_around(moment: datetime, eras: Sequence[Era]) -> date:
    """The first day of the month that holds `moment` on the circle's wall, whatever zones it has followed."""
    month = local_date(moment, time_zone_at(moment, eras)).replace(day=1)
    while first_instant(month, eras) > moment:
        month = preceding(month)
    while first_instant(following(month), eras) <= moment:
        month = following(month)
    return month


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


class LateKind(StrEnum):
    """What happened to a charge of a month that was closed already."""

    DEBITED = "debited"
    """The payer was debited after all, or a second time."""
    REFUNDED = "refunded"
    """Money was given back, or is on its way."""
    REFUND_FAILED = "refund_failed"
    """The provider refused to give back what had been told as refunded."""
    DROPPED = "dropped"
    """What had been told as pending was declined or given up: nobody was debited, and no figure changes."""


_BACK: Final = {LateKind.DEBITED: 0, LateKind.REFUNDED: 1, LateKind.REFUND_FAILED: -1, LateKind.DROPPED: 0}
"""What a late event adds to what was refunded: its amount so many times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Late:
    """Something that happened in this month to a charge of a closed one. `amount_minor` is what moved, without a sign, or would
    have.
    """

    kind: LateKind
    charge_id: str
    month: str
    day: date
    currency: str
    amount_minor: int
    spender_id: str
    payer_id: str
    merchant_id: str
    mcc: str
    first: bool
    """Whether it is the first debit of its charge: then the charge itself is told here."""

    def paid(self) -> Paid:
        """The same as a row that adds up with the others."""
        debited = self.kind is LateKind.DEBITED
        return Paid(
            currency=self.currency,
            day=self.day,
            spender_id=self.spender_id,
            payer_id=self.payer_id,
            merchant_id=self.merchant_id,
            mcc=self.mcc,
            charges=int(debited and self.first),
            debits=int(debited),
            gross_minor=self.amount_minor if debited else 0,
            refunded_minor=_BACK[self.kind] * self.amount_minor,
        )


class What(StrEnum):
    """Why something was asked for and not (or not yet) debited."""

    REFUSED = "refused"
    """Refused by a limit or condition."""
    DECLINED = "declined"
    """Refused by the provider, before anything was handed over."""
    OWED = "owed"
    """Arrears: handed over, and still not paid."""
    PENDING = "pending"
    """Held, or at the provider: the month may still grow by this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What one spender asked for and was not (or not yet) debited, of one kind."""

    currency: str
    spender_id: str
    what: What
    count: int
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Rows:
    """Everything that some days came to."""

    paid: tuple[Paid, ...] = ()
    unpaid: tuple[Wanted, ...] = ()
    late: tuple[Late, ...] = ()

    @property
    def moved(self) -> list[Paid]:
        """Everything that moved money, what came late as well."""
        return [*self.paid, *(late.paid() for late in self.late if late.kind is not LateKind.DROPPED)]

    def __add__(self, other: Rows) -> Rows:
        return Rows(self.paid + other.paid, self.unpaid + other.unpaid, self.late + other.late)

    def of_spender(self, spender_id: str | None) -> Rows:
        """Only what this one spent; None: everything."""
        if spender_id is None:
            return self
        return Rows(
            tuple(row for row in self.paid if row.spender_id == spender_id),
            tuple(row for row in self.unpaid if row.spender_id == spender_id),
            tuple(row for row in self.late if row.spender_id == spender_id),
        )


@dataclass(frozen=True, slots=True)
class Tally:
    """So many, and their sum in minor units."""

    count: int = 0
    amount_minor: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpaid:
    """What was asked in a currency but not (or not yet) debited; see `What`."""

    refused: Tally
    declined: Tally
    owed: Tally
    pending: Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row of a grouping. `key`: a person's or merchant's id, a category code or a date.

    `count`: how many charges; for payers, how many parts of debits (a day's debit has one for each of its charges).
    """

    key: str
    name: str
    count: int
    gross_minor: int
    refunded_minor: int
    before_net_minor: int = 0
    """The net of the same line in the month before."""

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
    late: tuple[Late, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a month came to. `span` is the month in UTC instants; `spender_id`: if not None, only what this one spent.

    `closed_at` and `hash`: when its figures became final, and their SHA-256; None while they may change.
    """

    circle_id: str
    circle_name: str
    month: str
    time_zone: str
    span: Span
    spender_id: str | None
    parts: tuple[Part, ...]
    closed_at: datetime | None = None
    hash: str | None = None


def parts_of(rows: Rows, before: Rows, *, names: Mapping[str, str]) -> tuple[Part, ...]:
    """One part a currency, in the order of their codes; `names` of people and merchants by id; `before`: the month before's.

    Whoever and whatever had money in the month before has a line, too, so that both columns add up.
    """
    paid, earlier = rows.moved, before.moved
    every = {row.currency for row in [*paid, *earlier]} | {row.currency for row in rows.unpaid}
    parts = []
    for currency in sorted(every | {row.currency for row in rows.late}):
        mine = [row for row in paid if row.currency == currency]
        theirs = [row for row in earlier if row.currency == currency]
        parts.append(
            Part(
                currency=currency,
                total=_line("", mine, {}, theirs),
                by_day=_group(mine, [], lambda row: row.day.isoformat(), names, by_key=True),
                by_spender=_group(mine, theirs, lambda row: row.spender_id, names),
                by_payer=_group(mine, theirs, lambda row: row.payer_id, names, of_debits=True),
                by_merchant=_group(mine, theirs, lambda row: row.merchant_id, names),
                by_category=_group(mine, theirs, lambda row: row.mcc, names),
                unpaid=_unpaid([row for row in rows.unpaid if row.currency == currency]),
                late=tuple(late for late in rows.late if late.currency == currency),
            )
        )
    return tuple(parts)


def _unpaid(rows: Sequence[Wanted]) -> Unpaid:
    def tally(what: What) -> Tally:
        mine = [row for row in rows if row.what is what]
        return Tally(sum(row.count for row in mine), sum(row.amount_minor for row in mine))

    return Unpaid(
        refused=tally(What.REFUSED), declined=tally(What.DECLINED), owed=tally(What.OWED), pending=tally(What.PENDING)
    )


def _group(
    rows: Sequence[Paid],
    before: Sequence[Paid],
    key_of: Callable[[Paid], str],
    names: Mapping[str, str],
    *,
    by_key: bool = False,
    of_debits: bool = False,
) -> tuple[Line, ...]:
    """Lines, the largest net first (or in order of their keys)."""
    grouped, earlier = _grouped(rows, key_of), _grouped(before, key_of)
    keys = dict.fromkeys([*grouped, *earlier])
    lines = [_line(key, grouped.get(key, ()), names, earlier.get(key, ()), of_debits=of_debits) for key in keys]
    return tuple(sorted(lines, key=lambda line: line.key if by_key else (-line.net_minor, line.name, line.key)))


def _grouped(rows: Sequence[Paid], key_of: Callable[[Paid], str]) -> dict[str, list[Paid]]:
    grouped: dict[str, list[Paid]] = {}
    for row in rows:
        grouped.setdefault(key_of(row), []).append(row)
    return grouped


def _line(key: str, rows: Sequence[Paid], names: Mapping[str, str], before: Sequence[Paid], *, of_debits: bool = False) -> Line:
    return Line(
        key=key,
        name=names.get(key, key),
        count=sum(row.debits if of_debits else row.charges for row in rows),
        gross_minor=sum(row.gross_minor for row in rows),
        refunded_minor=sum(row.refunded_minor for row in rows),
        before_net_minor=sum(row.gross_minor - row.refunded_minor for row in before),
    )
