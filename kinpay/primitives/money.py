"""Money is an integer count of minor units in one currency. There is no float and no mixing.

Source: ISO 4217 (exponents); architecture.md §4.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from kinpay.primitives.errors import Invalid

MAX_MINOR: Final = 2**53 - 1
"""The largest amount accepted anywhere: exact in JSON readers that only know doubles, far below bigint."""

EXPONENTS: Final[dict[str, int]] = {
    "CNY": 2, "USD": 2, "EUR": 2, "GBP": 2, "HKD": 2, "MOP": 2, "TWD": 2, "SGD": 2, "MYR": 2, "THB": 2,
    "INR": 2, "AUD": 2, "NZD": 2, "CAD": 2, "CHF": 2, "SEK": 2, "NOK": 2, "DKK": 2, "PLN": 2, "CZK": 2,
    "BRL": 2, "MXN": 2, "ZAR": 2, "AED": 2, "SAR": 2, "TRY": 2, "PHP": 2, "IDR": 2, "ILS": 2,
    "JPY": 0, "KRW": 0, "VND": 0, "CLP": 0, "ISK": 0,
    "KWD": 3, "BHD": 3, "OMR": 3, "JOD": 3, "TND": 3,
}  # fmt: skip
"""Digits after the decimal point, by ISO 4217 code."""

NUMBERS: Final[dict[str, str]] = {
    "CNY": "156", "USD": "840", "EUR": "978", "GBP": "826", "HKD": "344", "MOP": "446", "TWD": "901", "SGD": "702",
    "MYR": "458", "THB": "764", "INR": "356", "AUD": "036", "NZD": "554", "CAD": "124", "CHF": "756", "SEK": "752",
    "NOK": "578", "DKK": "208", "PLN": "985", "CZK": "203", "BRL": "986", "MXN": "484", "ZAR": "710", "AED": "784",
    "SAR": "682", "TRY": "949", "PHP": "608", "IDR": "360", "ILS": "376",
    "JPY": "392", "KRW": "410", "VND": "704", "CLP": "152", "ISK": "352",
    "KWD": "414", "BHD": "048", "OMR": "512", "JOD": "400", "TND": "788",
}  # fmt: skip
"""The three-digit number of a currency, by ISO 4217 code."""


@dataclass(frozen=True, slots=True, order=False)
class Money:
    """An amount: `minor` units (fen, cents) of `currency` (ISO 4217). May be negative in a posting, never in a request."""

    minor: int
    currency: str

    def __post_init__(self) -> None:
        if type(self.minor) is not int:
            raise TypeError("money is an integer count of minor units")
        if self.currency not in EXPONENTS:
            raise Invalid("currency_unknown", field="currency")

    def __add__(self, other: Money) -> Money:
        return Money(self.minor + self._same(other), self.currency)

    def __sub__(self, other: Money) -> Money:
        return Money(self.minor - self._same(other), self.currency)

    def __lt__(self, other: Money) -> bool:
        return self.minor < self._same(other)

    def __le__(self, other: Money) -> bool:
        return self.minor <= self._same(other)

    def _same(self, other: Money) -> int:
        if other.currency != self.currency:
            raise ValueError(f"cannot mix {self.currency} and {other.currency}")
        return other.minor

    def shown(self) -> str:
        """The amount for people, with the currency's own number of decimals: `14.50`, `1500`, `1.250`."""
        return shown_amount(self.minor, self.currency)

    def split(self, weights: Sequence[int]) -> tuple[Money, ...]:
        """Divides exactly by whole-number `weights`; spare minor units go to the first parts, one each.

        Raises: ValueError if there is no positive weight or one is negative.
        """
        total = sum(weights)
        if total <= 0 or min(weights) < 0:
            raise ValueError("weights must be whole numbers, at least one positive")
        floors = [self.minor * weight // total for weight in weights]
        spare = self.minor - sum(floors)
        earning = [index for index, weight in enumerate(weights) if weight > 0][:spare]
        return tuple(Money(part + (1 if index in earning else 0), self.currency) for index, part in enumerate(floors))


def shown_amount(minor: int, currency: str) -> str:
    """`minor` units of `currency` as decimal text; the only place where an amount gains a point."""
    exponent = EXPONENTS[currency]
    return str(Decimal(minor).scaleb(-exponent).quantize(Decimal(1).scaleb(-exponent)))


def read_amount(text: str, currency: str) -> int:
    """Reads decimal text (`"14.50"`) into minor units, exactly; the inverse of `shown_amount`.

    Raises: Invalid if the text is no plain decimal number, has more decimals than the currency or is above `MAX_MINOR`.
    """
    exponent = EXPONENTS[currency]
    whole, point, fraction = text.partition(".")
    plain = whole.isascii() and whole.isdigit() and (not point or (fraction.isascii() and fraction.isdigit()))
    if not plain or len(fraction) > exponent or len(whole) > len(str(MAX_MINOR)):
        raise Invalid("amount_not_plain", field="amount")
    minor = int(whole + fraction.ljust(exponent, "0"))
    if minor > MAX_MINOR:
        raise Invalid("amount_not_plain", field="amount")
    return minor
