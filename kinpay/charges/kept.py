"""What the audit log keeps of a new charge. Nothing of it is looked up there: it is what the row is held against later."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec

from kinpay.charges.order import Item
from kinpay.charges.request import Charge


class KeptCharge(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """What the audit log keeps of a new charge: enough to find any later change of the row by hand. None is left out."""

    amount_minor: int
    currency: str
    spender_id: str
    payer_id: str | None = None
    mandate_id: str | None = None
    mandate_version: int | None = None
    agreement_id: str | None = None
    credential_id: str | None = None
    merchant_id: str
    terminal_id: str
    method: str
    mcc: str
    state: str
    capture_at_once: bool
    hold_expires_at: str | None = None
    refusal: dict[str, Any] | None = None
    items: tuple[Item, ...] | None = None
    fare_minor: int | None = None
    face: dict[str, Any] | None = None


def audited(charge: Charge) -> KeptCharge:
    """What the audit log keeps of it."""
    return KeptCharge(
        amount_minor=charge.amount_minor,
        currency=charge.currency,
        spender_id=charge.spender_id,
        payer_id=charge.payer_id,
        mandate_id=charge.mandate_id,
        mandate_version=charge.mandate_version,
        agreement_id=charge.agreement_id,
        credential_id=charge.credential_id,
        merchant_id=charge.merchant_id,
        terminal_id=charge.terminal_id,
        method=charge.method,
        mcc=charge.mcc,
        state=charge.state,
        capture_at_once=charge.capture_at_once,
        hold_expires_at=_written(charge.hold_expires_at) if charge.hold_expires_at else None,
        refusal=charge.refusal,
        items=charge.items or None,
        fare_minor=charge.fare_minor,
        face=charge.face,
    )


@lru_cache(maxsize=256)  # the holds of one batch end at a few moments only
def _written(moment: datetime) -> str:
    return moment.isoformat()
