"""Who is asking. The server finds it out once a request; everything below only reads it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kinpay.primitives.errors import Forbidden, Unauthenticated


class ActorKind(StrEnum):
    """The two kinds of asker, and ourselves."""

    PERSON = "person"
    """Signed in by a one-time code; what they may do is checked per object."""
    TERMINAL = "terminal"
    """A device that signed this very request."""


@dataclass(frozen=True, slots=True)
class Actor:
    """An authenticated asker. `staff_roles` are a person's roles at the operator (owner, installer, support)."""

    kind: ActorKind
    id: str
    operator_id: str
    staff_roles: frozenset[str] = frozenset()


def actor_of(state: object) -> Actor:
    """The asker that the server noted on the request's `state`.

    Raises: Unauthenticated if there is none.
    """
    actor = getattr(state, "actor", None)
    if not isinstance(actor, Actor):
        raise Unauthenticated()
    return actor


def person_of(state: object) -> Actor:
    """The asking person. Raises: Unauthenticated; Forbidden for a terminal."""
    return _of_kind(state, ActorKind.PERSON)


def terminal_of(state: object) -> Actor:
    """The asking terminal. Raises: Unauthenticated; Forbidden for a person."""
    return _of_kind(state, ActorKind.TERMINAL)


def staff_of(state: object, *roles: str) -> Actor:
    """The asking person, who has one of `roles` at their operator. Raises: Unauthenticated; Forbidden."""
    actor = _of_kind(state, ActorKind.PERSON)
    if not actor.staff_roles.intersection(roles):
        raise Forbidden()
    return actor


def _of_kind(state: object, kind: ActorKind) -> Actor:
    actor = actor_of(state)
    if actor.kind is not kind:
        raise Forbidden()
    return actor
