"""A charge as it is told: to the terminal what a till needs, to people of the circle what concerns their money."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec

from kinpay.charges.charge import ChargeState
from kinpay.charges.request import Charge

_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class ReasonAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One limit or condition that said no; how much of it was used is told only to the circle, never to a till."""

    code: str
    at_most: int | None = None
    at_least: int | None = None
    used: int | None = None
    remaining: int | None = None
    resets_at: _Moment | None = None


class RefusalAnswer(msgspec.Struct, frozen=True):
    """Why not, and what would still pass: `possible_now_minor` now (0: nothing), the whole from `again_at` (null: never)."""

    reasons: list[ReasonAnswer]
    possible_now_minor: int
    again_at: _Moment | None


class ItemAnswer(msgspec.Struct, frozen=True):
    """A line of the receipt, as the till told it."""

    code: str
    amount_minor: int
    quantity: int


class FaceAnswer(msgspec.Struct, frozen=True):
    """How sure it was who stood there: the chance of charging a wrong circle is at most `bound` (95 %), and at most `permitted`
    for this amount; found among `gallery_size` by `model_id` from the cosine `threshold` on, with `factor` beside the face.
    """

    bound: float
    permitted: float
    threshold: float
    gallery_size: int
    model_id: str
    factor: str


class ChargeAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A charge. Amounts in minor units of `currency`."""

    id: str
    state: str
    amount_minor: int
    currency: str
    captured_minor: int
    refunded_minor: int
    merchant_id: str
    terminal_id: str
    method: str
    decided_at: _Moment
    hold_expires_at: _Moment | None = None
    finished_at: _Moment | None = None
    reference: str | None = None
    late: bool = False
    refusal: RefusalAnswer | None = None
    items: list[ItemAnswer] | None = None
    fare_minor: int | None = None
    due_on: str | None = None
    circle_id: str | None = None
    spender_id: str | None = None
    payer_id: str | None = None
    mandate_id: str | None = None
    mcc: str | None = None
    face: FaceAnswer | None = None


def told(charge: Charge, *, to_circle: bool) -> ChargeAnswer:
    """The charge's answer. `to_circle`: with whose money it was and how far the limits are used."""
    only_circle: dict[str, Any] = {}
    if to_circle:
        only_circle = {
            "circle_id": charge.circle_id,
            "spender_id": charge.spender_id,
            "payer_id": charge.payer_id,
            "mandate_id": charge.mandate_id,
            "mcc": charge.mcc,
            "face": None if charge.face is None else msgspec.convert(charge.face, FaceAnswer),
        }
    return ChargeAnswer(
        id=charge.id,
        state=charge.state.value,
        amount_minor=charge.amount_minor,
        currency=charge.currency,
        captured_minor=charge.captured_minor or 0,
        refunded_minor=charge.refunded_minor,
        merchant_id=charge.merchant_id,
        terminal_id=charge.terminal_id,
        method=charge.method,
        decided_at=charge.decided_at,
        hold_expires_at=charge.hold_expires_at if charge.state is ChargeState.HELD else None,
        finished_at=charge.finished_at,
        reference=charge.reference,
        late=charge.late,
        refusal=_refusal(charge.refusal, to_circle=to_circle) if charge.refusal else None,
        items=[ItemAnswer(item.code, item.amount_minor, item.quantity) for item in charge.items] or None,
        fare_minor=charge.fare_minor,
        due_on=charge.due_on.isoformat() if charge.due_on else None,
        **only_circle,
    )


def _refusal(stored: Mapping[str, Any], *, to_circle: bool) -> RefusalAnswer:
    shown = ("code", "at_most", "at_least", "used", "remaining", "resets_at") if to_circle else ("code", "resets_at")
    reasons = [{name: reason[name] for name in shown if name in reason} for reason in stored["reasons"]]
    return msgspec.convert({**stored, "reasons": reasons}, RefusalAnswer)


def status_of(charge: Charge) -> int:
    """202 while the provider's answer is not known yet, 201 otherwise."""
    return 202 if charge.state is ChargeState.SUBMITTED else 201
