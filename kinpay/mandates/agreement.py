"""An agreement: password-free debit between a payer and a provider ([0022]-[0026]), and the spenders under it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from kinpay.primitives.lifecycle import Lifecycle


class AgreementState(StrEnum):
    """Where an agreement stands with us; finals never reopen."""

    CREATED = "created"
    """Written down; the provider has not said that it knows it."""
    PENDING = "pending"
    """The provider waits for the payer's signature."""
    ACTIVE = "active"
    """Debits may be sent."""
    ENDED = "ended"
    """Ended by the payer, the provider or the operator. Final."""
    REFUSED = "refused"
    """The payer or the provider said no, or the signature lapsed. Final."""


class AgreementEvent(StrEnum):
    """What may happen to an agreement."""

    ASK = "ask"
    """The provider took the request and waits for the payer."""
    OPEN = "open"
    """The provider says that it is active ([0025])."""
    REFUSE = "refuse"
    """The provider says that it will never be."""
    END = "end"
    """Either side ended it, perhaps before we heard that it was active."""


AGREEMENT_LIFE: Final = Lifecycle(
    "agreement",
    AgreementState.CREATED,
    {
        (AgreementState.CREATED, AgreementEvent.ASK): AgreementState.PENDING,
        (AgreementState.CREATED, AgreementEvent.OPEN): AgreementState.ACTIVE,
        (AgreementState.PENDING, AgreementEvent.OPEN): AgreementState.ACTIVE,
        (AgreementState.CREATED, AgreementEvent.REFUSE): AgreementState.REFUSED,
        (AgreementState.PENDING, AgreementEvent.REFUSE): AgreementState.REFUSED,
        (AgreementState.CREATED, AgreementEvent.END): AgreementState.ENDED,
        (AgreementState.PENDING, AgreementEvent.END): AgreementState.ENDED,
        (AgreementState.ACTIVE, AgreementEvent.END): AgreementState.ENDED,
    },
)

OPEN_STATES: Final = frozenset({AgreementState.CREATED, AgreementState.PENDING, AgreementState.ACTIVE})


class SpenderState(StrEnum):
    """How a spender stands under an agreement at the provider (claim 5)."""

    WANTED = "wanted"
    """The provider is to record them."""
    BOUND = "bound"
    """The provider recorded them, or cannot and we alone did."""
    REMOVED = "removed"
    """The payer removed them there, or the mandate ended here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """A row of `agreement`; amounts in minor units of `currency`. Its id is its key at the provider."""

    id: str
    circle_id: str
    operator_id: str
    provider_account_id: str
    payer_id: str
    payer_account: str
    payer_account_id: str | None
    business_type: str
    currency: str
    per_debit_minor: int | None
    per_day_minor: int | None
    state: AgreementState
    provider_ref: str | None
    action_url: str | None
    created_at: datetime
    expires_at: datetime | None
    active_at: datetime | None
    ended_at: datetime | None
    ended_by: str | None
    next_check_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What one word of the provider changed. `opened` and `closed` are true only for the word that made it so."""

    agreement_id: str
    circle_id: str
    before: AgreementState
    state: AgreementState
    removed_spenders: tuple[str, ...] = ()

    @property
    def opened(self) -> bool:
        """Whether this word made it active."""
        return self.before is not self.state and self.state is AgreementState.ACTIVE

    @property
    def closed(self) -> bool:
        """Whether this word made it ended or refused."""
        return self.before is not self.state and self.state not in OPEN_STATES


_FIRST_CHECK: Final = timedelta(seconds=5)
_LAST_CHECK: Final = timedelta(hours=1)


def next_check(created_at: datetime, now: datetime) -> datetime:
    """When to ask the provider again about an agreement that is not final: after half its age, 5 s to 1 h."""
    return now + min(max((now - created_at) / 2, _FIRST_CHECK), _LAST_CHECK)
