"""A registration: the request of a spender to be paid for, its checklist and its life. Pure.

The three orders of binding differ only in which items they need: A and B a capture (claims 7 and 8), C none (claim 9).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from kinpay.primitives.lifecycle import Lifecycle

CARD_MARK: Final = "/card/"
"""Begins `payer_account` where the payer was named by a card; no account name may hold a slash."""


class RegistrationState(StrEnum):
    """Where a registration stands."""

    OPEN = "open"
    """Something on its checklist is still missing."""
    BOUND = "bound"
    """Every item came: the mandate is active. Final."""
    REFUSED = "refused"
    """The payer said no. Final."""
    EXPIRED = "expired"
    """Nobody completed it in time. Final."""
    WITHDRAWN = "withdrawn"
    """The spender took it back. Final."""


class RegistrationEvent(StrEnum):
    """What ends a registration; items of the checklist do not move its state until the last one is there."""

    BIND = "bind"
    """The last item of the checklist came."""
    REFUSE = "refuse"
    """The payer refused."""
    EXPIRE = "expire"
    """Its time is over."""
    WITHDRAW = "withdraw"
    """The spender took it back."""


REGISTRATION_LIFE: Final = Lifecycle(
    "registration",
    RegistrationState.OPEN,
    {
        (RegistrationState.OPEN, RegistrationEvent.BIND): RegistrationState.BOUND,
        (RegistrationState.OPEN, RegistrationEvent.REFUSE): RegistrationState.REFUSED,
        (RegistrationState.OPEN, RegistrationEvent.EXPIRE): RegistrationState.EXPIRED,
        (RegistrationState.OPEN, RegistrationEvent.WITHDRAW): RegistrationState.WITHDRAWN,
    },
)


class Item(StrEnum):
    """What a registration may wait for; also the words in which its people are told."""

    CONSENT = "consent"
    """The payer agreed to the limits, freshly proven."""
    AGREEMENT = "agreement"
    """The provider may debit the payer ([0025])."""
    ENROLMENT = "enrolment"
    """The terminal captured a template of the spender ([0027])."""


class BindingOrder(StrEnum):
    """In what order things happen."""

    A = "A"
    """Consent and agreement first, capture after (claim 7)."""
    B = "B"
    """Capture at once, the payer is asked meanwhile (claim 8, [0030])."""
    C = "C"
    """No capture at all (claim 9, [0031])."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What an operator may set about registrations."""

    life: timedelta = timedelta(hours=24)
    """How long a request stays open."""
    provisional_life: timedelta = timedelta(minutes=15)
    """How long a template of order B may be kept before the payer's consent; threat A12 allows at most 15 minutes."""
    minor_below_years: int = 14
    """Younger spenders, and those of unknown age, are captured only after consent (order B is refused)."""
    capture_minors_first: bool = False
    """Lets order B capture minors all the same; only where the law of the place allows it."""
    open_per_payer: int = 3
    """Open requests that a payer is shown at once."""
    per_payer_per_day: int = 10
    """Requests that a payer is shown in 24 hours, whatever became of them."""
    per_spender_per_day: int = 10
    """Requests that a spender may make in 24 hours."""
    open_per_terminal: int = 30
    """Open requests that one terminal may have for people without a phone."""
    card_currency: str = "CNY"
    """Of the cap on a card that a terminal prints; ISO 4217."""
    terminal_templates: bool = True
    """Whether terminals may hand over templates of their own making, which are kept and compared with nothing."""
    cool_down: timedelta = timedelta(hours=24)
    """How long a spender whom a payer refused does not reach that payer again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A row of `registration`. `payer_id` None: nobody who could pay was reached; nobody can tell that from outside."""

    id: str
    operator_id: str
    scan_id: str | None
    terminal_id: str | None
    business_type: str
    binding_order: BindingOrder
    spender_id: str
    payer_id: str | None
    payer_account: str
    match_number: int
    state: RegistrationState
    circle_id: str | None
    mandate_id: str | None
    agreement_id: str | None
    template_id: str | None
    consented_at: datetime | None
    agreement_active_at: datetime | None
    enrolled_at: datetime | None
    created_at: datetime
    expires_at: datetime
    closed_at: datetime | None

    @property
    def lane(self) -> str:
        """Where it is recorded: in its circle, or with the operator while it has none."""
        return self.circle_id or self.operator_id

    @property
    def is_open(self) -> bool:
        """Whether something may still come of it."""
        return self.state is RegistrationState.OPEN

    @property
    def needs_capture(self) -> bool:
        """Whether a template belongs to its checklist."""
        return self.binding_order is not BindingOrder.C


def required(order: BindingOrder) -> tuple[Item, ...]:
    """The checklist of an order of binding."""
    if order is BindingOrder.C:
        return (Item.CONSENT, Item.AGREEMENT)
    return (Item.CONSENT, Item.AGREEMENT, Item.ENROLMENT)


def waiting_for(registration: Registration) -> tuple[Item, ...]:
    """Which required items are missing, in the order in which people are told; nothing once it is closed."""
    if not registration.is_open:
        return ()
    there = {
        Item.CONSENT: registration.consented_at,
        Item.AGREEMENT: registration.agreement_active_at,
        Item.ENROLMENT: registration.enrolled_at,
    }
    return tuple(item for item in required(registration.binding_order) if there[item] is None)


def capture_is_due(registration: Registration) -> bool:
    """Whether the terminal should capture now: at once in order B; in order A once consent and agreement are there."""
    missing = waiting_for(registration)
    if Item.ENROLMENT not in missing:
        return False
    return registration.binding_order is BindingOrder.B or missing == (Item.ENROLMENT,)


class CaptureState(StrEnum):
    """How one attempt to capture stands."""

    ASKED = "asked"
    """A terminal was told to capture."""
    CAPTURED = "captured"
    """The template came over the terminal's own signature. Final."""
    FAILED = "failed"
    """The terminal could not; it may be resumed at any terminal of the operator. Final."""
    CANCELLED = "cancelled"
    """Resumed elsewhere, or nothing is to be captured any more. Final."""


class CaptureEvent(StrEnum):
    """What may happen to a capture."""

    CAPTURE = "capture"
    """The template arrived."""
    FAIL = "fail"
    """The terminal gave up."""
    CANCEL = "cancel"
    """It is not wanted any more, at this terminal at least."""


CAPTURE_LIFE: Final = Lifecycle(
    "capture",
    CaptureState.ASKED,
    {
        (CaptureState.ASKED, CaptureEvent.CAPTURE): CaptureState.CAPTURED,
        (CaptureState.ASKED, CaptureEvent.FAIL): CaptureState.FAILED,
        (CaptureState.ASKED, CaptureEvent.CANCEL): CaptureState.CANCELLED,
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """A row of `capture`: one attempt at one terminal."""

    id: str
    registration_id: str
    person_id: str
    terminal_id: str
    state: CaptureState
    reason: str | None
    asked_at: datetime
    expires_at: datetime
    finished_at: datetime | None
