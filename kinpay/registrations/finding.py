"""A face that another account has already: twins, or one person twice. A machine cannot tell, so somebody of the staff looks.

The registration waits meanwhile. The terminal, the spender and the payer hear that somebody has to look, never at whom.
Source: biometrics.md §6 (duplicate check); threat A11.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from kinpay.biometrics import enrol
from kinpay.biometrics.enrol import Erased
from kinpay.database import audit, outbox
from kinpay.database.audit import Event
from kinpay.database.sql import Connection, Record, Sql
from kinpay.primitives.ids import new_id
from kinpay.primitives.lifecycle import Lifecycle
from kinpay.registrations.registration import Capture, Registration


class FindingState(StrEnum):
    """What somebody made of it."""

    OPEN = "open"
    """Nobody has looked yet."""
    DIFFERENT = "different"
    """Two people who look alike: the template is kept. Final."""
    SAME = "same"
    """One person with two accounts: the template is destroyed. Final."""
    LAPSED = "lapsed"
    """The template's time was over, or the registration ended, before anybody looked. Final."""


class FindingEvent(StrEnum):
    """What may happen to a finding."""

    TELL_APART = "tell_apart"
    """Somebody of the staff says that they are two people."""
    RECOGNISE = "recognise"
    """Somebody of the staff says that it is one."""
    LAPSE = "lapse"
    """Its template is gone."""


FINDING_LIFE: Final = Lifecycle[FindingState, FindingEvent](
    "face_finding",
    FindingState.OPEN,
    {
        (FindingState.OPEN, FindingEvent.TELL_APART): FindingState.DIFFERENT,
        (FindingState.OPEN, FindingEvent.RECOGNISE): FindingState.SAME,
        (FindingState.OPEN, FindingEvent.LAPSE): FindingState.LAPSED,
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A row of `face_finding`. `alike`: whose templates are as near; for the operator's eyes alone."""

    id: str
    operator_id: str
    registration_id: str
    capture_id: str
    template_id: str
    person_id: str
    alike: tuple[str, ...]
    state: FindingState
    found_at: datetime
    decided_by: str | None
    decided_at: datetime | None


def _finding(row: Record) -> Finding:
    return Finding(**{**row, "alike": tuple(row["alike"]), "state": FindingState(row["state"])})


INSERT = Sql("""
    INSERT INTO face_finding (id, operator_id, registration_id, capture_id, template_id, person_id, alike, state, found_at)
    VALUES (:id, :operator_id, :registration_id, :capture_id, :template_id, :person_id, :alike, 'open', :now)
""")
STAFF = Sql("""
    SELECT DISTINCT person_id FROM staff
    WHERE operator_id = :operator_id AND role IN ('owner', 'support') AND ended_at IS NULL ORDER BY person_id
""")


async def note_finding(
    conn: Connection,
    registration: Registration,
    capture: Capture,
    *,
    template_id: str,
    alike: tuple[str, ...],
    now: datetime,
) -> str:
    """Writes a finding and tells the staff that there is one. The log names neither account."""
    finding_id = new_id()
    await INSERT.run(
        conn,
        id=finding_id,
        operator_id=registration.operator_id,
        registration_id=registration.id,
        capture_id=capture.id,
        template_id=template_id,
        person_id=registration.spender_id,
        alike=list(alike),
        now=now,
    )
    event = Event("face_finding.found", finding_id, {"registration_id": registration.id, "template_id": template_id})
    await audit.record(conn, registration.operator_id, event, now=now)
    people = [row["person_id"] for row in await STAFF.rows(conn, operator_id=registration.operator_id)]
    body = {"people": people, "finding_id": finding_id}
    lane = registration.operator_id
    await outbox.enqueue(conn, "notice.face_alike", lane=lane, subject_id=finding_id, body=body, now=now)
    return finding_id


OPEN_OF = Sql("""
    SELECT id, operator_id, registration_id, capture_id, template_id, person_id, alike, state, found_at, decided_by, decided_at
    FROM face_finding WHERE registration_id = :registration_id AND state = 'open'
""")
FIND = Sql("""
    SELECT id, operator_id, registration_id, capture_id, template_id, person_id, alike, state, found_at, decided_by, decided_at
    FROM face_finding WHERE id = :finding_id
""")
OF_OPERATOR = Sql("""
    SELECT id, operator_id, registration_id, capture_id, template_id, person_id, alike, state, found_at, decided_by, decided_at
    FROM face_finding WHERE operator_id = :operator_id AND (NOT :open_only OR state = 'open')
      AND (:after::uuid IS NULL OR id < :after) ORDER BY id DESC LIMIT :most
""")


async def open_finding(conn: Connection, registration_id: str) -> Finding | None:
    """What a registration waits for somebody to look at."""
    row = await OPEN_OF.row(conn, registration_id=registration_id)
    return None if row is None else _finding(row)


async def find_finding(conn: Connection, finding_id: str) -> Finding | None:
    """The finding, in whatever state."""
    row = await FIND.row(conn, finding_id=finding_id)
    return None if row is None else _finding(row)


async def findings_of(conn: Connection, operator_id: str, *, open_only: bool, after: str | None, limit: int) -> list[Finding]:
    """An operator's findings, the newest first."""
    rows = await OF_OPERATOR.rows(conn, operator_id=operator_id, open_only=open_only, after=after, most=limit)
    return [_finding(row) for row in rows]


MOVE = Sql("""
    UPDATE face_finding SET state = :to_state, decided_by = :by, decided_at = :now WHERE id = :finding_id AND state = 'open'
""")


async def move_finding(conn: Connection, finding: Finding, event: FindingEvent, *, by: str | None, now: datetime) -> None:
    """Ends a finding; the caller holds its registration's lock. Raises: WrongState once it is decided."""
    following = FINDING_LIFE.after(finding.state, event)
    await MOVE.run(conn, finding_id=finding.id, to_state=following, by=by, now=now)
    kept = Event(f"face_finding.{event}", finding.id, {"registration_id": finding.registration_id}, by)
    await audit.record(conn, finding.operator_id, kept, now=now)


async def lapse_finding(conn: Connection, registration: Registration, *, reason: str, now: datetime) -> list[Erased]:
    """Ends what waits to be looked at, with its template, when the registration ends."""
    finding = await open_finding(conn, registration.id)
    if finding is None:
        return []
    gone = await enrol.destroy(conn, finding.template_id, reason=reason, lane=registration.lane, now=now)
    await move_finding(conn, finding, FindingEvent.LAPSE, by=None, now=now)
    return [] if gone is None else [gone]
