"""A charge: one purchase of a spender. A reservation against limits first, then a capture."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from kinpay.primitives.lifecycle import Lifecycle


class ChargeState(StrEnum):
    """Where a charge stands. `asking` is room for a later issue: nothing is reserved while a person is asked."""

    ASKING = "asking"
    """A person has been asked; nothing is reserved."""
    HELD = "held"
    """Reserved inside kinpay; nobody is debited yet."""
    DUE = "due"
    """Delivered, and debited with the day (the operator's): nobody is debited yet. The reservation stays."""
    SUBMITTED = "submitted"
    """A debit is at the provider, or may be: its end is not known yet. The reservation stays."""
    SUCCEEDED = "succeeded"
    """The payer was debited."""
    REFUSED = "refused"
    """A limit or condition said no. Nothing was reserved."""
    VOIDED = "voided"
    """Given up before any debit, or its debit was stopped; amount and count are released."""
    DECLINED = "declined"
    """Every agreement was definitively refused by its provider before delivery; released."""
    ARREARS = "arrears"
    """Delivered, but the debit was definitively refused: owed, shown to the payer, tried again."""


class ChargeEvent(StrEnum):
    """What can happen to a charge. Each is an audit event `charge.<event>`."""

    APPROVE = "approved"
    """A person approved what was asked; decided again under the lock."""
    REFUSE = "refused"
    """A person refused, or nobody answered."""
    COLLECT = "collected"
    """Captured; it is debited when the day is over."""
    SUBMIT = "submitted"
    """A debit row was committed; the provider is called next."""
    VOID = "voided"
    """The till gave up, the hold ran out, or the mandate or agreement ended meanwhile."""
    SUCCEED = "succeeded"
    """The provider debited the payer; or there was nothing to debit."""
    FALL_BACK = "fell_back"
    """Definitively refused; a fresh decision swapped the reservation to the next agreement."""
    DECLINE = "declined"
    """Definitively refused, and there is no next agreement."""
    OWE = "owed"
    """Definitively refused after delivery."""
    RETRY = "retried"
    """A new debit for what is owed."""
    LATE_SUCCESS = "late_success"
    """A debit held for failed, or given up, turns out to have succeeded (semantics.md, late truth)."""


_S, _E = ChargeState, ChargeEvent

CHARGE: Final = Lifecycle[ChargeState, ChargeEvent](
    "charge",
    ChargeState.HELD,
    {
        (_S.ASKING, _E.APPROVE): _S.HELD,
        (_S.ASKING, _E.REFUSE): _S.REFUSED,
        (_S.HELD, _E.SUBMIT): _S.SUBMITTED,
        (_S.HELD, _E.VOID): _S.VOIDED,
        (_S.HELD, _E.COLLECT): _S.DUE,
        (_S.HELD, _E.SUCCEED): _S.SUCCEEDED,
        (_S.DUE, _E.SUBMIT): _S.SUBMITTED,
        (_S.DUE, _E.VOID): _S.VOIDED,
        (_S.SUBMITTED, _E.SUCCEED): _S.SUCCEEDED,
        (_S.SUBMITTED, _E.FALL_BACK): _S.SUBMITTED,
        (_S.SUBMITTED, _E.DECLINE): _S.DECLINED,
        (_S.SUBMITTED, _E.VOID): _S.VOIDED,
        (_S.SUBMITTED, _E.OWE): _S.ARREARS,
        (_S.ARREARS, _E.RETRY): _S.SUBMITTED,
        (_S.ARREARS, _E.LATE_SUCCESS): _S.SUCCEEDED,
        (_S.DECLINED, _E.LATE_SUCCESS): _S.SUCCEEDED,
        (_S.VOIDED, _E.LATE_SUCCESS): _S.SUCCEEDED,
    },
)
"""Who decides `held` or `refused` at the very start is `decide`; that first event is `charge.held` or `charge.refused`."""

COUNTING: Final = frozenset({_S.HELD, _S.DUE, _S.SUBMITTED, _S.SUCCEEDED, _S.ARREARS})
"""The states in which a charge uses its limits."""


class Method(StrEnum):
    """How the spender was recognised."""

    PAY_CODE = "pay_code"
    """The one-time code on the spender's phone, read by the terminal."""
    CARD = "card"
    """The printed card: static, with its own low cap."""
    PAYMENT_CODE = "payment_code"
    """The terminal's code for this sale, read by the spender's phone."""
    FACE = "face"
    """A face, recognised before the terminal's camera; the charge keeps how sure that was."""
