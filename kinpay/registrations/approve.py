"""The payer's answer: yes, with limits and a provider, freshly proven; or no.

Source: [0022]-[0024] (claims 4, 5, 6); threats A01, A02.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from kinpay.database import audit
from kinpay.database.audit import Event
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection
from kinpay.mandates.agreement_store import find_reusable
from kinpay.mandates.end_mandate import withdraw_mandate
from kinpay.mandates.grant import propose
from kinpay.mandates.sign_agreement import begin
from kinpay.mandates.terms import Terms
from kinpay.people.circle import Role
from kinpay.people.open_circle import open_circle
from kinpay.people.proof import burn_proof
from kinpay.people.store import member_roles, person_row
from kinpay.primitives.actor import Actor
from kinpay.primitives.errors import MatchNumberWrong, NotFound, WrongState
from kinpay.registrations import payer, store, tell
from kinpay.registrations.bind import Next, advance
from kinpay.registrations.card import adopt_circle, may_adopt, revoke_provisional_cards
from kinpay.registrations.expire import close
from kinpay.registrations.registration import Registration, RegistrationEvent, RegistrationState
from kinpay.registrations.store import Standing

OPERATION: Final = "registration.approve"
"""What a proof for approving names; its content is `approval_content`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCircle:
    """A circle that the payer opens with their yes."""

    name: str
    time_zone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A yes: in which circle (an id, or a new one), within which limits, through which provider, and the spender's number.

    `payer_account`: the payer's account name at the provider; None: the same as here.
    """

    circle: str | NewCircle
    terms: Terms
    provider_account_id: str
    payer_account: str | None
    match_number: int


def approval_content(approval: Approval) -> dict[str, Any]:
    """What a proof for an approval is bound to, beside the registration: `{terms, provider_account_id, circle}`.

    `terms` in canonical form; `circle` is an id, or `{name, time_zone}` of a new one.
    """
    circle = approval.circle
    named = circle if isinstance(circle, str) else {"name": circle.name, "time_zone": circle.time_zone}
    return {"terms": approval.terms.canonical(), "provider_account_id": approval.provider_account_id, "circle": named}


async def require_match(db: Database, actor: Actor, *, registration_id: str, match_number: int, proof_id: str) -> None:
    """Compares the number that the payer was told with the spender's; a wrong one costs the proof, so none can be tried out.

    Source: threat A02.

    Raises: NotFound for everybody but the payer asked; MatchNumberWrong; ProofInvalid if the proof was spent already.
    """
    async with db.transaction() as conn:
        registration = await store.find(conn, registration_id)
        if registration is None or registration.payer_id != actor.id:
            raise NotFound()
        if _matches(registration, match_number):
            return
        now = await database_now(conn)
        await burn_proof(conn, proof_id, now=now)
        event = Event("registration.match_number_wrong", registration.id, {"proof": proof_id}, actor.id)
        await audit.record(conn, registration.lane, event, now=now)
    raise MatchNumberWrong()


def _matches(registration: Registration, match_number: int) -> bool:
    return hmac.compare_digest(f"{match_number:02d}", f"{registration.match_number:02d}")


async def approve(
    conn: Connection, actor: Actor, *, registration_id: str, approval: Approval, proof_id: str, now: datetime
) -> Next:
    """Ticks *consented*; finds the payer's agreement, or begins one that the provider is asked for after the commit.

    `proof_id` is verified and is burnt here; `require_match` was asked before.

    Raises: NotFound for everybody but the payer asked, and for a circle or provider that is not theirs; WrongState;
    MatchNumberWrong; ProofInvalid.
    """
    registration = await _lock_as_payer(conn, actor, registration_id, approval.circle)
    if not registration.is_open or registration.consented_at is not None or registration.expires_at <= now:
        raise WrongState("registration", state=str(registration.state), event="approve")
    await burn_proof(conn, proof_id, now=now)
    if not _matches(registration, approval.match_number):
        raise MatchNumberWrong()
    circle_id = await _settle_circle(conn, actor, registration, approval.circle, now=now)
    agreement_id, is_active = await _find_or_begin(conn, actor, registration, approval, circle_id=circle_id, now=now)
    mandate_id = await propose(
        conn,
        circle_id=circle_id,
        payer_id=actor.id,
        spender_id=registration.spender_id,
        terms=approval.terms,
        agreement_ids=[agreement_id],
        proof_id=proof_id,
        now=now,
    )
    consented = await store.note_consent(
        conn,
        registration,
        circle_id=circle_id,
        mandate_id=mandate_id,
        agreement_id=agreement_id,
        agreement_is_active=is_active,
        now=now,
    )
    body = {"mandate_id": mandate_id, "agreement_id": agreement_id, "proof": proof_id, "at_once": is_active}
    await audit.record(conn, circle_id, Event("registration.approved", registration.id, body, actor.id), now=now)
    await tell.of_outcome(conn, "registration_approved", consented, now=now)
    return await advance(conn, consented, actor_id=actor.id, now=now)


async def _lock_as_payer(conn: Connection, actor: Actor, registration_id: str, circle: str | NewCircle | None) -> Registration:
    """Locks circles and registration for the payer who was asked; a stranger is turned away before any lock."""
    seen = await store.find(conn, registration_id)
    if seen is None or seen.payer_id is None or seen.payer_id != actor.id:
        raise NotFound()
    wanted = [circle] if isinstance(circle, str) else []
    await _require_payer_of(conn, actor, wanted)
    registration = await store.lock(conn, registration_id, also_circles=wanted)
    await _require_payer_of(conn, actor, wanted)
    return registration


async def _require_payer_of(conn: Connection, actor: Actor, circle_ids: Sequence[str]) -> None:
    for circle_id in circle_ids:
        if Role.PAYER not in await member_roles(conn, circle_id, actor.id):
            raise NotFound()


async def _settle_circle(
    conn: Connection, actor: Actor, registration: Registration, circle: str | NewCircle, *, now: datetime
) -> str:
    """The circle in which the payer will pay. One that was made for this registration is adopted, or left: its cards with it,
    and the mandate of an earlier yes that came to nothing.
    """
    before = registration.circle_id
    if not isinstance(circle, str) and before is not None and await may_adopt(conn, registration, payer_id=actor.id):
        await adopt_circle(conn, before, actor, name=circle.name, time_zone=circle.time_zone, now=now)
        return before
    if before is not None and before != circle:
        await revoke_provisional_cards(conn, registration)
        if registration.mandate_id is not None:
            await withdraw_mandate(conn, registration.mandate_id, now=now)
    if isinstance(circle, str):
        return circle
    return (await open_circle(conn, actor, name=circle.name, time_zone=circle.time_zone)).id


async def _find_or_begin(
    conn: Connection, actor: Actor, registration: Registration, approval: Approval, *, circle_id: str, now: datetime
) -> tuple[str, bool]:
    """The agreement, and whether the provider has the spender under it already.

    With an active agreement the provider only binds the spender (24a, claim 5), and the payer signs nothing.
    """
    found = await find_reusable(
        conn,
        circle_id=circle_id,
        payer_id=actor.id,
        provider_account_id=approval.provider_account_id,
        currency=approval.terms.currency,
    )
    if found is not None:
        standing = await store.agreement_standing(conn, found, spender_id=registration.spender_id)
        return found, standing is Standing.ACTIVE
    person = await person_row(conn, actor.id)
    assert person is not None, "an actor is a person"
    agreement_id = await begin(
        conn,
        circle_id=circle_id,
        provider_account_id=approval.provider_account_id,
        payer_id=actor.id,
        spender_id=registration.spender_id,
        payer_account=approval.payer_account or person.account,
        business_type=registration.business_type,
        currency=approval.terms.currency,
        now=now,
    )
    return agreement_id, False


async def refuse(conn: Connection, actor: Actor, *, registration_id: str, block: bool, now: datetime) -> Next:
    """The payer says no, and perhaps never again to this spender; what was captured is destroyed. Twice is as good as once.

    Raises: NotFound for everybody but the payer asked; WrongState once it ended otherwise.
    """
    registration = await _lock_as_payer(conn, actor, registration_id, None)
    if registration.state is RegistrationState.REFUSED:
        return registration, []
    if not registration.is_open:
        raise WrongState("registration", state=str(registration.state), event="refuse")
    closed = await close(conn, registration, RegistrationEvent.REFUSE, actor_id=actor.id, now=now)
    if block and registration.spender_id != actor.id:
        await payer.block(conn, actor.id, registration.spender_id, now=now)
    return closed
