"""A person: somebody with an account at one operator, who may be spender and payer at once. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Final

from kinpay.primitives.lifecycle import Lifecycle

ADULT_YEARS: Final = 18
"""The age of majority, in years (China's Civil Code, article 17; the same in most places we serve)."""


class PersonState(StrEnum):
    """Where an account stands."""

    UNVERIFIED = "unverified"
    """Opened, but nobody has shown yet that the contact is theirs."""
    ACTIVE = "active"
    """A sign-in code that went to the contact came back, or a terminal stands for the person."""
    CLOSED = "closed"
    """Ended; cannot sign in."""


class PersonEvent(StrEnum):
    """What may happen to an account."""

    VERIFY = "verify"
    """The first sign-in code was used."""
    CLOSE = "close"
    """The account was ended."""


PERSON_LIFE: Final = Lifecycle(
    "person",
    PersonState.UNVERIFIED,
    {
        (PersonState.UNVERIFIED, PersonEvent.VERIFY): PersonState.ACTIVE,
        (PersonState.UNVERIFIED, PersonEvent.CLOSE): PersonState.CLOSED,
        (PersonState.ACTIVE, PersonEvent.CLOSE): PersonState.CLOSED,
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A row of `person`. `account` is normalised; `birth_date` may be unknown; `assisted`: has no phone of their own."""

    id: str
    operator_id: str
    account: str
    display_name: str
    locale: str
    birth_date: date | None
    assisted: bool
    state: PersonState
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPerson:
    """What somebody tells when they open an account. `channel` is phone or email; `address` is where codes go."""

    account: str
    display_name: str
    locale: str
    birth_date: date | None
    channel: str
    address: str


def is_adult(birth_date: date | None, today: date) -> bool:
    """Whether somebody born on `birth_date` is of age on the local day `today`; an unknown birthday counts as not."""
    if birth_date is None:
        return False
    year = birth_date.year + ADULT_YEARS
    leap_day = (birth_date.month, birth_date.day) == (2, 29)
    # Whoever was born on a leap day is of age on the first of March of a common year.
    of_age = date(year, 3, 1) if leap_day and not _is_leap(year) else birth_date.replace(year=year)
    return today >= of_age


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
