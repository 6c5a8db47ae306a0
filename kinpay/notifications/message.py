"""A notice: one person told one thing, once, in their language. Which kinds there are, and who is told of a charge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Protocol


class NoticeKind(StrEnum):
    """What a notice can be about. Where a kind does not say otherwise, whoever caused it names the people to tell."""

    ACCOUNT_TRIED = "account_tried"
    """The owner of an account name: somebody tried to open it again, perhaps to take it over."""

    SECOND_PERSON_WANTED = "second_person_wanted"
    """The operator's other owners: one of the staff wants to do what takes two people."""
    SECOND_PERSON_AGREED = "second_person_agreed"
    """Whoever of the staff asked: another owner agreed, it may be done now."""
    SECOND_PERSON_REFUSED = "second_person_refused"
    """Whoever of the staff asked: another owner did not agree."""

    CIRCLE_INVITED = "circle_invited"
    """The invited person: an offered role waits for their yes."""
    CIRCLE_JOINED = "circle_joined"
    """All members, because somebody more sees or pays what they spend."""
    CIRCLE_LEFT = "circle_left"
    """All members, the one who left too."""
    CIRCLE_REMOVED = "circle_removed"
    """All members and the one who was removed."""
    CIRCLE_FROZEN = "circle_frozen"
    """All members: nothing can be paid from now on."""
    CIRCLE_UNFROZEN = "circle_unfrozen"
    """All members: spending goes on."""
    CIRCLE_RESTORED = "circle_restored"
    """The circle's payers: the database was restored, so that what they changed since that moment may be lost."""
    STATEMENT_CLOSED = "statement_closed"
    """The figures of a month are final: to the circle's payers."""
    TIME_ZONE_CHANGED = "time_zone_changed"
    """All members, because days and months of every limit begin at another hour."""

    REGISTRATION_REQUESTED = "registration_requested"
    """The payer: somebody asks to be paid for ([0021])."""
    REGISTRATION_APPROVED = "registration_approved"
    """Spender and payer: the payer consented, something else may be lacking still."""
    REGISTRATION_REFUSED = "registration_refused"
    """Spender and payer: it was refused."""
    REGISTRATION_EXPIRED = "registration_expired"
    """Spender and payer: nobody completed it in time ([0030])."""
    REGISTRATION_WITHDRAWN = "registration_withdrawn"
    """Spender and payer: the spender took it back."""
    REGISTRATION_BOUND = "registration_bound"
    """Spender and payer: it is complete, the spender may pay ([0029])."""
    REGISTRATION_UNSIGNED = "registration_unsigned"
    """The payer: the agreement that they consented to did not come about; they may choose again."""
    CAPTURE_GUIDANCE = "capture_guidance"
    """The spender: how to be captured at the terminal ([0027])."""
    CAPTURE_FAILED = "capture_failed"
    """The spender: the terminal could not, they may try again."""
    CAPTURE_LAPSED = "capture_lapsed"
    """The spender: nobody answered within the minutes for which a capture may be kept, so it was destroyed ([0030])."""

    AGREEMENT_ACTIVE = "agreement_active"
    """The payer: from now on they can be debited without a password."""
    AGREEMENT_REFUSED = "agreement_refused"
    """The payer: the agreement will never be."""
    AGREEMENT_ENDED = "agreement_ended"
    """The payer and the circle's approvers: nothing is debited under it any more."""
    MANDATE_CHANGED = "mandate_changed"
    """Payer, spender and approvers: other limits are in force."""
    MANDATE_PAUSED = "mandate_paused"
    """Payer, spender and approvers: the payer stopped it for a while."""
    MANDATE_RESUMED = "mandate_resumed"
    """Payer, spender and approvers: it goes on."""
    MANDATE_SUSPENDED = "mandate_suspended"
    """Payer, spender and approvers: nothing funds it any more, and why."""
    MANDATE_RESTORED = "mandate_restored"
    """Payer, spender and approvers: it is funded again."""
    MANDATE_ENDED = "mandate_ended"
    """Payer, spender and approvers: it is over, and by whose wish."""
    POOL_MADE = "pool_made"
    """The payer: their shared limit is in force."""
    POOL_CHANGED = "pool_changed"
    """The payer: their shared limit is another one."""
    POOL_ENDED = "pool_ended"
    """The payer: their shared limit is gone."""
    CARD_ISSUED = "card_issued"
    """The bearer and the circle's payers: there is a printed card that spends."""
    CARD_REVOKED = "card_revoked"
    """The bearer and the circle's payers: a card is worthless."""
    CARD_LOCKED = "card_locked"
    """The bearer and the circle's payers: too many wrong PINs, perhaps of a finder."""
    FACE_CONSENT_WANTED = "face_consent_wanted"
    """The payer: a minor, or somebody of unknown age, stands at a terminal; their face needs the payer's own word first."""
    FACE_ENROLLED = "face_enrolled"
    """The spender and the payer: there is a template of a face that may pay."""
    FACE_ERASED = "face_erased"
    """The spender and whoever pays for them: it was withdrawn and is gone; card and codes stay."""
    FACE_LOCKED = "face_locked"
    """The spender and whoever pays for them: somebody was wrong before a camera, or with a PIN, once too often."""
    FACE_ALIKE = "face_alike"
    """The operator's owners and support: two accounts seem to have one face; somebody has to look."""
    PHONE_REVOKED = "phone_revoked"
    """The bearer and the circle's payers: a phone does not pay any more."""

    CHARGE_HELD = "charge_held"
    """The spender, if what is held is captured later: the money is reserved, nobody is debited yet."""
    CHARGE_REFUSED = "charge_refused"
    """The spender and the payer (before any payer is known, all payers of the circle): every reason, and what would pass."""
    CHARGE_DUE = "charge_due"
    """The spender: delivered, and debited with the day."""
    DAILY_DEBITED = "daily_debited"
    """The payer: what a day came to was debited, as one sum."""
    DAILY_OWED = "daily_owed"
    """The payer: the provider refused a day's debit; it is owed, blocks the mandates, and is tried again."""
    CHARGE_SUCCEEDED = "charge_succeeded"
    """The spender, the payer, and who may approve or view in the circle: the payer was debited."""
    CHARGE_SUCCEEDED_LATE = "charge_succeeded_late"
    """The same: the payer was debited after all, although it was held for failed."""
    CHARGE_VOIDED = "charge_voided"
    """The spender: what was held is released. The payer too where a debit had been under way or the right to pay was gone."""
    CHARGE_DECLINED = "charge_declined"
    """The spender and the payer: the provider said no; only the payer hears why."""
    CHARGE_OWED = "charge_owed"
    """The spender, the payer and the approvers: delivered but not paid, which blocks the mandate; only the payer hears why."""
    CHARGE_REFUNDED = "charge_refunded"
    """The spender and the payer: money is on its way back, and the limit has it again."""
    CHARGE_DEBITED_TWICE = "charge_debited_twice"
    """The payer: a second debit of one payment succeeded and is on its way back."""
    REFUND_SUCCEEDED = "refund_succeeded"
    """The payer: the money is back in their account."""
    REFUND_FAILED = "refund_failed"
    """The spender and the payer: the provider refused to give it back; the merchant has it."""


class Audience(StrEnum):
    """Who, of the people around a charge."""

    SPENDER = "spender"
    """Whose purchase it is."""
    PAYER = "payer"
    """Who was or would have been debited; all payers of the circle if that was never decided."""
    APPROVERS = "approvers"
    """The circle's approvers."""
    VIEWERS = "viewers"
    """The circle's viewers."""


_S, _P, _A, _V = Audience.SPENDER, Audience.PAYER, Audience.APPROVERS, Audience.VIEWERS

CHARGE_AUDIENCE: Final[Mapping[NoticeKind, frozenset[Audience]]] = MappingProxyType(
    {
        NoticeKind.CHARGE_HELD: frozenset({_S}),
        NoticeKind.CHARGE_DUE: frozenset({_S}),
        NoticeKind.CHARGE_REFUSED: frozenset({_S, _P}),
        NoticeKind.CHARGE_SUCCEEDED: frozenset({_S, _P, _A, _V}),
        NoticeKind.CHARGE_SUCCEEDED_LATE: frozenset({_S, _P, _A, _V}),
        NoticeKind.CHARGE_VOIDED: frozenset({_S, _P}),
        NoticeKind.CHARGE_DECLINED: frozenset({_S, _P}),
        NoticeKind.CHARGE_OWED: frozenset({_S, _P, _A}),
        NoticeKind.CHARGE_REFUNDED: frozenset({_S, _P}),
        NoticeKind.CHARGE_DEBITED_TWICE: frozenset({_P}),
        NoticeKind.REFUND_SUCCEEDED: frozenset({_P}),
        NoticeKind.REFUND_FAILED: frozenset({_S, _P}),
    }
)
"""Who is told of what becomes of a charge, at most; see each kind for when it is fewer."""

UNEVENTFUL_VOIDS: Final = frozenset({"asked", "hold_ran_out"})
"""Why a hold is given up without a payer having to know: nothing was debited or will be, and nobody's right changed."""


class Posted(Protocol):
    """A message of the outbox as whoever delivers it needs it. Its number makes delivering twice the same as once."""

    @property
    def id(self) -> int: ...
    @property
    def topic(self) -> str: ...
    @property
    def subject_id(self) -> str: ...
    @property
    def body(self) -> Mapping[str, Any]: ...
    @property
    def created_at(self) -> datetime: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """A person who may be told: active, with a device of their own. `time_zone` is their operator's."""

    id: str
    locale: str
    time_zone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What a person reads."""

    title: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A row of `notice`. `created_at` is the moment of its cause; `facts` are ids, amounts in minor units and names."""

    id: str
    kind: str
    subject_id: str
    title: str
    text: str
    facts: Mapping[str, Any]
    created_at: datetime
    read_at: datetime | None
