"""Entries: what the books say of a capture, a debit, a refund. Pure.

Four kinds of account, per currency:
    payer      what a payer owes (positive) or is owed; zero when everything is settled, above zero is arrears
    merchant   what a merchant is owed (credits are negative)
    clearing   what has arrived at the operator's account at a provider
    payout     what was paid out to merchants (a later issue)

    capture      payer    + amount    merchant − amount      the goods were handed over
    debit        clearing + amount    payer    − amount      the provider debited the payer
    refund       merchant + amount    payer    − amount      the merchant gives back
    refund_paid  payer    + amount    clearing − amount      the money is back with the payer
    adjustment   the opposite of a refund that the provider definitively refused
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from kinpay.primitives.ids import new_id
from kinpay.primitives.money import Money


class AccountKind(StrEnum):
    """Whose money an account speaks of."""

    PAYER = "payer"
    """A payer: positive is owed by them."""
    MERCHANT = "merchant"
    """A merchant: negative is owed to them."""
    CLEARING = "clearing"
    """An operator's account at a provider: positive has arrived there."""
    PAYOUT = "payout"
    """Paid out to merchants."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account is known by what it is; its id is made from that, so that nobody has to look it up."""

    kind: AccountKind
    owner_id: str
    currency: str

    @property
    def id(self) -> str:
        """32 hexadecimal digits: the start of SHA-256 over kind, owner and currency."""
        return hashlib.sha256(f"{self.kind}\n{self.owner_id}\n{self.currency}".encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Posting:
    """One line: positive debits the account, negative credits it."""

    account: Account
    minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Lines that sum to zero, in one currency, and what they are about."""

    id: str
    circle_id: str
    kind: str
    charge_id: str | None
    debit_id: str | None
    refund_id: str | None
    postings: tuple[Posting, ...]

    def __post_init__(self) -> None:
        if sum(posting.minor for posting in self.postings) != 0:
            raise ValueError("an entry does not balance")
        if len({posting.account.currency for posting in self.postings}) != 1:
            raise ValueError("an entry is in one currency")


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What an entry is about."""

    circle_id: str
    charge_id: str | None = None
    debit_id: str | None = None
    refund_id: str | None = None


def capture(about: About, *, payer_id: str, merchant_id: str, amount: Money) -> Entry:
    """The goods were handed over: the payer owes, the merchant is owed."""
    return _entry("capture", about, _payer(payer_id, amount), _merchant(merchant_id, amount), amount)


def debit(about: About, *, payer_id: str, provider_account_id: str, amount: Money) -> Entry:
    """The provider debited the payer: the money is in clearing."""
    return _entry("debit", about, _clearing(provider_account_id, amount), _payer(payer_id, amount), amount)


def refund(about: About, *, payer_id: str, merchant_id: str, amount: Money) -> Entry:
    """The merchant gives back: the payer is owed."""
    return _entry("refund", about, _merchant(merchant_id, amount), _payer(payer_id, amount), amount)


def refund_paid(about: About, *, payer_id: str, provider_account_id: str, amount: Money) -> Entry:
    """The money is back with the payer."""
    return _entry("refund_paid", about, _payer(payer_id, amount), _clearing(provider_account_id, amount), amount)


def refund_undone(about: About, *, payer_id: str, merchant_id: str, amount: Money) -> Entry:
    """The provider definitively refused a refund: the merchant keeps it, the payer is owed nothing."""
    return _entry("adjustment", about, _payer(payer_id, amount), _merchant(merchant_id, amount), amount)


def _entry(kind: str, about: About, debited: Account, credited: Account, amount: Money) -> Entry:
    return Entry(
        id=new_id(),
        circle_id=about.circle_id,
        kind=kind,
        charge_id=about.charge_id,
        debit_id=about.debit_id,
        refund_id=about.refund_id,
        postings=(Posting(debited, amount.minor), Posting(credited, -amount.minor)),
    )


def _payer(owner_id: str, amount: Money) -> Account:
    return Account(AccountKind.PAYER, owner_id, amount.currency)


def _merchant(owner_id: str, amount: Money) -> Account:
    return Account(AccountKind.MERCHANT, owner_id, amount.currency)


def _clearing(owner_id: str, amount: Money) -> Account:
    return Account(AccountKind.CLEARING, owner_id, amount.currency)
