"""The provider port: a call returns what the provider says is true, or raises: nobody knows, or nothing happened.

Declines and steps for the payer are values; only *unknown*, *not executed* and *misconfigured* are exceptions.
Source: providers.md §10; semantics.md "Packages and commands".
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Protocol

from kinpay.primitives.money import Money


class AgreementState(StrEnum):
    """Password-free debit between a payer and a provider, as the provider tells it."""

    PENDING = "pending"
    """The payer has not signed yet."""
    ACTIVE = "active"
    """Debits may be sent."""
    ENDED = "ended"
    """Was active; either side, or the provider, ended it. Final."""
    REFUSED = "refused"
    """The payer said no, or the signature lapsed. Final."""


class DebitState(StrEnum):
    """One order at the provider, as the provider tells it."""

    PENDING = "pending"
    """Accepted; the end is not known yet."""
    SUCCEEDED = "succeeded"
    """The payer was debited. Never leaves."""
    FAILED = "failed"
    """Definitively not debited. (A later success is booked all the same: semantics.md, late truth.)"""


class FailureCause(StrEnum):
    """Why a provider definitively refused."""

    FUNDS = "funds"
    LIMIT = "limit"
    RISK = "risk"
    AGREEMENT = "agreement"
    """The agreement is not active, or the spender was removed from it."""
    CLOSED = "closed"
    """The order was cancelled, or closed before it was received."""
    OTHER = "other"


class UnknownOutcome(Exception):
    """The request may have been carried out: query, then send again under the same key. Never a failure."""


class NotExecuted(Exception):
    """The request certainly did not reach the provider (no connection): the same key may be sent later."""


class NotKnown(Exception):
    """The provider answers that it never received this key (or this agreement)."""


class Misconfigured(Exception):
    """The provider refuses *us* (unknown client, account or product): a matter for the operator, not for the payer."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class BadSignature(Exception):
    """An inbound message that does not verify: nothing in it is believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a provider can do; the engine asks before it promises (product.md §1d)."""

    ad_hoc_debits: bool
    binds_spenders: bool
    cancels_debits: bool
    partial_refunds: bool
    per_debit_max_minor: int | None
    currencies: frozenset[str]
    settle_grace_s: int
    """How long after sending a *never received* is not yet believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpenderAtProvider:
    """The spender as the provider records them under the payer's agreement (claim 5)."""

    ref: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementRequest:
    """What the payer is asked to sign at the provider ([0022]-[0023])."""

    key: str
    payer_account: str
    account: str
    """The operator's account at the provider (provider-side merchant account)."""
    business_type: str
    currency: str
    per_debit_minor: int | None
    per_day_minor: int | None
    valid_until: datetime | None
    return_url: str
    spender: SpenderAtProvider | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderAgreement:
    """An agreement as the provider tells it. `payer_account_id` comes once it is active ([0026])."""

    key: str
    provider_ref: str
    state: AgreementState
    action_url: str | None
    """Where the payer signs, while pending."""
    expires_at: datetime | None
    payer_account_id: str | None
    ended_by: str | None
    removed_spender_refs: frozenset[str] = field(default_factory=frozenset)
    failure: Failure | None = None
    """Why, when REFUSED and the provider says so: the payer's account, the payer's no, a lapsed signature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DebitRequest:
    """One order. `key` is our debit's id, for ever."""

    key: str
    agreement_ref: str
    spender_ref: str | None
    amount: Money
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A definitive no. `code` is the provider's own word."""

    cause: FailureCause
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderDebit:
    """One order as the provider tells it."""

    key: str
    provider_ref: str
    state: DebitState
    amount: Money
    failure: Failure | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDebit:
    """Everything a provider knows of one of our orders: enough to book it where our own books lost it."""

    debit: ProviderDebit
    agreement_ref: str
    spender_ref: str | None
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundRequest:
    """Money back to where it came from; `key` is our refund's id, for ever."""

    key: str
    debit_key: str
    amount: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRefund:
    """A refund as the provider tells it."""

    key: str
    debit_key: str
    provider_ref: str
    state: DebitState
    amount: Money
    failure: Failure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbound:
    """A callback as it came: raw bytes, so that signatures are checked over what was sent."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """A verified callback. `seen` is the same kind of value that calls return: one state machine, one write path."""

    notice_id: str
    seen: ProviderAgreement | ProviderDebit | ProviderRefund | None
    """None: verified, but of a kind we do not act on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementLine:
    """One line of the provider's daily statement."""

    kind: str
    key: str
    debit_key: str | None
    amount: Money
    finished_at: datetime


class Provider(Protocol):
    """One operator's account at one provider.

    Every async method raises UnknownOutcome (it may have happened), NotExecuted (it did not), Misconfigured.
    """

    name: str
    can: Capabilities

    async def begin_agreement(self, request: AgreementRequest) -> ProviderAgreement:
        """Asks for password-free debit; PENDING with an `action_url` for the payer. Idempotent by key."""
        ...

    async def get_agreement(self, key: str) -> ProviderAgreement:
        """Raises: NotKnown if the provider never received the key."""
        ...

    async def end_agreement(self, agreement_ref: str, *, reason: str) -> ProviderAgreement:
        """Ends it; already ended is the same answer, not an error."""
        ...

    async def bind_spender(self, agreement_ref: str, spender: SpenderAtProvider) -> ProviderAgreement:
        """Records the spender under the payer's agreement (claim 5, [0024]); idempotent."""
        ...

    async def unbind_spender(self, agreement_ref: str, *, spender_ref: str) -> ProviderAgreement:
        """Removes the spender; idempotent."""
        ...

    async def debit(self, request: DebitRequest) -> ProviderDebit:
        """Debits the payer. Idempotent by key, for ever."""
        ...

    async def get_debit(self, request: DebitRequest) -> ProviderDebit:
        """Raises: NotKnown if the provider never received the key."""
        ...

    async def look_up_debit(self, key: str) -> KnownDebit:
        """An order of which we know nothing but its key. Raises: NotKnown if the provider never received it."""
        ...

    async def cancel_debit(self, request: DebitRequest) -> ProviderDebit:
        """Closes the key: after it the answer is final, whether or not the order was ever received."""
        ...

    async def refund(self, request: RefundRequest) -> ProviderRefund:
        """Gives money back. Idempotent by key."""
        ...

    async def get_refund(self, request: RefundRequest) -> ProviderRefund:
        """Raises: NotKnown if the provider never received the key."""
        ...

    def receive(self, inbound: Inbound) -> Notification:
        """Verifies and maps a callback; pure. Raises: BadSignature."""
        ...

    def statement(self, day: date) -> AsyncGenerator[StatementLine, None]:
        """The provider's own account of one UTC day.

        With the first line, or the end where there is none, all of it is here and is the provider's: whoever reads on waits
        for nobody. A line that cannot be read is UnknownOutcome in its place, and then none of them is to be believed.
        """
        ...

    async def close(self) -> None:
        """Lets go of connections."""
        ...


class Adapters(Protocol):
    """Where adapters come from: whoever assembles the program gives one to whatever calls providers."""

    async def adapter(self, provider_account_id: str) -> Provider:
        """The open adapter of a provider account. Raises: Misconfigured."""
        ...
