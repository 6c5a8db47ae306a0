"""An endpoint: where a merchant wants to be told, and of what. A webhook event: what is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class EventType(StrEnum):
    """What a merchant can be told of. All but the last are topics of the outbox, too."""

    CHARGE_HELD = "charge.held"
    """Reserved, to be captured later. Where a till captures at once, what follows says more, and this is not told."""
    CHARGE_DUE = "charge.due"
    """Handed over, and debited with the whole day when it ends (`due_on`); told again when it is reduced."""
    CHARGE_REFUSED = "charge.refused"
    """A limit or condition said no."""
    CHARGE_SUCCEEDED = "charge.succeeded"
    """The payer was debited; `late` if that became known only after the charge was held for failed."""
    CHARGE_VOIDED = "charge.voided"
    """Given up; nothing is kept."""
    CHARGE_DECLINED = "charge.declined"
    """The provider said no before anything was delivered."""
    CHARGE_OWED = "charge.owed"
    """Delivered, and the provider said no: owed by the payer, tried again."""
    CHARGE_REFUNDED = "charge.refunded"
    """Money is on its way back; `refund.amount_minor` says how much."""
    CHARGE_DEBITED_TWICE = "charge.debited_twice"
    """A second debit of the charge succeeded and goes back to the payer; the merchant has nothing to do."""
    REFUND_SUCCEEDED = "refund.succeeded"
    """A refund has arrived."""
    REFUND_FAILED = "refund.failed"
    """The provider refused a refund; the merchant still has that money."""
    TEST = "test"
    """Somebody asked for a message to try the endpoint with; sent whatever the endpoint wants to hear of."""


TOLD = tuple(kind for kind in EventType if kind is not EventType.TEST)
"""What an endpoint can ask for."""


class DisabledReason(StrEnum):
    """Why an endpoint gets nothing."""

    ASKED = "asked"
    """Somebody switched it off."""
    GONE = "gone"
    """It answered 410 Gone."""
    FAILING = "failing"
    """It took nothing for three days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An endpoint of a merchant, or (None) of the operator for all its merchants. `failing_since`: nothing was taken since."""

    id: str
    merchant_id: str | None
    url: str
    description: str | None
    types: Sequence[str]
    enabled: bool
    disabled_reason: str | None
    disabled_at: datetime | None
    failing_since: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a delivery. `status` None: no answer; `error` None: it was taken; `answer`: its first characters."""

    number: int
    at: datetime
    duration_ms: int
    status: int | None
    answer: str | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """A delivery as the log shows it, with its last attempt."""

    id: str
    endpoint_id: str
    message_id: str
    type: str
    subject_id: str
    state: str
    attempts: int
    next_attempt_at: datetime | None
    created_at: datetime
    finished_at: datetime | None
    last: Attempt | None
