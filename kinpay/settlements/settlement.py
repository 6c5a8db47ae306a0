"""A settlement: what a merchant's day came to in one currency, and whether the operator has paid it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """A closed day of the operator. `refunded_minor`: less what providers refused to give back; it may exceed the captures."""

    merchant_id: str
    day: date
    currency: str
    captures: int
    captured_minor: int
    refunds: int
    refunded_minor: int
    closed_at: datetime
    reference: str | None
    paid_by: str | None
    paid_at: datetime | None

    @property
    def net_minor(self) -> int:
        """What the operator owes the merchant for the day; below zero: the merchant owes it."""
        return self.captured_minor - self.refunded_minor


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One entry of the day. `amount_minor`: above zero for the merchant, below against it."""

    entry_id: str
    at: datetime
    kind: str
    charge_id: str
    terminal_name: str
    reference: str | None
    amount_minor: int
