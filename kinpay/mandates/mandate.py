"""A mandate: what a payer allows a spender in one circle, versioned. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal

from kinpay.primitives.lifecycle import Lifecycle


class MandateState(StrEnum):
    """Where a mandate stands; only an active one lets a charge be reserved."""

    PENDING = "pending"
    """The payer consented; the registration that asked for it still lacks something."""
    ACTIVE = "active"
    """The spender may spend within its terms."""
    SUSPENDED = "suspended"
    """No agreement that funds it is active, or the provider removed the spender; counters and terms are kept."""
    PAUSED = "paused"
    """The payer stopped it for a while."""
    ENDED = "ended"
    """Revoked by the payer, left by the spender, or its registration failed. Final."""


class MandateEvent(StrEnum):
    """What may happen to a mandate."""

    ACTIVATE = "activate"
    """The last item of the registration arrived."""
    SUSPEND = "suspend"
    """Its last funding agreement ended."""
    RESTORE = "restore"
    """It is funded again."""
    PAUSE = "pause"
    """The payer stops it for a while; also while it is suspended, so that a new agreement does not start it again."""
    RESUME = "resume"
    """The payer, freshly proven, lets it go on."""
    END = "end"
    """Either side ends it."""


MANDATE_LIFE: Final = Lifecycle(
    "mandate",
    MandateState.PENDING,
    {
        (MandateState.PENDING, MandateEvent.ACTIVATE): MandateState.ACTIVE,
        (MandateState.ACTIVE, MandateEvent.SUSPEND): MandateState.SUSPENDED,
        (MandateState.SUSPENDED, MandateEvent.RESTORE): MandateState.ACTIVE,
        (MandateState.ACTIVE, MandateEvent.PAUSE): MandateState.PAUSED,
        (MandateState.SUSPENDED, MandateEvent.PAUSE): MandateState.PAUSED,
        (MandateState.PAUSED, MandateEvent.RESUME): MandateState.ACTIVE,
        (MandateState.PENDING, MandateEvent.END): MandateState.ENDED,
        (MandateState.ACTIVE, MandateEvent.END): MandateState.ENDED,
        (MandateState.SUSPENDED, MandateEvent.END): MandateState.ENDED,
        (MandateState.PAUSED, MandateEvent.END): MandateState.ENDED,
    },
)


class Reason(StrEnum):
    """Why a mandate is suspended, paused or ended: kept in its row and told to everybody concerned."""

    AGREEMENT_ENDED = "agreement_ended"
    """No agreement of its funding is active any more."""
    SPENDER_REMOVED = "spender_removed"
    """The payer removed the spender at the provider (claim 5)."""
    PAYER = "payer"
    """The payer wanted it."""
    SPENDER = "spender"
    """The spender left."""
    REGISTRATION = "registration"
    """The registration that asked for it was refused, withdrawn or expired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mandate:
    """A row of `mandate`. `version` is that of its terms; `position`: which of a spender's mandates is tried first."""

    id: str
    circle_id: str
    payer_id: str
    spender_id: str
    state: MandateState
    reason: str | None
    version: int
    position: int
    created_at: datetime
    active_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MandateVersion:
    """Terms as consented to. Reservations after `from_charge_seq` are decided under them, until the next version."""

    mandate_id: str
    version: int
    terms: dict[str, Any]
    terms_hash: bytes
    agreed_by: str
    proof_id: str | None
    from_charge_seq: int
    since: datetime
    cools_until: datetime | None
    """Until when the version before binds besides: a raise takes effect when it has cooled down."""


Debited = Literal["each_charge", "daily"]
"""When a payer is debited: with each charge, or once a day with one itemised debit (the operator's day)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Funding:
    """The settlement rule now in force: which agreements, in the order to try, debited when."""

    version: int
    agreement_ids: tuple[str, ...]
    debited: Debited
    since: datetime
