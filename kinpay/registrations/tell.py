"""Telling spender and payer what became of a registration; a person without a phone is told on the terminal's screen."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from kinpay.database import outbox
from kinpay.database.sql import Connection
from kinpay.people.person import Person
from kinpay.people.store import person_row
from kinpay.registrations.registration import CARD_MARK, Registration
from kinpay.terminals.command import CommandKind, command
from kinpay.terminals.store import find_terminal

SHOWN_FOR: Final = timedelta(minutes=10)
"""How long a word to somebody at a terminal is worth showing."""


async def facts_of(conn: Connection, registration: Registration, *, spender: Person) -> dict[str, Any]:
    """What every notice about a registration says: who asks, where they stand, until when. Never the match number."""
    terminal = None if registration.terminal_id is None else await find_terminal(conn, registration.terminal_id)
    return {
        "registration_id": registration.id,
        "business_type": registration.business_type,
        "binding_order": str(registration.binding_order),
        "spender_id": spender.id,
        "spender_name": spender.display_name,
        "spender_account": None if spender.assisted else spender.account,
        "terminal_name": None if terminal is None else terminal.name,
        "site_name": None if terminal is None else terminal.site_name,
        "merchant_name": None if terminal is None else terminal.merchant_name,
        "expires_at": registration.expires_at.isoformat(),
    }


async def of_request(conn: Connection, registration: Registration, *, spender: Person, now: datetime) -> None:
    """Pushes the request to the payer ([0021]); addressed to nobody, by the same steps, where there is none to be told."""
    body = {"people": _payer_apart(registration), **await facts_of(conn, registration, spender=spender)}
    await _send(conn, "registration_requested", registration, body=body, now=now)


async def of_outcome(conn: Connection, kind: str, registration: Registration, *, now: datetime) -> None:
    """Tells both sides, each in a message of their own: approved, refused, expired, withdrawn, bound ([0029]).

    The spender's says nothing of the payer that the spender did not know: where nobody was reached it reads the same.
    """
    spender = await person_row(conn, registration.spender_id)
    assert spender is not None, "a spender is a person"
    facts = await facts_of(conn, registration, spender=spender)
    facts |= {"circle_id": registration.circle_id if registration.mandate_id else None, "mandate_id": registration.mandate_id}
    account = None if registration.payer_account.startswith(CARD_MARK) else registration.payer_account
    to_spender = [] if spender.assisted else [spender.id]
    await _send(conn, kind, registration, body={**facts, "people": to_spender, "payer_account": account}, now=now)
    await _send(conn, kind, registration, body={**facts, "people": _payer_apart(registration)}, now=now)
    if spender.assisted and registration.terminal_id is not None:
        shown = {"registration_id": registration.id, "message": kind, "locale": spender.locale}
        await command(conn, registration.terminal_id, kind=CommandKind.SHOW, body=shown, now=now, ttl=SHOWN_FOR)


def _payer_apart(registration: Registration) -> list[str]:
    """The payer, if there is one beside the spender."""
    return [] if registration.payer_id in (None, registration.spender_id) else [str(registration.payer_id)]


async def payer_of(conn: Connection, kind: str, registration: Registration, *, now: datetime) -> None:
    """Tells the payer alone, also one who pays for themself."""
    spender = await person_row(conn, registration.spender_id)
    assert spender is not None, "a spender is a person"
    people = [] if registration.payer_id is None else [registration.payer_id]
    body = {**await facts_of(conn, registration, spender=spender), "people": people}
    await _send(conn, kind, registration, body=body, now=now)


async def spender_of(conn: Connection, kind: str, registration: Registration, *, now: datetime, extra: dict[str, Any]) -> None:
    """Tells the spender alone, on their phone; whoever has none sees the terminal's own screen."""
    spender = await person_row(conn, registration.spender_id)
    assert spender is not None, "a spender is a person"
    people = [] if spender.assisted else [spender.id]
    body = {**await facts_of(conn, registration, spender=spender), "people": people, **extra}
    await _send(conn, kind, registration, body=body, now=now)


async def _send(conn: Connection, kind: str, registration: Registration, *, body: dict[str, Any], now: datetime) -> None:
    await outbox.enqueue(conn, f"notice.{kind}", lane=registration.lane, subject_id=registration.id, body=body, now=now)
