"""What each side sees of a registration. A spender's view takes the same steps whether or not a payer was reached."""

from __future__ import annotations

from typing import Any

from kinpay.database.sql import Connection
from kinpay.mandates.agreement import AgreementState
from kinpay.mandates.agreement_store import agreement_row
from kinpay.people.person import Person
from kinpay.people.store import person_row
from kinpay.primitives.actor import Actor, ActorKind
from kinpay.primitives.errors import NotFound
from kinpay.registrations import store
from kinpay.registrations.bodies import (
    AgreementShown,
    CaptureOut,
    Checklist,
    PayerView,
    PlaceOut,
    SpenderShown,
    SpenderView,
    TerminalView,
)
from kinpay.registrations.capture import GUIDANCE, latest_capture
from kinpay.registrations.registration import CARD_MARK, Registration, RegistrationState, waiting_for
from kinpay.terminals.store import find_terminal

View = SpenderView | PayerView | TerminalView


async def look(conn: Connection, actor: Actor, *, registration_id: str) -> View:
    """The asker's part of a registration; who pays for themself sees the payer's.

    Raises: NotFound for everybody whom it does not concern.
    """
    registration = await store.find(conn, registration_id)
    if registration is None:
        raise NotFound()
    if actor.kind is ActorKind.TERMINAL:
        return await terminal_view(conn, registration, terminal_id=actor.id)
    if actor.id == registration.payer_id:
        return await payer_view(conn, registration)
    if actor.id == registration.spender_id:
        return await spender_view(conn, registration)
    raise NotFound()


def _shared(registration: Registration) -> dict[str, Any]:
    enrolled = registration.enrolled_at is not None if registration.needs_capture else None
    return {
        "registration_id": registration.id,
        "state": str(registration.state),
        "business_type": registration.business_type,
        "binding_order": str(registration.binding_order),
        "checklist": Checklist(
            consented=registration.consented_at is not None,
            agreement_active=registration.agreement_active_at is not None,
            enrolled=enrolled,
        ),
        "waiting_for": [str(item) for item in waiting_for(registration)],
        "created_at": registration.created_at,
        "expires_at": registration.expires_at,
        "closed_at": registration.closed_at,
    }


async def spender_view(conn: Connection, registration: Registration) -> SpenderView:
    """As the spender sees it."""
    spender = await _person(conn, registration.spender_id)
    is_bound = registration.state is RegistrationState.BOUND
    return SpenderView(
        **_shared(registration),
        payer_account=_as_named(registration),
        match_number=registration.match_number if registration.is_open else None,
        terminal=await _place(conn, registration),
        capture=await _capture(conn, registration, reader="spender", locale=spender.locale),
        circle_id=registration.circle_id if is_bound else None,
        mandate_id=registration.mandate_id if is_bound else None,
    )


async def payer_view(conn: Connection, registration: Registration) -> PayerView:
    """As the payer sees it."""
    spender = await _person(conn, registration.spender_id)
    account = None if spender.assisted else spender.account
    consented = registration.mandate_id is not None
    return PayerView(
        **_shared(registration),
        spender=SpenderShown(person_id=spender.id, display_name=spender.display_name, account=account),
        terminal=await _place(conn, registration),
        agreement=await _agreement(conn, registration),
        circle_id=registration.circle_id if consented else None,
        mandate_id=registration.mandate_id,
    )


async def terminal_view(conn: Connection, registration: Registration, *, terminal_id: str) -> TerminalView:
    """As a terminal sees it: the one where the spender registered, or the one that was asked to capture last.

    Raises: NotFound for any other.
    """
    capture = await latest_capture(conn, registration.id)
    if terminal_id not in (registration.terminal_id, None if capture is None else capture.terminal_id):
        raise NotFound()
    spender = await _person(conn, registration.spender_id)
    stands_for = spender.assisted and terminal_id == registration.terminal_id
    return TerminalView(
        **_shared(registration),
        spender_name=spender.display_name if stands_for else None,
        payer_account=_as_named(registration) if stands_for else None,
        match_number=registration.match_number if stands_for and registration.is_open else None,
        capture=await _capture(conn, registration, reader="terminal", locale=spender.locale),
    )


def _as_named(registration: Registration) -> str | None:
    """The payer's account as the asker typed it; a card is not spelled out."""
    return None if registration.payer_account.startswith(CARD_MARK) else registration.payer_account


async def _person(conn: Connection, person_id: str) -> Person:
    person = await person_row(conn, person_id)
    assert person is not None, "a spender is a person"
    return person


async def _place(conn: Connection, registration: Registration) -> PlaceOut | None:
    terminal = None if registration.terminal_id is None else await find_terminal(conn, registration.terminal_id)
    if terminal is None:
        return None
    return PlaceOut(terminal_id=terminal.id, name=terminal.name, merchant=terminal.merchant_name, site=terminal.site_name)


async def _capture(conn: Connection, registration: Registration, *, reader: str, locale: str) -> CaptureOut | None:
    capture = await latest_capture(conn, registration.id)
    if capture is None:
        return None
    return CaptureOut.model_validate(
        {
            "capture_id": capture.id,
            "state": str(capture.state),
            "reason": capture.reason,
            "guidance": GUIDANCE[reader][locale],
            "expires_at": capture.expires_at,
        }
    )


async def _agreement(conn: Connection, registration: Registration) -> AgreementShown | None:
    agreement = None if registration.agreement_id is None else await agreement_row(conn, registration.agreement_id)
    if agreement is None:
        return None
    url = agreement.action_url if agreement.state is AgreementState.PENDING else None
    return AgreementShown.model_validate({"agreement_id": agreement.id, "state": str(agreement.state), "sign_url": url})
