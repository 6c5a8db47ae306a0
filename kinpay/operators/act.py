"""A privileged act: what one of the staff wants to do, and a second person has to agree to. Pure.

Source: reliability.md A30 and I24. The person who asked does it in the end, by asking once more for exactly the same: whatever
was agreed to is bound by its fingerprint, as with a control group of a secret store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import msgspec

from kinpay.primitives.lifecycle import Lifecycle

ACT_LIFE_TIME: Final = timedelta(hours=24)
"""How long a question waits, and how long after it was asked its yes may be used."""


class ActKind(StrEnum):
    """What takes two people while dual control is on."""

    STAFF_ADD = "staff.add"
    """Somebody gets a role in the staff."""
    STAFF_END = "staff.end"
    """Somebody is an owner no longer. (Other roles end by one person's word: that never gives anybody more.)"""
    API_KEY_MAKE = "api_key.make"
    """A back office may ask, with some scopes."""
    WEBHOOK_SEND = "webhook.send"
    """Events leave for an address: a new endpoint, another address of one, more that is told there, or it is switched on."""
    WEBHOOK_ROTATE = "webhook.rotate"
    """An endpoint gets a new secret: whoever has it can speak in our name."""
    SETTLEMENT_PAY = "settlement.pay"
    """A merchant's day is noted as paid."""
    BREAK_END = "break.end"
    """A difference with a provider is ended by a person, whatever they say was done about it."""
    BREAK_WRITE_OFF = "break.write_off"
    """A difference is written off: as it was asked for while other words for an end took one person."""
    DUAL_CONTROL_END = "dual_control.end"
    """From then on one person suffices."""


class ActState(StrEnum):
    """Where a privileged act stands."""

    ASKED = "asked"
    """Waits for a second owner."""
    APPROVED = "approved"
    """A second owner agreed; whoever asked may do it, once."""
    REFUSED = "refused"
    """A second owner did not agree."""
    WITHDRAWN = "withdrawn"
    """Whoever asked took it back."""
    EXPIRED = "expired"
    """Nobody answered, or the yes was not used, within a day."""
    DONE = "done"
    """It was done."""


class ActEvent(StrEnum):
    """What may happen to a privileged act."""

    APPROVE = "approve"
    """A second owner agreed to exactly this."""
    REFUSE = "refuse"
    """A second owner said no; a yes that was not used can be taken back so, too."""
    WITHDRAW = "withdraw"
    """Whoever asked wants it no more."""
    EXPIRE = "expire"
    """A day went by."""
    PERFORM = "perform"
    """Whoever asked did it, in the same transaction."""


_S, _E = ActState, ActEvent
ACT_LIFE: Final = Lifecycle(
    "privileged act",
    ActState.ASKED,
    {
        (_S.ASKED, _E.APPROVE): _S.APPROVED,
        (_S.ASKED, _E.REFUSE): _S.REFUSED,
        (_S.ASKED, _E.WITHDRAW): _S.WITHDRAWN,
        (_S.ASKED, _E.EXPIRE): _S.EXPIRED,
        (_S.APPROVED, _E.REFUSE): _S.REFUSED,
        (_S.APPROVED, _E.WITHDRAW): _S.WITHDRAWN,
        (_S.APPROVED, _E.EXPIRE): _S.EXPIRED,
        (_S.APPROVED, _E.PERFORM): _S.DONE,
    },
)


@dataclass(frozen=True, slots=True)
class Act:
    """What somebody is about to do. `about`: plain JSON values, all that a second person needs to judge it by."""

    kind: ActKind
    about: Mapping[str, Any]

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the kind and of every value: another amount, address or person is another act."""
        return fingerprint_of(self.kind, self.about)


def fingerprint_of(kind: str, about: Mapping[str, Any]) -> bytes:
    """What binds a yes to its act, from the row as well as from the request."""
    return hashlib.sha256(msgspec.json.encode([str(kind), dict(about)], order="sorted")).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivilegedAct:
    """A row of `privileged_act`. `state` is as it stands now: past `expires_at` it is expired, whatever the row says."""

    id: str
    kind: ActKind
    about: Mapping[str, Any]
    state: ActState
    asked_by: str
    asked_by_name: str
    asked_at: datetime
    expires_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    done_at: datetime | None
