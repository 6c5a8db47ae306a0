"""What is asked of a decision: an amount for a spender at a terminal, and, where the till tells it, what is bought."""

from __future__ import annotations

import msgspec


class Item(msgspec.Struct, frozen=True, gc=False):
    """A line of the till's receipt: what, and for how much in all (minor units)."""

    code: str
    amount_minor: int
    quantity: int = 1


class Order(msgspec.Struct, frozen=True, gc=False):
    """What is asked: `amount_minor` of `currency` for `spender_id` at a merchant's terminal, by a credential.

    `items`: every line of the receipt, which together come to the amount, or to the fare; none if the till does not tell.
    `fare_minor`: what a ride would cost by itself, where a merchant's fare rule says what it costs.
    """

    amount_minor: int
    currency: str
    merchant_id: str
    mcc: str
    spender_id: str
    credential_id: str | None
    method: str
    terminal_id: str
    items: tuple[Item, ...] = ()
    fare_minor: int | None = None
