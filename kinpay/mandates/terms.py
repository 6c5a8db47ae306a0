"""The grammar of limits and conditions, as a payer writes it and as it is kept (versioned, hashed, consented to word by word).

    a *filter* selects what a limit counts and binds; a *condition* refuses by itself.

Source: semantics.md "Limits"; product.md §4 (limit grammar); [0024] (amount per payment, per day, number of payments).
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Final, Literal, Self, TypeVar

import msgspec
from pydantic import Field, model_validator

from kinpay.primitives.fields import Amount, Closed, Currency, Id, Mcc

LIMITS_MAX: Final = 32
CONDITIONS_MAX: Final = 16

M = TypeVar("M")

ClockTime = Annotated[str, Field(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$", examples=["06:30"])]
"""A time on the circle's wall; `24:00` only as an end."""


class Filter(Closed):
    """Which payments a limit is about: all named things must fit; nothing named means every payment."""

    payees: list[Id] | None = Field(default=None, min_length=1, max_length=100)
    mccs: list[Mcc] | None = Field(default=None, min_length=1, max_length=100)

    def canonical(self) -> dict[str, Any]:
        """The filter with its lists sorted and its silence left out; `{}` selects everything."""
        chosen = {"payees": self.payees, "mccs": self.mccs}
        return {name: sorted(set(values)) for name, values in chosen.items() if values}


class Limit(Closed):
    """One ceiling (or, per payment, also a floor). Amounts in minor units of the terms' currency, counts in payments."""

    metric: Literal["amount", "count"]
    window: Literal["per_payment", "day", "week", "month"]
    at_most: Annotated[int, Field(strict=True, ge=0, le=2**53 - 1)] | None = None
    at_least: Amount | None = None
    filter: Filter = Filter()

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.at_most is None and self.at_least is None:
            raise ValueError("a limit needs at_most or at_least")
        if self.at_least is not None and (self.metric, self.window) != ("amount", "per_payment"):
            raise ValueError("at_least is for the amount per payment only")
        if self.metric == "count" and self.window == "per_payment":
            raise ValueError("a count needs a calendar window")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError("at_least is above at_most")
        return self


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


def _exactly_one(model: M, allow: object, deny: object) -> M:
    if (allow is None) == (deny is None):
        raise ValueError("give either allow or deny")
    return model


class Opening(Closed):
    """From `opens` (included) to `closes` (not included) on `weekdays` (1 Monday … 7 Sunday), by the circle's wall clock."""

    opens: ClockTime
    closes: ClockTime
    weekdays: list[Annotated[int, Field(strict=True, ge=1, le=7)]] = Field(
        default=[1, 2, 3, 4, 5, 6, 7], min_length=1, max_length=7
    )

    @model_validator(mode="after")
    def _opens_first(self) -> Self:
        if self.opens >= self.closes:
            raise ValueError("opens must be before closes; write an overnight opening as two")
        return self


class Hours(Closed):
    """When payments are allowed: inside any of the openings."""

    kind: Literal["hours"]
    open: list[Opening] = Field(min_length=1, max_length=21)


Condition = Annotated[Payees | Categories | Hours, Field(discriminator="kind")]


class Terms(Closed):
    """All that a payer sets for one mandate, pool or card: every limit and every condition must hold."""

    currency: Currency
    limits: list[Limit] = Field(default=[], max_length=LIMITS_MAX)
    conditions: list[Condition] = Field(default=[], max_length=CONDITIONS_MAX)

    def canonical(self) -> dict[str, Any]:
        """Plain JSON values, as stored, shown and hashed."""
        return self.model_dump(mode="json", exclude_none=True)

    def hash(self) -> bytes:
        """SHA-256 over the canonical form: what exactly the payer consented to."""
        return terms_hash(self.canonical())


def terms_hash(canonical: dict[str, Any]) -> bytes:
    """SHA-256 over canonical terms, keys sorted."""
    return hashlib.sha256(msgspec.json.encode(canonical, order="sorted")).digest()


def filter_hash(canonical_filter: dict[str, Any]) -> bytes:
    """Names a counter's filter; the empty filter has one, too."""
    return hashlib.sha256(msgspec.json.encode(canonical_filter, order="sorted")).digest()
