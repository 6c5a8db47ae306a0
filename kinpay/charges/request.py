"""What is asked of a batch, and what it answers.

Thousands of these are made a second: compiled structs take a fifth of the time of frozen dataclasses. They hold nothing that
could lead back to them, so the collector need not look at them (`gc=False`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import msgspec

from kinpay.charges.charge import ChargeState, Method
from kinpay.charges.decide import Refuse
from kinpay.charges.order import Item, Order
from kinpay.charges.reason import Reason
from kinpay.database.idempotency import RequestKey


class Burn(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A single-use code to be burnt in the batch. `expires_at` is compared with the batch's own `now`."""

    code_id: str
    kind: str
    expires_at: datetime


class Signed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A terminal's signature whose nonce has to be fresh: recorded in the batch."""

    signer_id: str
    nonce: str


class AuthorizeRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A validated request for a charge. Its id is made before the batch, so that a repetition after a lost commit finds it."""

    charge_id: str
    key: RequestKey
    circle_id: str
    operator_id: str
    terminal_id: str
    hold_s: int
    order: Order
    method: Method
    capture: bool
    reference: str | None = None
    burn: Burn | None = None
    signed: Signed | None = None
    at_gate: bool = False
    """Whether the merchant's fare rule, if there is one, says what it costs."""
    face: dict[str, Any] | None = None
    """How sure it was who stood there, if a face pays: bound, threshold, gallery, model, second factor."""


class Taken(msgspec.Struct, frozen=True, gc=False):
    """What a counting charge takes of its limits: held or captured, and how much of that was given back."""

    gross_minor: int
    refunded_minor: int


class Charge(msgspec.Struct, kw_only=True, gc=False):
    """A charge as it stands: one row, without what concerns only the bookkeeping."""

    id: str
    circle_id: str
    operator_id: str
    merchant_id: str
    terminal_id: str
    spender_id: str
    mandate_id: str | None
    mandate_version: int | None
    agreement_id: str | None
    payer_id: str | None
    credential_id: str | None
    method: str
    mcc: str
    currency: str
    amount_minor: int
    captured_minor: int | None
    refunded_minor: int
    state: ChargeState
    capture_at_once: bool
    delivered: bool
    void_requested: bool
    late: bool
    reference: str | None
    refusal: dict[str, Any] | None
    decided_at: datetime
    hold_expires_at: datetime | None
    finished_at: datetime | None
    owed_since: datetime | None = None
    items: tuple[Item, ...] = ()
    due_on: date | None = None
    fare_minor: int | None = None
    face: dict[str, Any] | None = None

    @property
    def taken(self) -> Taken:
        """What it takes of its limits while it counts."""
        return Taken(self.debited_minor, self.refunded_minor)

    @property
    def debited_minor(self) -> int:
        """What a debit for it takes: the captured amount."""
        return self.captured_minor if self.captured_minor is not None else self.amount_minor

    @property
    def order(self) -> Order:
        """The order it was decided for, for deciding again."""
        return Order(
            self.amount_minor,
            self.currency,
            self.merchant_id,
            self.mcc,
            self.spender_id,
            self.credential_id,
            self.method,
            self.terminal_id,
            self.items,
            self.fare_minor,
        )


class Authorized(msgspec.Struct, frozen=True, gc=False):
    """The batch's answer. `fresh`: decided just now; otherwise the key was known and this is its charge as it is now."""

    charge: Charge
    fresh: bool
    in_flight: bool = False


@dataclass(slots=True)
class Verdicts:
    """What one batch came to, by position: an answer or an error each, and what has to wait for the next batch."""

    answers: dict[int, Authorized | Exception] = field(default_factory=dict)
    deferred: list[int] = field(default_factory=list)


def refusal_json(refusal: Refuse) -> dict[str, Any]:
    """A refusal as it is stored and shown; money in minor units, moments in RFC 3339."""
    return {
        "reasons": [_reason_json(reason) for reason in refusal.reasons],
        "possible_now_minor": refusal.possible_now_minor,
        "again_at": refusal.again_at.isoformat() if refusal.again_at else None,
    }


def _reason_json(reason: Reason) -> dict[str, Any]:
    said = {
        "code": reason.code,
        "at_most": reason.at_most,
        "at_least": reason.at_least,
        "used": reason.used,
        "remaining": reason.remaining,
        "resets_at": reason.resets_at.isoformat() if reason.resets_at else None,
    }
    return {name: value for name, value in said.items() if value is not None}
