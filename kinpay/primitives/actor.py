"""Who is asking. The server finds it out once a request; everything below only reads it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kinpay.primitives.errors import Forbidden, Unauthenticated


class ActorKind(StrEnum):
    """The kinds of asker."""

    PERSON = "person"
    """Signed in by a one-time code; what they may do is checked per object."""
    TERMINAL = "terminal"
    """A device that signed this very request."""
    API_KEY = "api_key"
    """A back office, by a key that the operator's owner made; it does what the key's scopes say, for its merchant alone."""


class Scope(StrEnum):
    """What an API key may do. Every operation that keys may ask says in the OpenAPI document which one it needs."""

    CHARGES_READ = "charges:read"
    """List and read charges, as a till sees them."""
    CHARGES_REFUND = "charges:refund"
    """Give charges back, in whole or in part."""
    WEBHOOKS_MANAGE = "webhooks:manage"
    """Make, change and remove webhook endpoints, read their log, ask for deliveries again."""
    SETTLEMENTS_READ = "settlements:read"
    """Read what the operator settles with the merchant."""
    TERMINALS_READ = "terminals:read"
    """List terminals."""


@dataclass(frozen=True, slots=True)
class Actor:
    """An authenticated asker. `staff_roles` are a person's roles at the operator (owner, installer, support).

    `scopes` and `merchant_id` are an API key's: what it may do, and for whom (None: for all merchants of the operator).
    """

    kind: ActorKind
    id: str
    operator_id: str
    staff_roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    merchant_id: str | None = None

    def acts_for(self, *, operator_id: str, merchant_id: str | None) -> bool:
        """Whether something of that merchant (None: of the operator as a whole) is within an API key's or a staff's reach."""
        return self.operator_id == operator_id and (self.merchant_id is None or self.merchant_id == merchant_id)


def actor_of(state: object) -> Actor:
    """The person or terminal that the server noted on the request's `state`; who lets keys in says so (`asker_of`).

    Raises: Unauthenticated if there is none; Forbidden for an API key.
    """
    actor = _noted(state)
    if actor.kind is ActorKind.API_KEY:
        raise Forbidden()
    return actor


def asker_of(state: object, scope: Scope) -> Actor:
    """Whoever asks; an API key only with `scope`. Raises: Unauthenticated; Forbidden for a key without it."""
    actor = _noted(state)
    if actor.kind is ActorKind.API_KEY and scope not in actor.scopes:
        raise Forbidden()
    return actor


def key_of(state: object, scope: Scope) -> Actor:
    """The asking API key, which has `scope`. Raises: Unauthenticated; Forbidden for anybody else."""
    actor = asker_of(state, scope)
    if actor.kind is not ActorKind.API_KEY:
        raise Forbidden()
    return actor


def staff_or_key_of(state: object, scope: Scope, *roles: str) -> Actor:
    """A person who has one of `roles` at their operator, or an API key with `scope`. Raises: Unauthenticated; Forbidden."""
    actor = asker_of(state, scope)
    return actor if actor.kind is ActorKind.API_KEY else staff_of(state, *roles)


def person_of(state: object) -> Actor:
    """The asking person. Raises: Unauthenticated; Forbidden for anybody else."""
    return _of_kind(state, ActorKind.PERSON)


def terminal_of(state: object) -> Actor:
    """The asking terminal. Raises: Unauthenticated; Forbidden for anybody else."""
    return _of_kind(state, ActorKind.TERMINAL)


def staff_of(state: object, *roles: str) -> Actor:
    """The asking person, who has one of `roles` at their operator. Raises: Unauthenticated; Forbidden."""
    actor = _of_kind(state, ActorKind.PERSON)
    if not actor.staff_roles.intersection(roles):
        raise Forbidden()
    return actor


def _noted(state: object) -> Actor:
    actor = getattr(state, "actor", None)
    if not isinstance(actor, Actor):
        raise Unauthenticated()
    return actor


def _of_kind(state: object, kind: ActorKind) -> Actor:
    actor = _noted(state)
    if actor.kind is not kind:
        raise Forbidden()
    return actor
