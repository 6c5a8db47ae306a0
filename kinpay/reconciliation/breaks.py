"""A break: a difference between a provider's statement and our books.

Source: product.md §1d (orphan and missing lists); reliability.md I21 (every line matched, or an open named break).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Final


class What(StrEnum):
    """How the two differ."""

    MISSING = "missing"
    """We hold it for done; no statement that could tell it does."""
    ORPHAN = "orphan"
    """The provider tells it; we know of no such order."""
    DIFFERING = "differing"
    """Both know it, with another amount, currency, debit or outcome."""
    DOUBLED = "doubled"
    """The provider tells it twice."""


class Resolution(StrEnum):
    """How a break came to its end."""

    APPEARED = "appeared"
    """By itself: a later statement has it."""
    SETTLED = "settled"
    """By itself: the provider was asked, and our books say the same now."""
    BOOKED = "booked"
    """Somebody booked what had not been."""
    GIVEN_BACK = "given_back"
    """The money was given back."""
    PROVIDER_CORRECTED = "provider_corrected"
    """The provider was wrong, and said so."""
    WRITTEN_OFF = "written_off"
    """Nobody will get it."""
    EXPLAINED = "explained"
    """It is right as it is; the note says why."""


BY_PEOPLE = frozenset(
    {
        Resolution.BOOKED,
        Resolution.GIVEN_BACK,
        Resolution.PROVIDER_CORRECTED,
        Resolution.WRITTEN_OFF,
        Resolution.EXPLAINED,
    }
)
"""What a person may say; the others happen."""


LINES_SHOWN: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """A break as it stands. `ours`, `theirs`: amount in minor units, currency, and what else tells them apart, if anything.

    `lines`: the first `LINES_SHOWN` of those that it stands for, each with the day of its statement; of what is missing, none.
    """

    id: str
    provider_account_id: str
    day: date
    what: What
    kind: str
    key: str
    ours: Mapping[str, Any] | None
    theirs: Mapping[str, Any] | None
    lines: Sequence[Mapping[str, Any]]
    lines_told: int
    """How many there are."""
    state: str
    owner_id: str | None
    resolution: Resolution | None
    note: str | None
    found_at: datetime
    resolved_at: datetime | None
    resolved_by: str | None
