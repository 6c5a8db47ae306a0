"""The printed card of a person without a phone, and the circle that it names before any payer has agreed.

A card names a circle, and a payer who is asked may never answer; so an assisted spender is entered in a circle of their own,
which the payer adopts with a new circle's name, or leaves behind for one they have (then the card is issued anew there).
See docs/decisions/0006-assisted-cards.md.
"""

from __future__ import annotations

from datetime import datetime

import segno

from kinpay.database import audit
from kinpay.database.audit import Event
from kinpay.database.sql import Connection, Sql
from kinpay.mandates.credential import NewCode, card_terms, issue_card, revoke_card
from kinpay.people.circle import Role
from kinpay.people.open_circle import INSERT_CIRCLE
from kinpay.people.person import Person
from kinpay.people.store import add_member, circle_row, person_row
from kinpay.primitives.actor import Actor
from kinpay.primitives.clock import zone
from kinpay.primitives.errors import NotFound, WrongState
from kinpay.primitives.ids import new_id
from kinpay.primitives.server_keys import ServerKeys
from kinpay.registrations import store
from kinpay.registrations.registration import Registration, RegistrationState
from kinpay.terminals.codes import Codes


async def open_provisional_circle(conn: Connection, spender: Person, *, time_zone: str, now: datetime) -> str:
    """A circle in which an assisted spender stands alone until a payer adopts it; returns its id."""
    circle_id = new_id()
    await INSERT_CIRCLE.run(
        conn,
        id=circle_id,
        operator_id=spender.operator_id,
        name=spender.display_name,
        time_zone=time_zone,
        now=now,
    )
    event = Event("circle.opened", circle_id, {"time_zone": time_zone, "provisional": True})
    await audit.record(conn, circle_id, event, now=now)
    return circle_id


IS_UNUSED = Sql("""
    SELECT c.created_at >= :asked_at
           AND NOT EXISTS (SELECT FROM charge h WHERE h.circle_id = c.id AND h.state <> 'refused')
           AND NOT EXISTS (SELECT FROM circle_member m WHERE m.circle_id = c.id AND m.person_id <> :payer_id)
           AND NOT EXISTS (SELECT FROM mandate d WHERE d.circle_id = c.id AND d.id IS DISTINCT FROM :mandate_id)
    FROM circle c WHERE c.id = :circle_id
""")


async def may_adopt(conn: Connection, registration: Registration, *, payer_id: str) -> bool:
    """Whether the registration's circle was made for it (or by an earlier yes to it) and nothing else has come of it since:
    at most refusals, which use nothing.

    A circle that the payer chose before, and that lost its agreement again, is somebody's home: it is not to be made over.
    """
    named = {"circle_id": registration.circle_id, "mandate_id": registration.mandate_id, "payer_id": payer_id}
    return bool(await IS_UNUSED.value(conn, **named, asked_at=registration.created_at))


RENAME = Sql("UPDATE circle SET name = :name, time_zone = :time_zone WHERE id = :circle_id")
NOTE_ZONE = Sql("INSERT INTO circle_zone (circle_id, time_zone, since) VALUES (:circle_id, :time_zone, :now)")


async def adopt_circle(conn: Connection, circle_id: str, actor: Actor, *, name: str, time_zone: str, now: datetime) -> None:
    """Makes a provisional circle the payer's, under the name and zone they chose; the caller holds its lock.

    Nothing was ever spent in it, so no window has to be carried over. Raises: Invalid for a zone that does not exist.
    """
    zone(time_zone)
    circle = await circle_row(conn, circle_id)
    assert circle is not None, "a registration's circle is never deleted"
    await RENAME.run(conn, circle_id=circle_id, name=name, time_zone=time_zone)
    if circle.time_zone != time_zone:
        await NOTE_ZONE.run(conn, circle_id=circle_id, time_zone=time_zone, now=now)
    event = Event("circle.adopted", circle_id, {"time_zone": time_zone}, actor.id)
    await audit.record(conn, circle_id, event, now=now)
    await add_member(conn, circle_id, actor.id, Role.PAYER, now)


EVER_PRINTED = Sql("""
    SELECT EXISTS (SELECT FROM credential WHERE circle_id = :circle_id AND person_id = :person_id AND kind = 'card')
""")
CARDS = Sql("""
    SELECT id FROM credential
    WHERE circle_id = :circle_id AND person_id = :person_id AND kind = 'card' AND state = 'active' ORDER BY id
""")


async def print_card(
    conn: Connection,
    codes: Codes,
    actor: Actor,
    *,
    keys: ServerKeys,
    registration_id: str,
    pin: str,
    currency: str,
    now: datetime,
) -> NewCode:
    """A card and PIN for the assisted spender before the terminal; a card printed before is revoked by the new one.

    While the registration is open it pays nothing yet. Once it is bound a terminal prints only the card that had to be replaced
    because the payer chose another circle, and only the first one there; any further one, also after the payer revoked it, is
    the payer's to order.

    Raises: NotFound for another terminal's registration, or a spender with a phone; WrongState.
    """
    seen = await store.find(conn, registration_id)
    spender = None if seen is None else await person_row(conn, seen.spender_id)
    if seen is None or spender is None or seen.terminal_id != actor.id or not spender.assisted:
        raise NotFound()
    registration = await store.lock(conn, registration_id)
    circle_id = registration.circle_id
    assert circle_id is not None, "assisted registrations have a circle"
    had_one = await EVER_PRINTED.value(conn, circle_id=circle_id, person_id=spender.id)
    is_open = registration.is_open and registration.expires_at > now
    if not is_open and (registration.state is not RegistrationState.BOUND or had_one):
        raise WrongState("registration", state=str(registration.state), event="print_card")
    return await issue_card(
        conn,
        codes,
        keys=keys,
        circle_id=circle_id,
        person_id=spender.id,
        terms=card_terms(currency),
        pin=pin,
        actor_id=actor.id,
        now=now,
    )


def draw(code: str) -> str:
    """The code as an SVG picture, for printing."""
    return segno.make(code, error="m", micro=False).svg_inline(scale=4)


async def revoke_provisional_cards(conn: Connection, registration: Registration) -> None:
    """Revokes what an assisted spender was given in a circle that nobody pays in any more; nothing for anybody else."""
    spender = await person_row(conn, registration.spender_id)
    if registration.circle_id is None or spender is None or not spender.assisted:
        return
    for row in await CARDS.rows(conn, circle_id=registration.circle_id, person_id=spender.id):
        await revoke_card(conn, credential_id=row["id"], person_id=spender.id)
