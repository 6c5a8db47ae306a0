"""A circle: spenders, payers, approvers and viewers with one time zone (a family, a team). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from kinpay.primitives.lifecycle import Lifecycle


class Role(StrEnum):
    """What a member is to a circle; one person may have several."""

    PAYER = "payer"
    """Their provider account is debited; sees to members and to a frozen circle."""
    APPROVER = "approver"
    """May answer requests."""
    VIEWER = "viewer"
    """May look."""
    SPENDER = "spender"
    """Spends without their own money; comes in by a registration only."""


INVITED_ROLES: Final = frozenset({Role.PAYER, Role.APPROVER, Role.VIEWER})
"""The roles that a payer may offer; a spender registers."""
FREEZING_ROLES: Final = frozenset({Role.PAYER, Role.SPENDER})
"""Whoever may stop all spending at once: also the protected person themself."""


class CircleState(StrEnum):
    """Whether a circle may spend."""

    ACTIVE = "active"
    """Limits decide."""
    FROZEN = "frozen"
    """Nothing is reserved, whatever the limits say."""


class CircleEvent(StrEnum):
    """What may happen to a circle as a whole."""

    FREEZE = "freeze"
    """Somebody who pays or spends stops everything."""
    UNFREEZE = "unfreeze"
    """A payer, freshly proven, lets it go on."""


CIRCLE_LIFE: Final = Lifecycle(
    "circle",
    CircleState.ACTIVE,
    {
        (CircleState.ACTIVE, CircleEvent.FREEZE): CircleState.FROZEN,
        (CircleState.FROZEN, CircleEvent.UNFREEZE): CircleState.ACTIVE,
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A person in a circle, with every role they have there now."""

    person_id: str
    display_name: str
    roles: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Circle:
    """A circle as its members see it; `time_zone` is an IANA name. `members` is empty where only a list was asked for."""

    id: str
    operator_id: str
    name: str
    time_zone: str
    state: str
    created_at: datetime
    members: tuple[Member, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """An offered role that waits for the person's own yes; it ends by itself at `expires_at`."""

    circle_id: str
    circle_name: str
    role: str
    invited_by: str
    invited_by_name: str
    expires_at: datetime
