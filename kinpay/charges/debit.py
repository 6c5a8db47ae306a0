"""A debit: one order at one provider under one key, its id. And a refund, which gives one debit back, whole or in part."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from kinpay.primitives.lifecycle import Lifecycle


class DebitStatus(StrEnum):
    """Where a debit stands with us. Unknown is `submitted`: it is never taken for failed."""

    FROZEN = "frozen"
    """Its charges are fixed and it is not sent yet: for products that have to be announced some time before they debit."""
    SUBMITTED = "submitted"
    """Committed here before the first byte left; may or may not be at the provider."""
    SUCCEEDED = "succeeded"
    """The provider says the payer was debited. Never leaves."""
    FAILED = "failed"
    """The provider says definitively not, or it was closed there unreceived."""


class DebitEvent(StrEnum):
    """What can happen to a debit; audit events `debit.<event>`."""

    SEND = "sent"
    """A frozen one is sent."""
    SUCCEED = "succeeded"
    """From the answer, a callback or a query: the same function."""
    FAIL = "failed"
    """Definitively."""
    LATE_SUCCESS = "late_success"
    """Held for failed, and yet it happened."""


DEBIT: Final = Lifecycle[DebitStatus, DebitEvent](
    "debit",
    DebitStatus.FROZEN,
    {
        (DebitStatus.FROZEN, DebitEvent.SEND): DebitStatus.SUBMITTED,
        (DebitStatus.SUBMITTED, DebitEvent.SUCCEED): DebitStatus.SUCCEEDED,
        (DebitStatus.SUBMITTED, DebitEvent.FAIL): DebitStatus.FAILED,
        (DebitStatus.FAILED, DebitEvent.LATE_SUCCESS): DebitStatus.SUCCEEDED,
    },
)


class RefundStatus(StrEnum):
    """Where a refund stands."""

    SUBMITTED = "submitted"
    """Committed here; may or may not be at the provider."""
    SUCCEEDED = "succeeded"
    """The money is back."""
    FAILED = "failed"
    """Definitively not; the room is taken back only if it still fits nothing else (shown to the operator)."""


class RefundEvent(StrEnum):
    """What can happen to a refund; audit events `refund.<event>`."""

    SUCCEED = "succeeded"
    FAIL = "failed"


REFUND: Final = Lifecycle[RefundStatus, RefundEvent](
    "refund",
    RefundStatus.SUBMITTED,
    {
        (RefundStatus.SUBMITTED, RefundEvent.SUCCEED): RefundStatus.SUCCEEDED,
        (RefundStatus.SUBMITTED, RefundEvent.FAIL): RefundStatus.FAILED,
    },
)
