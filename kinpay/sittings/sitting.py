"""A sitting: one go before a terminal's camera, and its life. Pure.

The server chooses two acts and a nonce; the frames that come back, signed with the terminal's own key, are of this
terminal, of this purpose and amount, and of these seconds, or they are nothing. Source: threats A09, A10; claim 7.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from kinpay.faces.liveness import Act
from kinpay.primitives.lifecycle import Lifecycle
from kinpay.primitives.money import Money


class Purpose(StrEnum):
    """What a sitting is for."""

    ENROL = "enrol"
    """To make a template of a registration's spender ([0027])."""
    RECOGNISE = "recognise"
    """To find who pays, among those enrolled for the terminal's site ([0032])."""
    VERIFY = "verify"
    """To compare with those alone whom a code, a card or the last digits of a phone number name."""


class SittingState(StrEnum):
    """Where a sitting stands."""

    ASKED = "asked"
    """The challenge was given out; frames may come, once."""
    TAKEN = "taken"
    """Frames came and are being looked at. Nothing may be sent a second time."""
    STEPPING_UP = "stepping_up"
    """The face alone does not pay here: a PIN may come, once, or the person pays in another way."""
    PASSED = "passed"
    """A template was made, or a person is known surely enough for the amount. Final."""
    REFUSED = "refused"
    """The frames are worth nothing, or the PIN was wrong. Final."""
    EXPIRED = "expired"
    """Its seconds are over. Final."""


class SittingEvent(StrEnum):
    """What may happen to a sitting."""

    TAKE = "take"
    """Its frames came, under its nonce and the terminal's own signature."""
    STEP_UP = "step_up"
    """The face alone is not sure enough."""
    ACCEPT = "accept"
    """Sure enough; or enrolled."""
    REFUSE = "refuse"
    """Nothing follows from it."""
    EXPIRE = "expire"
    """Nobody answered in time."""


_S, _E = SittingState, SittingEvent

SITTING_LIFE: Final = Lifecycle[SittingState, SittingEvent](
    "sitting",
    SittingState.ASKED,
    {
        (_S.ASKED, _E.TAKE): _S.TAKEN,
        (_S.ASKED, _E.EXPIRE): _S.EXPIRED,
        (_S.TAKEN, _E.ACCEPT): _S.PASSED,
        (_S.TAKEN, _E.STEP_UP): _S.STEPPING_UP,
        (_S.TAKEN, _E.REFUSE): _S.REFUSED,
        (_S.TAKEN, _E.EXPIRE): _S.EXPIRED,
        (_S.STEPPING_UP, _E.ACCEPT): _S.PASSED,
        (_S.STEPPING_UP, _E.REFUSE): _S.REFUSED,
        (_S.STEPPING_UP, _E.EXPIRE): _S.EXPIRED,
    },
)

FINAL: Final = frozenset({_S.PASSED, _S.REFUSED, _S.EXPIRED})


@dataclass(frozen=True, slots=True, kw_only=True)
class SittingRules:
    """What an operator may set about sittings. There is nothing here, or elsewhere, that leaves out the challenge."""

    life: timedelta = timedelta(seconds=30)
    """How long after the challenge its frames may come."""
    from_first_frame: timedelta = timedelta(seconds=10)
    """How long after the first frame the last one may be."""
    pin_life: timedelta = timedelta(seconds=60)
    """How long after a step-up the PIN may come, and how long a recognised person has to pay."""
    frames_at_most: int = 24
    picture_bytes: int = 192 * 1024
    """Of one frame; a JPEG of 640 by 480 takes a quarter of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sitting:
    """A row of `sitting`. `amount` is what is to be paid, None where somebody is enrolled."""

    id: str
    operator_id: str
    site_id: str
    terminal_id: str
    purpose: Purpose
    state: SittingState
    acts: tuple[Act, Act]
    nonce: str
    capture_id: str | None
    consent_id: str | None
    amount: Money | None
    sealed: bytes | None = field(repr=False)
    person_id: str | None
    circle_id: str | None
    credential_id: str | None
    evidence: dict[str, Any] | None
    asked_at: datetime
    expires_at: datetime

    def is_late(self, now: datetime) -> bool:
        """Whether its seconds are over."""
        return now > self.expires_at
