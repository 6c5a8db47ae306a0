"""Conditions: what refuses a payment by itself, whatever was spent.

Source: semantics.md "Limits" (a *condition* refuses by itself); product.md §4, story S1 (school days, canteen only).
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, model_validator

from kinpay.mandates.limit import Method, Weekday
from kinpay.primitives.fields import Closed, DayText, Id, ItemCode, Mcc

M = TypeVar("M")

ClockTime = Annotated[str, Field(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$", examples=["06:30"])]
"""A time on the circle's wall; `24:00` only as an end."""


def _exactly_one(model: M, allow: object, deny: object) -> M:
    if (allow is None) == (deny is None):
        raise ValueError("give either allow or deny")
    return model


class Payees(Closed):
    """Which merchants may be paid: only these, or all but these."""

    kind: Literal["payees"]
    allow: list[Id] | None = Field(default=None, max_length=100)
    deny: list[Id] | None = Field(default=None, max_length=100)

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        return _exactly_one(self, self.allow, self.deny)


class Categories(Closed):
    """Which merchant categories (ISO 18245) may be paid: only these, or all but these."""

    kind: Literal["mccs"]
    allow: list[Mcc] | None = Field(default=None, max_length=100)
    deny: list[Mcc] | None = Field(default=None, max_length=100)

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        return _exactly_one(self, self.allow, self.deny)


class Items(Closed):
    """What may be bought: only these items, or all but these. A payment whose items the till does not tell is refused."""

    kind: Literal["items"]
    allow: list[ItemCode] | None = Field(default=None, max_length=100)
    deny: list[ItemCode] | None = Field(default=None, max_length=100)

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        return _exactly_one(self, self.allow, self.deny)


class Methods(Closed):
    """How the spender may identify themselves: only so, or in every way but these."""

    kind: Literal["methods"]
    allow: list[Method] | None = Field(default=None, max_length=4)
    deny: list[Method] | None = Field(default=None, max_length=4)

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        return _exactly_one(self, self.allow, self.deny)


class Terminals(Closed):
    """At which terminals may be paid: only at these, or at all but these."""

    kind: Literal["terminals"]
    allow: list[Id] | None = Field(default=None, max_length=100)
    deny: list[Id] | None = Field(default=None, max_length=100)

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        return _exactly_one(self, self.allow, self.deny)


Days = Literal["school", "other"]
"""Those that a school calendar says are school days, or the rest."""


class Opening(Closed):
    """From `opens` (included) to `closes` (not included) on `weekdays` (1 Monday … 7 Sunday), by the circle's wall clock.

    `days`: which days of the condition's calendar it is about; unsaid, those that the condition says.
    """

    opens: ClockTime
    closes: ClockTime
    weekdays: list[Weekday] = Field(default=[1, 2, 3, 4, 5, 6, 7], min_length=1, max_length=7)
    days: Days | None = None

    @model_validator(mode="after")
    def _opens_first(self) -> Self:
        if self.opens >= self.closes:
            raise ValueError("opens must be before closes; write an overnight opening as two")
        return self


class Semester(Closed):
    """A stretch of school: both days belong to it."""

    first: DayText
    last: DayText

    @model_validator(mode="after")
    def _first_first(self) -> Self:
        if self.first > self.last:
            raise ValueError("first must not be after last")
        return self


class SchoolCalendar(Closed):
    """Which days are school days: `weekdays` within a semester (none named: all year), less the days `off`, and the days `on`.

    `on` is for the days that make up for holidays, and wins. It is a part of the terms, so that a payer consents to days they
    can see and no change of a school's plan opens anything by itself.
    """

    weekdays: list[Weekday] = Field(default=[1, 2, 3, 4, 5], min_length=1, max_length=7)
    semesters: list[Semester] = Field(default=[], max_length=12)
    off: list[DayText] = Field(default=[], max_length=366)
    on: list[DayText] = Field(default=[], max_length=366)


class Hours(Closed):
    """When payments are allowed: inside any of the openings; with a calendar, each only on its school days, or only on others.

    `days`: of the openings that do not say theirs; unsaid, school days.
    """

    kind: Literal["hours"]
    open: list[Opening] = Field(min_length=1, max_length=21)
    calendar: SchoolCalendar | None = None
    days: Days | None = None

    @model_validator(mode="after")
    def _days_of_a_calendar(self) -> Self:
        if self.calendar is None and any(days is not None for days in (self.days, *(one.days for one in self.open))):
            raise ValueError("days are those of a calendar")
        return self

    def may_coincide(self, other: Hours) -> bool:
        """False if it is certain that both are never open at once, as one is about school days and the other about the rest."""
        if self.calendar is None or self.calendar != other.calendar:
            return True
        return not self._days_open().isdisjoint(other._days_open())

    def _days_open(self) -> set[Days]:
        return {one.days or self.days or "school" for one in self.open}


Condition = Annotated[Payees | Categories | Items | Methods | Terminals | Hours, Field(discriminator="kind")]
"""Any of them."""
