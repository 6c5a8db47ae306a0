"""The terms of a mandate, a pool or a card, as a payer writes them and as they are kept (versioned, hashed, consented to).

    a *filter* selects what a limit counts and binds; a *condition* refuses by itself.

Source: semantics.md "Limits"; product.md §4 (limit grammar), §1a (cooling period).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import combinations
from typing import Annotated, Any, Final, Self

import msgspec
from pydantic import Field, ValidationInfo, model_validator

from kinpay.mandates.condition import Condition, Hours
from kinpay.mandates.limit import SILENT, Limit
from kinpay.primitives.errors import Invalid
from kinpay.primitives.fields import KEPT, Closed, Currency, DayText

LIMITS_MAX: Final = 32
CONDITIONS_MAX: Final = 16
COOLING_HOURS_MAX: Final = 720


class Cooling(Closed):
    """A time of caution. For so many hours after the grant, `limits` bind besides; for so many after each raise, so does
    everything that held before it: a raise takes effect when it has cooled down.
    """

    hours: Annotated[int, Field(strict=True, ge=1, le=COOLING_HOURS_MAX)]
    limits: list[Limit] = Field(default=[], max_length=8)


class Terms(Closed):
    """All that a payer sets: every limit and every condition must hold, from the day `valid_from` to the day `valid_to`.

    Both days belong to it, in the circle's zone.
    """

    currency: Currency
    limits: list[Limit] = Field(default=[], max_length=LIMITS_MAX)
    conditions: list[Condition] = Field(default=[], max_length=CONDITIONS_MAX)
    valid_from: DayText | None = None
    valid_to: DayText | None = None
    cooling: Cooling | None = None

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> Self:
        if self.valid_from and self.valid_to and self.valid_from > self.valid_to:
            raise ValueError("valid_from is after valid_to")
        return self

    @model_validator(mode="after")
    def _is_open_some_day(self, info: ValidationInfo) -> Self:
        """Conditions must all hold, so hours of school days and hours of other days belong into one."""
        hours = [condition for condition in self.conditions if isinstance(condition, Hours)]
        if info.context is not KEPT and not all(one.may_coincide(other) for one, other in combinations(hours, 2)):
            raise ValueError("hours of school days and of other days are never open at once: write both into one condition")
        return self

    @classmethod
    def kept(cls, canonical: Mapping[str, Any]) -> Self:
        """The terms that a row holds, which were good when they were taken. Raises: ValidationError for what never was."""
        return cls.model_validate(canonical, context=KEPT)

    @property
    def all_limits(self) -> list[Limit]:
        """Its limits, those of the cooling time included."""
        return self.limits + (self.cooling.limits if self.cooling else [])

    def canonical(self) -> dict[str, Any]:
        """Plain JSON values, as stored, shown and hashed; what a limit says by silence is left out."""
        written = self.model_dump(mode="json", exclude_none=True)
        for limits in (written["limits"], written.get("cooling", {}).get("limits", [])):
            limits[:] = [_plain(limit) for limit in limits]
        return written

    def hash(self) -> bytes:
        """SHA-256 over the canonical form: what exactly the payer consented to."""
        return terms_hash(self.canonical())


def require_no_cooling(terms: Terms) -> None:
    """Only a mandate is granted and raised. Raises: Invalid for a pool or a card that should cool down."""
    if terms.cooling is not None:
        raise Invalid("cooling_is_for_mandates", field="terms.cooling")


def _plain(limit: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in limit.items() if SILENT.get(name) != value}


def terms_hash(canonical: dict[str, Any]) -> bytes:
    """SHA-256 over canonical terms, keys sorted."""
    return hashlib.sha256(msgspec.json.encode(canonical, order="sorted")).digest()
