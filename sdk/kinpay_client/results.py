"""What the server says, with types. Amounts are whole minor units; moments are aware.

Each keeps the whole answer (`body`, or by `["name"]`), with whatever a newer server says besides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from kinpay_client.answer import Answer

UNSETTLED: Final = "submitted"
"""The one state of a charge in which the provider's answer is not known yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One limit or condition that said no. How much of it is used is told to the circle only."""

    code: str
    at_most: int | None = None
    at_least: int | None = None
    used: int | None = None
    remaining: int | None = None
    resets_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why not (the first reason is the primary one), what would pass now, and when the whole would (None: never)."""

    reasons: tuple[Reason, ...]
    possible_now_minor: int
    again_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A line of the receipt."""

    code: str
    amount_minor: int
    quantity: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge(Answer):
    """A charge as it is now. `state`: held, submitted, succeeded, refused, declined, voided, arrears …

    Whose money it was (`circle_id` to `mcc`) is told to people of the circle only.
    """

    id: str
    state: str
    amount_minor: int
    currency: str
    captured_minor: int
    refunded_minor: int
    merchant_id: str
    terminal_id: str
    method: str
    decided_at: datetime
    hold_expires_at: datetime | None = None
    finished_at: datetime | None = None
    reference: str | None = None
    late: bool = False
    refusal: Refusal | None = None
    items: tuple[Item, ...] | None = None
    circle_id: str | None = None
    spender_id: str | None = None
    payer_id: str | None = None
    mandate_id: str | None = None
    mcc: str | None = None

    @property
    def is_known(self) -> bool:
        """Whether the provider's answer is known; otherwise wait for it (`settled`), and hand nothing over."""
        return self.state != UNSETTLED

    @property
    def succeeded(self) -> bool:
        """Whether the payer was debited."""
        return self.state == "succeeded"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargePage(Answer):
    """Some charges, newest first; `after` asks for the next page, None: there is none."""

    charges: tuple[Charge, ...]
    after: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionCode(Answer):
    """The address to draw as a terminal's one code; fetch the next after `rotates_in_s`."""

    code: str
    rotates_in_s: int
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a terminal stands, for people."""

    id: str
    name: str
    merchant: str
    site: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan(Answer):
    """A terminal's code was scanned: choose one of `business_types` next."""

    scan_id: str
    terminal: Place
    business_types: tuple[str, ...]
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice(Answer):
    """What registering takes: `registration_information`, signed by the server."""

    registration_information: str
    scan_id: str
    terminal_id: str
    business_type: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Something a terminal is to do before `expires_at`; `content` is what it is about."""

    id: str
    kind: str
    content: dict[str, Any]
    created_at: datetime
    expires_at: datetime
    told: dict[str, Any] = field(default_factory=dict, repr=False)

    def __getitem__(self, name: str) -> Any:
        return self.told[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentCode(Answer):
    """A code for one sale, to be drawn: ours, or (if asked for) the same sale as an EMVCo code."""

    payment_code_id: str
    payment_code: str
    expires_at: datetime
    emv_code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentCodeState(Answer):
    """Whether somebody paid with a payment code, and the charge it went into."""

    payment_code_id: str
    used: bool
    charge_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """Minor units of a currency."""

    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer(Answer):
    """What a payment code asks for, before anything is paid."""

    terminal: Place
    amount: Amount
    expires_at: datetime
    reference: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PayCode(Answer):
    """A code for one payment, for a spender's phone to show; `emv_code` is the same as an EMVCo code."""

    pay_code: str
    expires_at: datetime
    emv_code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeSent(Answer):
    """A one-time code may be under way; it belongs to `sign_in_id`."""

    sign_in_id: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A person, as they see themself."""

    id: str
    operator_id: str
    account: str
    display_name: str
    locale: str
    state: str
    staff_roles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn(Answer):
    """A session: its token, kept like a password, and whose it is."""

    token: str = field(repr=False)
    expires_at: datetime
    person: Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofSent(Answer):
    """A code for a proof is under way; with `proof_id` it is given with the act itself."""

    proof_id: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What the payer and the bank agree on; `sign_url`: where the payer signs, None if there is nothing to be signed."""

    agreement_id: str
    state: str
    sign_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderAccount:
    """A bank or wallet that a payer may choose."""

    provider_account_id: str
    provider: str
    account: str
    is_default: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration(Answer):
    """A spender's request to be paid for, as the asker sees it; `bound` is its good end."""

    registration_id: str
    state: str
    business_type: str
    binding_order: str
    waiting_for: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    seen_as: str
    match_number: int | None = None
    agreement: Agreement | None = None
    circle_id: str | None = None
    mandate_id: str | None = None
