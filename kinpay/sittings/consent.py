"""Whose face may be kept, and by whose word. A consent is kept with what was read: version, hash, language, when, who.

A minor's face needs two: the payer's, first and separately, and the minor's own at the camera. Withdrawing ends them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kinpay.database import audit
from kinpay.database.audit import Event
from kinpay.database.sql import Connection, Sql
from kinpay.primitives.ids import new_id
from kinpay.sittings.consent_text import ConsentText


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """A row of `face_consent`, without the hash. `terminal_id`: on whose screen it was read; None: on the giver's device."""

    id: str
    person_id: str
    given_by: str
    registration_id: str
    terminal_id: str | None
    text_version: str
    language: str
    given_at: datetime
    withdrawn_at: datetime | None


FIND_SAME = Sql("""
    SELECT id FROM face_consent
    WHERE registration_id = :registration_id AND person_id = :person_id AND given_by = :given_by
      AND terminal_id IS NOT DISTINCT FROM :terminal_id AND text_hash = :text_hash AND withdrawn_at IS NULL
    ORDER BY given_at DESC LIMIT 1
""")
INSERT = Sql("""
    INSERT INTO face_consent (id, person_id, given_by, registration_id, terminal_id, text_version, text_hash, language,
                              given_at)
    VALUES (:id, :person_id, :given_by, :registration_id, :terminal_id, :text_version, :text_hash, :language, :now)
""")


async def give(
    conn: Connection,
    text: ConsentText,
    *,
    person_id: str,
    given_by: str,
    registration_id: str,
    terminal_id: str | None,
    lane: str,
    now: datetime,
) -> str:
    """Writes a consent down and returns its id; said again in the same place, it is the same one."""
    named = {
        "person_id": person_id,
        "given_by": given_by,
        "registration_id": registration_id,
        "terminal_id": terminal_id,
        "text_hash": text.digest,
    }
    found: str | None = await FIND_SAME.value(conn, **named)
    if found is not None:
        return found
    consent_id = new_id()
    await INSERT.run(conn, id=consent_id, **named, text_version=text.version, language=text.language, now=now)
    body = {
        "person_id": person_id,
        "registration_id": registration_id,
        "terminal_id": terminal_id,
        "text_version": text.version,
        "text_sha256": text.digest.hex(),
        "language": text.language,
    }
    await audit.record(conn, lane, Event("face_consent.given", consent_id, body, given_by), now=now)
    return consent_id


IS_GIVEN = Sql("""
    SELECT EXISTS (SELECT FROM face_consent WHERE registration_id = :registration_id AND person_id = :person_id
                   AND given_by = :given_by AND withdrawn_at IS NULL)
""")


async def is_given(conn: Connection, *, registration_id: str, person_id: str, given_by: str) -> bool:
    """Whether somebody's word for a person's face stands for that registration."""
    return bool(await IS_GIVEN.value(conn, registration_id=registration_id, person_id=person_id, given_by=given_by))


OF_PERSON = Sql("""
    SELECT id, person_id, given_by, registration_id, terminal_id, text_version, language, given_at, withdrawn_at
    FROM face_consent WHERE person_id = :person_id ORDER BY given_at DESC LIMIT 100
""")


async def consents_of(conn: Connection, person_id: str) -> list[Consent]:
    """Every consent about a person's face, the newest first."""
    return [Consent(**row) for row in await OF_PERSON.rows(conn, person_id=person_id)]


WITHDRAW = Sql("""
    UPDATE face_consent SET withdrawn_at = :now WHERE person_id = :person_id AND withdrawn_at IS NULL RETURNING id
""")


async def withdraw_all(conn: Connection, person_id: str, *, by: str, lane: str, now: datetime) -> int:
    """Ends every consent about a person's face; returns how many."""
    rows = await WITHDRAW.rows(conn, person_id=person_id, now=now)
    events = [Event("face_consent.withdrawn", row["id"], {"person_id": person_id}, by) for row in rows]
    if events:
        await audit.record(conn, lane, *events, now=now)
    return len(rows)
