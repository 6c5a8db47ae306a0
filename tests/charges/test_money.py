"""Money: divided to the last unit, shown and read back the same, never mixed, never a fraction."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinpay.primitives.errors import Invalid
from kinpay.primitives.money import EXPONENTS, MAX_MINOR, Money, read_amount, shown_amount
from tests.charges.campaign import campaign

minors = st.integers(0, MAX_MINOR)
currencies = st.sampled_from(("JPY", "CNY", "KWD"))
"""Exponents 0, 2 and 3."""


@campaign(150)
@given(minors, currencies, st.lists(st.integers(0, 1000), min_size=1, max_size=12).filter(any))
def test_a_split_is_exact_and_fair(minor: int, currency: str, weights: list[int]) -> None:
    parts = Money(minor, currency).split(weights)
    assert sum(part.minor for part in parts) == minor
    total = sum(weights)
    for part, weight in zip(parts, weights, strict=True):
        exact, over = divmod(minor * weight, total)
        assert exact <= part.minor <= exact + (over > 0 or weight > 0)
        assert weight > 0 or part.minor == 0


@campaign(150)
@given(minors, currencies)
def test_what_is_shown_reads_back(minor: int, currency: str) -> None:
    text = shown_amount(minor, currency)
    assert read_amount(text, currency) == minor
    assert len(text.partition(".")[2]) == EXPONENTS[currency]
    assert Money(minor, currency).shown() == text


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [(1450, "CNY", "14.50"), (5, "CNY", "0.05"), (0, "CNY", "0.00"), (1500, "JPY", "1500"), (1250, "KWD", "1.250"),
     (1, "KWD", "0.001"), (-300, "CNY", "-3.00"), (MAX_MINOR, "CNY", "90071992547409.91")],
)  # fmt: skip
def test_shown(minor: int, currency: str, text: str) -> None:
    assert shown_amount(minor, currency) == text


@pytest.mark.parametrize(
    "text", ["", ".", "-1", "+1", "1e3", "１", "1,00", " 1", "1.234", "1.2.3", "NaN", "0x1", "1" * 16, "٣", "90071992547409.92"]
)
def test_what_is_no_plain_amount_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        read_amount(text, "CNY")


@campaign(100)
@given(st.text(max_size=20), currencies)
def test_reading_never_guesses(text: str, currency: str) -> None:
    try:
        minor = read_amount(text, currency)
    except Invalid:
        return
    whole, _, fraction = text.partition(".")
    assert minor == int(whole) * 10 ** EXPONENTS[currency] + int(fraction.ljust(EXPONENTS[currency], "0") or 0)


def test_the_story_of_the_spare_fen() -> None:
    """S2.4: 7.35 in shares of 50, 30 and 20."""
    assert [part.minor for part in Money(735, "CNY").split((50, 30, 20))] == [368, 220, 147]
    assert [part.minor for part in Money(2, "CNY").split((1, 1, 1))] == [1, 1, 0]


@pytest.mark.parametrize("weights", [(), (0, 0), (-1, 2)])
def test_shares_that_are_none(weights: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="weights"):
        Money(1, "CNY").split(weights)


def test_money_does_not_mix() -> None:
    with pytest.raises(ValueError, match="mix"):
        Money(1, "CNY") + Money(1, "USD")
    with pytest.raises(TypeError):
        Money(1.5, "CNY")  # type: ignore[arg-type]
    with pytest.raises(Invalid):
        Money(1, "XXX")
