"""Why a charge is refused: each limit and condition that says no, in the order of semantics.md "Limits"."""

from __future__ import annotations

from datetime import datetime
from enum import IntEnum
from typing import Final

import msgspec

from kinpay.primitives.period import Period, Unit


class Rank(IntEnum):
    """The order of reasons; the lowest is primary (semantics.md)."""

    STATUS = 1
    MANDATE = 2
    PAYEE_OR_CATEGORY = 3
    TIME = 4
    PER_PAYMENT = 5
    COUNT = 6
    TRAILING = 7
    DAY = 8
    WEEK = 9
    MONTH = 10
    YEAR = 11
    CONSENT = 12
    LIFETIME = 13
    POOL = 14
    PROVIDER = 15


class Reason(msgspec.Struct, frozen=True, gc=False):
    """One limit or condition that says no. Amounts in minor units, or payments where `code` ends in COUNT."""

    rank: Rank
    code: str
    at_most: int | None = None
    at_least: int | None = None
    used: int | None = None
    remaining: int | None = None
    resets_at: datetime | None = None


_RANKS: Final = {
    Unit.TRAILING: Rank.TRAILING,
    Unit.DAY: Rank.DAY,
    Unit.WEEK: Rank.WEEK,
    Unit.MONTH: Rank.MONTH,
    Unit.HALF_YEAR: Rank.YEAR,
    Unit.YEAR: Rank.YEAR,
    Unit.LIFETIME: Rank.LIFETIME,
}


def rank_of(period: Period) -> Rank:
    """Where an amount per such a period stands among the reasons."""
    return Rank.CONSENT if period.anchor is not None else _RANKS[period.unit]
