"""How registrations are kept. Whoever moves one holds the lock of its circle, where it has one, and then of its row."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from kinpay.database.sql import Connection, Record, Sql
from kinpay.mandates.agreement import OPEN_STATES, AgreementState, SpenderState
from kinpay.people.lock import lock_circle
from kinpay.primitives.errors import Busy, Conflict, NotFound
from kinpay.registrations.registration import (
    REGISTRATION_LIFE,
    BindingOrder,
    Registration,
    RegistrationEvent,
    RegistrationState,
)


class Standing(StrEnum):
    """What may be expected of the agreement that a consent rests on."""

    COMING = "coming"
    """The payer has not signed yet, or the provider does not have the spender yet."""
    ACTIVE = "active"
    """Debits may be sent for this spender."""
    GONE = "gone"
    """Refused, ended, or the spender was removed from it."""


def _registration(row: Record) -> Registration:
    state, order = RegistrationState(row["state"]), BindingOrder(row["binding_order"])
    return Registration(**{**row, "state": state, "binding_order": order})


INSERT = Sql("""
    INSERT INTO registration (id, operator_id, scan_id, terminal_id, business_type, binding_order, spender_id, payer_id,
                              payer_account, match_number, state, circle_id, created_at, expires_at)
    VALUES (:id, :operator_id, :scan_id, :terminal_id, :business_type, :binding_order, :spender_id, :payer_id,
            :payer_account, :match_number, :state, :circle_id, :created_at, :expires_at)
""")


async def insert(conn: Connection, new: Registration) -> None:
    """Writes an open registration on whose checklist nothing is ticked yet."""
    await INSERT.run(
        conn,
        id=new.id,
        operator_id=new.operator_id,
        scan_id=new.scan_id,
        terminal_id=new.terminal_id,
        business_type=new.business_type,
        binding_order=new.binding_order,
        spender_id=new.spender_id,
        payer_id=new.payer_id,
        payer_account=new.payer_account,
        match_number=new.match_number,
        state=new.state,
        circle_id=new.circle_id,
        created_at=new.created_at,
        expires_at=new.expires_at,
    )


FIND = Sql("""
    SELECT id, operator_id, scan_id, terminal_id, business_type, binding_order, spender_id, payer_id, payer_account,
           match_number, state, circle_id, mandate_id, agreement_id, template_id, consented_at, agreement_active_at,
           enrolled_at, created_at, expires_at, closed_at
    FROM registration WHERE id = :registration_id
""")


async def find(conn: Connection, registration_id: str) -> Registration | None:
    """The registration as it was when the statement ran."""
    row = await FIND.row(conn, registration_id=registration_id)
    return None if row is None else _registration(row)


async def reread(conn: Connection, registration: Registration) -> Registration:
    """The registration after the caller changed it."""
    found = await find(conn, registration.id)
    assert found is not None, "registrations are never deleted"
    return found


LOCK_ROW = Sql("SELECT circle_id FROM registration WHERE id = :registration_id FOR UPDATE")


async def lock(conn: Connection, registration_id: str, *, also_circles: Sequence[str] = ()) -> Registration:
    """Locks the registration's circle, `also_circles`, then its row, and reads it.

    Raises: NotFound; Busy if it moved to another circle at this very moment.
    """
    seen = await find(conn, registration_id)
    if seen is None:
        raise NotFound()
    circles = {*also_circles, *([seen.circle_id] if seen.circle_id else [])}
    for circle_id in sorted(circles):
        await lock_circle(conn, circle_id)
    await LOCK_ROW.value(conn, registration_id=registration_id)
    locked = await reread(conn, seen)
    if locked.circle_id is not None and locked.circle_id not in circles:
        raise Busy(reason="registration")
    return locked


MOVE = Sql("""
    UPDATE registration SET state = :to_state, closed_at = :now WHERE id = :registration_id AND state = :from_state RETURNING id
""")


async def move(conn: Connection, registration: Registration, event: RegistrationEvent, *, now: datetime) -> None:
    """Moves it along its life. Raises: WrongState; Conflict if it is not in the state that the caller saw."""
    following = REGISTRATION_LIFE.after(registration.state, event)
    named = {"registration_id": registration.id, "from_state": registration.state, "to_state": following}
    if await MOVE.value(conn, **named, now=now) is None:
        raise Conflict(thing="registration")


NOTE_CONSENT = Sql("""
    UPDATE registration SET consented_at = :now::timestamptz, circle_id = :circle_id, mandate_id = :mandate_id,
                            agreement_id = :agreement_id, agreement_active_at = CASE WHEN :active THEN :now::timestamptz END
    WHERE id = :registration_id AND state = 'open' AND consented_at IS NULL
""")


async def note_consent(
    conn: Connection,
    registration: Registration,
    *,
    circle_id: str,
    mandate_id: str,
    agreement_id: str,
    agreement_is_active: bool,
    now: datetime,
) -> Registration:
    """Ticks *consented*, and *agreement active* where a reusable one was found. Raises: Conflict."""
    touched = await NOTE_CONSENT.run(
        conn,
        registration_id=registration.id,
        circle_id=circle_id,
        mandate_id=mandate_id,
        agreement_id=agreement_id,
        active=agreement_is_active,
        now=now,
    )
    if touched != 1:
        raise Conflict(thing="registration")
    return await reread(conn, registration)


NOTE_AGREEMENT = Sql("UPDATE registration SET agreement_active_at = :now WHERE id = :registration_id AND state = 'open'")


async def note_agreement(conn: Connection, registration: Registration, *, now: datetime) -> Registration:
    """Ticks *agreement active*."""
    await NOTE_AGREEMENT.run(conn, registration_id=registration.id, now=now)
    return await reread(conn, registration)


FORGET_CONSENT = Sql("""
    UPDATE registration SET consented_at = NULL, agreement_active_at = NULL, agreement_id = NULL
    WHERE id = :registration_id AND state = 'open'
""")


async def forget_consent(conn: Connection, registration: Registration) -> Registration:
    """Unticks *consented* and *agreement active*: the agreement that the consent was for will never be there."""
    await FORGET_CONSENT.run(conn, registration_id=registration.id)
    return await reread(conn, registration)


NOTE_ENROLMENT = Sql("""
    UPDATE registration SET enrolled_at = :now, template_id = :template_id WHERE id = :registration_id AND state = 'open'
""")


async def note_enrolment(
    conn: Connection, registration: Registration, *, template_id: str | None, now: datetime | None
) -> Registration:
    """Ticks *enrolled*; unticks it when both are None."""
    await NOTE_ENROLMENT.run(conn, registration_id=registration.id, template_id=template_id, now=now)
    return await reread(conn, registration)


OPEN_BY_AGREEMENT = Sql("""
    SELECT id FROM registration WHERE agreement_id = :agreement_id AND state = 'open' ORDER BY id
""")


async def open_by_agreement(conn: Connection, agreement_id: str) -> list[str]:
    """The open registrations that wait for, or rest on, an agreement."""
    return [row["id"] for row in await OPEN_BY_AGREEMENT.rows(conn, agreement_id=agreement_id)]


AGREEMENT_STANDING = Sql("""
    SELECT a.state AS agreement, s.state AS spender
    FROM agreement a LEFT JOIN agreement_spender s ON s.agreement_id = a.id AND s.spender_id = :spender_id
    WHERE a.id = :agreement_id
""")


async def agreement_standing(conn: Connection, agreement_id: str, *, spender_id: str) -> Standing:
    """Whether the provider may debit the payer for this spender: it holds the agreement, and the spender under it (claim 5)."""
    row = await AGREEMENT_STANDING.row(conn, agreement_id=agreement_id, spender_id=spender_id)
    if row is None or row["agreement"] not in OPEN_STATES or row["spender"] == SpenderState.REMOVED:
        return Standing.GONE
    stands = row["agreement"] == AgreementState.ACTIVE and row["spender"] == SpenderState.BOUND
    return Standing.ACTIVE if stands else Standing.COMING


LAPSED = Sql("""
    SELECT id FROM registration WHERE state = 'open' AND expires_at <= :now ORDER BY expires_at LIMIT :most
""")


async def lapsed(conn: Connection, *, now: datetime, limit: int) -> list[str]:
    """Open registrations whose time is over."""
    return [row["id"] for row in await LAPSED.rows(conn, now=now, most=limit)]


OVERDUE_TEMPLATES = Sql("""
    SELECT t.id AS template_id, coalesce(r.id, f.registration_id) AS registration_id, p.operator_id
    FROM template t JOIN person p ON p.id = t.person_id LEFT JOIN registration r ON r.template_id = t.id
    LEFT JOIN face_finding f ON f.template_id = t.id AND f.state = 'open'
    WHERE t.provisional_until IS NOT NULL AND t.destroyed_at IS NULL AND t.provisional_until <= :now
    ORDER BY t.provisional_until LIMIT :most
""")


async def overdue_templates(conn: Connection, *, now: datetime, limit: int) -> list[Record]:
    """Provisional templates past their minutes, each with the registration that holds it, if one does."""
    return await OVERDUE_TEMPLATES.rows(conn, now=now, most=limit)


AS_PAYER = Sql("""
    SELECT id FROM registration WHERE payer_id = :person_id AND (:after::uuid IS NULL OR id < :after::uuid)
    ORDER BY id DESC LIMIT :most
""")
AS_SPENDER = Sql("""
    SELECT id FROM registration WHERE spender_id = :person_id AND (:after::uuid IS NULL OR id < :after::uuid)
    ORDER BY id DESC LIMIT :most
""")


async def ids_as(conn: Connection, person_id: str, *, payer: bool, after: str | None, limit: int) -> list[str]:
    """A person's registrations as payer or as spender, the newest first, those before the id `after`."""
    statement = AS_PAYER if payer else AS_SPENDER
    return [row["id"] for row in await statement.rows(conn, person_id=person_id, after=after, most=limit)]
