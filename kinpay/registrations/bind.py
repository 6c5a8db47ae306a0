"""What happens next: the one function that is called after any item of a checklist came, and the binding itself.

Source: [0027]-[0029] (claims 7 and 8), [0031] (claim 9).
"""

from __future__ import annotations

from datetime import datetime

from kinpay.biometrics import enrol
from kinpay.biometrics.enrol import Erased
from kinpay.database import audit
from kinpay.database.audit import Event
from kinpay.database.sql import Connection
from kinpay.mandates.credential import ensure_phone
from kinpay.mandates.grant import activate
from kinpay.mandates.mandate import MandateState
from kinpay.mandates.store import mandate_row
from kinpay.people.circle import Role
from kinpay.people.lock import rules_changed
from kinpay.people.store import add_member, person_row
from kinpay.registrations import store, tell
from kinpay.registrations.capture import ask_capture, latest_capture
from kinpay.registrations.expire import close, forget_template, is_overdue
from kinpay.registrations.finding import open_finding
from kinpay.registrations.registration import (
    CaptureState,
    Registration,
    RegistrationEvent,
    capture_is_due,
    waiting_for,
)
from kinpay.registrations.store import Standing

Next = tuple[Registration, list[Erased]]
"""The registration as it is now, and the templates emptied on the way: for `enrol.finish`, after the commit."""


async def advance(conn: Connection, registration: Registration, *, actor_id: str | None, now: datetime) -> Next:
    """Binds if nothing is missing any more; has the terminal capture if that is what is due; else waits.

    The caller holds the locks of circle and registration. What was ticked is checked anew here, so that nothing is bound
    on an agreement that has ended or on a template past its minutes.
    """
    if not registration.is_open:
        return registration, []
    registration, erased = await _untick_what_is_gone(conn, registration, now=now)
    if not waiting_for(registration):
        return await _bind(conn, registration, erased=erased, actor_id=actor_id, now=now)
    if capture_is_due(registration) and await open_finding(conn, registration.id) is None:
        latest = await latest_capture(conn, registration.id)
        if latest is None or latest.state is not CaptureState.ASKED:
            await ask_capture(conn, registration, actor_id=actor_id, now=now)
    return registration, erased


async def standing_of(conn: Connection, registration: Registration) -> Standing:
    """What may be expected of the agreement that its payer consented to."""
    assert registration.agreement_id is not None, "consented to"
    return await store.agreement_standing(conn, registration.agreement_id, spender_id=registration.spender_id)


async def _untick_what_is_gone(conn: Connection, registration: Registration, *, now: datetime) -> Next:
    erased: list[Erased] = []
    if registration.agreement_active_at is not None:
        standing = await standing_of(conn, registration)
        if standing is not Standing.ACTIVE:
            registration = await forget_consent(conn, registration, reason=str(standing), now=now)
    if registration.template_id is not None and await is_overdue(conn, registration.template_id, now=now):
        registration, gone = await forget_template(conn, registration, now=now)
        erased.extend(gone)
    return registration, erased


async def forget_consent(conn: Connection, registration: Registration, *, reason: str, now: datetime) -> Registration:
    """The agreement that the payer consented to did not come about, or is over: they may choose again while it is open."""
    registration = await store.forget_consent(conn, registration)
    event = Event("registration.unsigned", registration.id, {"reason": reason})
    await audit.record(conn, registration.lane, event, now=now)
    await tell.payer_of(conn, "registration_unsigned", registration, now=now)
    return registration


async def _bind(
    conn: Connection, registration: Registration, *, erased: list[Erased], actor_id: str | None, now: datetime
) -> Next:
    """Everything that a binding is, in one transaction: mandate, membership, template, credential, both told ([0029])."""
    circle_id, mandate_id = registration.circle_id, registration.mandate_id
    assert circle_id is not None
    assert mandate_id is not None
    mandate = await mandate_row(conn, mandate_id)
    if mandate is None or mandate.state is MandateState.ENDED:
        # The payer revoked the mandate before it began: that is a refusal, too.
        closed, gone = await close(conn, registration, RegistrationEvent.REFUSE, actor_id=actor_id, now=now)
        return closed, erased + gone
    if mandate.state is MandateState.PENDING:
        await activate(conn, mandate_id, now=now)
    await add_member(conn, circle_id, registration.spender_id, Role.SPENDER, now, actor_id=registration.payer_id)
    spender = await person_row(conn, registration.spender_id)
    assert spender is not None, "a spender is a person"
    if not spender.assisted:
        await ensure_phone(conn, circle_id=circle_id, person_id=spender.id, now=now)
    if registration.template_id is not None:
        kept = await enrol.confirm(conn, registration.template_id, lane=circle_id, now=now)
        assert kept, "checked under the lock, by the same clock"
    await store.move(conn, registration, RegistrationEvent.BIND, now=now)
    await audit.record(conn, circle_id, *_bindings(registration, actor_id=actor_id), now=now)
    await rules_changed(conn, circle_id)
    bound = await store.reread(conn, registration)
    await tell.of_outcome(conn, "registration_bound", bound, now=now)
    return bound, erased


def _bindings(registration: Registration, *, actor_id: str | None) -> list[Event]:
    """The two bindings of [0029]: biometric and payer; biometric, spender and payer; or of [0031]: account and account."""
    ids = {
        "mandate_id": registration.mandate_id,
        "agreement_id": registration.agreement_id,
        "payer_id": registration.payer_id,
        "spender_id": registration.spender_id,
        "template_id": registration.template_id,
    }
    events = [Event("registration.bound", registration.id, ids, actor_id)]
    template_id = registration.template_id
    if template_id is not None:
        payer, both = ({name: ids[name] for name in names} for names in (("payer_id",), ("payer_id", "spender_id")))
        events.append(Event("template.bound_to_payer", template_id, payer, actor_id))
        events.append(Event("template.bound_to_spender_and_payer", template_id, both, actor_id))
    return events
