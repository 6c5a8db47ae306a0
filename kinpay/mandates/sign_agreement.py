"""Signing an agreement: written down, asked for, learned of; callback, return page and query end in one function.

Source: [0022]-[0026], claim 4; semantics.md "Registration".
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Final

from kinpay.database import audit, outbox
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection, Sql
from kinpay.mandates.agreement import (
    OPEN_STATES,
    Agreement,
    AgreementEvent,
    AgreementState,
    Learned,
    SpenderState,
    next_check,
)
from kinpay.mandates.agreement_store import (
    agreement_row,
    check_at,
    insert_agreement,
    lock_agreement,
    move_agreement,
    note_facts,
)
from kinpay.mandates.funding import settle_funding
from kinpay.mandates.mandate import Reason
from kinpay.mandates.provider_account import Providers, provider_account
from kinpay.mandates.spender_binding import (
    BIND_TOPIC,
    enqueue_binding,
    mark_bound,
    mark_removed,
    spender_state,
    want_spender,
    wanted_spenders,
)
from kinpay.mandates.store import mandates_resting_on
from kinpay.mandates.tell import tell
from kinpay.people.lock import lock_circle, rules_changed
from kinpay.people.store import people_of
from kinpay.primitives.errors import NotFound
from kinpay.primitives.ids import is_id, new_id
from kinpay.providers.contract import (
    AgreementRequest,
    Misconfigured,
    NotExecuted,
    NotKnown,
    ProviderAgreement,
    SpenderAtProvider,
    UnknownOutcome,
)
from kinpay.providers.contract import AgreementState as Seen

log = logging.getLogger(__name__)

ACTIVE_TOPIC: Final = "agreement.active"
CLOSED_TOPIC: Final = "agreement.closed"
END_TOPIC: Final = "agreement.end"
_FIRST_CHECK: Final = timedelta(seconds=30)
"""How long the request itself may take before the schedule asks after it: a crash in between leaves it to the schedule."""


async def begin(
    conn: Connection,
    *,
    circle_id: str,
    payer_id: str,
    spender_id: str,
    provider_account_id: str,
    payer_account: str,
    business_type: str,
    currency: str,
    now: datetime,
    per_debit_minor: int | None = None,
    per_day_minor: int | None = None,
) -> str:
    """Writes down an agreement that the payer wants to sign, with its first spender; `open_at_provider` then asks for it.

    `payer_account` is the payer's account name at the provider; the ceilings are the provider's own. Returns its id.

    Raises: NotFound for a provider account that is not the circle's operator's.
    """
    circle = await lock_circle(conn, circle_id)
    if await provider_account(conn, provider_account_id, operator_id=circle.operator_id) is None:
        raise NotFound()
    agreement = Agreement(
        id=new_id(),
        circle_id=circle_id,
        operator_id=circle.operator_id,
        provider_account_id=provider_account_id,
        payer_id=payer_id,
        payer_account=payer_account,
        payer_account_id=None,
        business_type=business_type,
        currency=currency,
        per_debit_minor=per_debit_minor,
        per_day_minor=per_day_minor,
        state=AgreementState.CREATED,
        provider_ref=None,
        action_url=None,
        created_at=now,
        expires_at=None,
        active_at=None,
        ended_at=None,
        ended_by=None,
        next_check_at=now + _FIRST_CHECK,
    )
    await insert_agreement(conn, agreement)
    await want_spender(conn, agreement, spender_id, now=now)
    body = {"payer": payer_id, "provider_account": provider_account_id, "business_type": business_type}
    await audit.record(conn, circle_id, audit.Event("agreement.created", agreement.id, body, payer_id), now=now)
    return agreement.id


async def open_at_provider(db: Database, providers: Providers, agreement_id: str, *, public_url: str) -> Agreement:
    """Asks the provider for an agreement that was written down, and keeps what it says; `action_url` is where to sign.

    Nobody knows, not reached or not allowed: it stays *created*, and the schedule asks again under the same key.

    Raises: NotFound.
    """
    async with db.connection() as conn:
        agreement = await _found(conn, agreement_id)
        if agreement.state is not AgreementState.CREATED:
            return agreement
        request = await _request(conn, agreement, public_url=public_url)
    try:
        provider = await providers.adapter(agreement.provider_account_id)
        seen = await provider.begin_agreement(request)
    except (UnknownOutcome, NotExecuted, Misconfigured) as error:
        return await _ask_again(db, agreement, error)
    return await learn_now(db, agreement_id, seen=seen)


async def refresh_agreement(db: Database, providers: Providers, agreement_id: str, *, public_url: str) -> Agreement:
    """Asks the provider how an agreement stands: the return page, the payer and the schedule do. Finals are not asked about.

    One that the provider never received is asked for (again), under its one key.

    Raises: NotFound.
    """
    async with db.connection() as conn:
        agreement = await _found(conn, agreement_id)
    if agreement.state not in OPEN_STATES:
        return agreement
    try:
        provider = await providers.adapter(agreement.provider_account_id)
        seen = await provider.get_agreement(agreement.id)
    except NotKnown as error:
        if agreement.state is AgreementState.CREATED:
            return await open_at_provider(db, providers, agreement_id, public_url=public_url)
        return await _ask_again(db, agreement, error)
    except (UnknownOutcome, NotExecuted, Misconfigured) as error:
        return await _ask_again(db, agreement, error)
    return await learn_now(db, agreement_id, seen=seen)


async def learn_now(db: Database, agreement_id: str, *, seen: ProviderAgreement) -> Agreement:
    """`learn_agreement` in a transaction of its own; returns the agreement as it is then. Raises: NotFound."""
    async with db.transaction() as conn:
        await lock_agreement(conn, agreement_id)
        await learn_agreement(conn, agreement_id, seen=seen, now=await database_now(conn))
        return await _found(conn, agreement_id)


async def _found(conn: Connection, agreement_id: str) -> Agreement:
    found = await agreement_row(conn, agreement_id)
    if found is None:
        raise NotFound()
    return found


NAME = Sql("SELECT display_name FROM person WHERE id = :person_id")
ACCOUNT_NAME = Sql("SELECT account FROM provider_account WHERE id = :provider_account_id")


async def _request(conn: Connection, agreement: Agreement, *, public_url: str) -> AgreementRequest:
    """What the payer is asked to sign, with the first wanted spender: the one who is bound by the signature itself."""
    wanted = await wanted_spenders(conn, agreement.id)
    spender = SpenderAtProvider(ref=wanted[0], name=await NAME.value(conn, person_id=wanted[0])) if wanted else None
    return AgreementRequest(
        key=agreement.id,
        payer_account=agreement.payer_account,
        account=await ACCOUNT_NAME.value(conn, provider_account_id=agreement.provider_account_id),
        business_type=agreement.business_type,
        currency=agreement.currency,
        per_debit_minor=agreement.per_debit_minor,
        per_day_minor=agreement.per_day_minor,
        valid_until=None,
        return_url=f"{public_url.rstrip('/')}/agreements/{agreement.id}/return",
        spender=spender,
    )


async def _ask_again(db: Database, agreement: Agreement, error: Exception) -> Agreement:
    """Leaves an undecided agreement to the schedule: nothing is known, so nothing is changed."""
    level = logging.ERROR if isinstance(error, Misconfigured) else logging.WARNING
    log.log(level, "agreement not answered", extra={"agreement": agreement.id, "error": type(error).__name__})
    async with db.transaction() as conn:
        await check_at(conn, agreement.id, next_check(agreement.created_at, await database_now(conn)))
        return await _found(conn, agreement.id)


_EVENTS: Final = {
    (AgreementState.CREATED, Seen.PENDING): AgreementEvent.ASK,
    (AgreementState.CREATED, Seen.ACTIVE): AgreementEvent.OPEN,
    (AgreementState.PENDING, Seen.ACTIVE): AgreementEvent.OPEN,
    (AgreementState.CREATED, Seen.REFUSED): AgreementEvent.REFUSE,
    (AgreementState.PENDING, Seen.REFUSED): AgreementEvent.REFUSE,
    (AgreementState.CREATED, Seen.ENDED): AgreementEvent.END,
    (AgreementState.PENDING, Seen.ENDED): AgreementEvent.END,
    (AgreementState.ACTIVE, Seen.ENDED): AgreementEvent.END,
}
"""What a word of the provider means here; whatever is not listed is late or repeated, and moves nothing."""


async def learn_agreement(conn: Connection, agreement_id: str, *, seen: ProviderAgreement, now: datetime) -> Learned:
    """Takes in what the provider says of an agreement, whoever brought it: the one way to *active*, *refused* and *ended*.

    Finals never reopen: if the provider holds open what is closed here, it is told to end it. Mandates that rested on it alone
    are suspended, those that waited for it go on; everybody concerned is told.

    Raises: NotFound; ValueError for a word about another agreement.
    """
    _, agreement = await lock_agreement(conn, agreement_id)
    if seen.key != agreement.id:
        raise ValueError("a word about another agreement")
    before = agreement.state
    if before not in OPEN_STATES:
        if seen.state in (Seen.PENDING, Seen.ACTIVE) and before is AgreementState.ENDED:
            await enqueue_end(conn, agreement, now=now)
        return Learned(agreement_id=agreement.id, circle_id=agreement.circle_id, before=before, state=before)
    event = _EVENTS.get((before, seen.state))
    if event is AgreementEvent.OPEN and seen.payer_account_id is None:
        # Without the payer's account there is nothing to book debits against: the provider is asked again [0026].
        event = None
    await _keep_facts(conn, agreement, seen, now=now)
    if event is not None:
        agreement = await move_agreement(conn, agreement, event, now=now, ended_by=seen.ended_by)
        await _follow(conn, agreement, event, now=now)
    removed = await _drop_removed(conn, agreement, seen, now=now)
    return Learned(
        agreement_id=agreement.id,
        circle_id=agreement.circle_id,
        before=before,
        state=agreement.state,
        removed_spenders=removed,
    )


async def _keep_facts(conn: Connection, agreement: Agreement, seen: ProviderAgreement, *, now: datetime) -> None:
    await note_facts(
        conn,
        agreement.id,
        provider_ref=seen.provider_ref or None,
        action_url=seen.action_url if seen.state is Seen.PENDING else None,
        expires_at=seen.expires_at,
        payer_account_id=seen.payer_account_id,
    )
    await check_at(conn, agreement.id, next_check(agreement.created_at, now))


async def _follow(conn: Connection, agreement: Agreement, event: AgreementEvent, *, now: datetime) -> None:
    """What the move of an agreement means for spenders, mandates and people."""
    if event is AgreementEvent.ASK:
        return
    if event is AgreementEvent.OPEN:
        wanted = await wanted_spenders(conn, agreement.id)
        for spender_id in wanted[:1]:
            await mark_bound(conn, agreement, spender_id, now=now)
        for spender_id in wanted[1:]:
            await enqueue_binding(conn, BIND_TOPIC, agreement, spender_id, now=now)
    await after_move(conn, agreement, now=now)


async def after_move(conn: Connection, agreement: Agreement, *, now: datetime) -> None:
    """Settles the mandates that rest on an agreement that has just become active or final, and tells its payer."""
    for mandate in await mandates_resting_on(conn, agreement.id, circle_id=agreement.circle_id):
        await settle_funding(conn, mandate, now=now)
    topic = ACTIVE_TOPIC if agreement.state is AgreementState.ACTIVE else CLOSED_TOPIC
    facts = {"agreement_id": agreement.id, "state": str(agreement.state)}
    await outbox.enqueue(conn, topic, lane=agreement.circle_id, subject_id=agreement.id, body=facts, now=now)
    people = {agreement.payer_id}
    if agreement.state is AgreementState.ENDED:
        people.update(await people_of(conn, agreement.circle_id, "approver"))
    await tell(
        conn,
        f"agreement_{agreement.state}",
        circle_id=agreement.circle_id,
        subject_id=agreement.id,
        people=people,
        body={**facts, "provider_account_id": agreement.provider_account_id, "ended_by": agreement.ended_by},
        now=now,
    )


async def _drop_removed(conn: Connection, agreement: Agreement, seen: ProviderAgreement, *, now: datetime) -> tuple[str, ...]:
    """Suspends the mandates of spenders whom the payer removed at the provider (claim 5)."""
    removed: list[str] = []
    for ref in sorted(seen.removed_spender_refs):
        # One who is wanted again waits for the provider to bind them: the removal is the old one.
        if not is_id(ref) or await spender_state(conn, agreement.id, ref) is not SpenderState.BOUND:
            continue
        await mark_removed(conn, agreement, ref, now=now)
        removed.append(ref)
        for mandate in await mandates_resting_on(conn, agreement.id, circle_id=agreement.circle_id):
            if mandate.spender_id == ref:
                await settle_funding(conn, mandate, now=now, reason=Reason.SPENDER_REMOVED)
    if removed:
        await rules_changed(conn, agreement.circle_id)
    return tuple(removed)


async def enqueue_end(conn: Connection, agreement: Agreement, *, now: datetime) -> None:
    """Has the provider told that the agreement is ended here."""
    body = {"agreement_id": agreement.id}
    await outbox.enqueue(conn, END_TOPIC, lane=agreement.circle_id, subject_id=agreement.id, body=body, now=now)
