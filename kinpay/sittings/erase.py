"""Withdrawing a face: consents, PIN and every template of a person end at once; mandates, cards and codes stay.

Source: threat A11; story S1 step 7; [0029] read backwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kinpay.biometrics import enrol
from kinpay.biometrics.enrol import Erased
from kinpay.database import outbox
from kinpay.database.sql import Connection, Sql
from kinpay.people.person import Person, is_adult
from kinpay.people.store import person_row
from kinpay.primitives.actor import Actor
from kinpay.primitives.clock import local_date
from kinpay.primitives.errors import NotFound
from kinpay.sittings.circles import payers_of
from kinpay.sittings.consent import withdraw_all
from kinpay.sittings.pin import forget_pin


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTemplate:
    """A template as its person may know of it. `erased_at`: the receipt."""

    id: str
    model: str
    modality: str
    site_name: str
    made_at: datetime
    provisional: bool
    erased_at: datetime | None
    erased_reason: str | None


OPERATOR_ZONE = Sql("SELECT time_zone FROM operator WHERE id = :operator_id")


async def person_seen_by(conn: Connection, actor: Actor, person_id: str, *, now: datetime) -> Person:
    """The person whose face it is, if the asker may look at it and withdraw it: they themself, or who pays for a minor, for
    somebody of unknown age, or for somebody without a phone.

    Raises: NotFound for everybody else.
    """
    person = await person_row(conn, person_id)
    if person is None or person.operator_id != actor.operator_id:
        raise NotFound()
    if actor.id == person_id:
        return person
    zone: str = await OPERATOR_ZONE.value(conn, operator_id=person.operator_id)
    stands_for_themself = not person.assisted and is_adult(person.birth_date, local_date(now, zone))
    if stands_for_themself or actor.id not in await payers_of(conn, person_id):
        raise NotFound()
    return person


TEMPLATES = Sql("""
    SELECT t.id, t.model, coalesce(v.modality, 'opaque') AS modality, s.name AS site_name, t.created_at AS made_at,
           t.provisional_until IS NOT NULL AS provisional, t.destroyed_at AS erased_at, t.destroyed_reason AS erased_reason
    FROM template t JOIN terminal w ON w.id = t.captured_by JOIN site s ON s.id = w.site_id
    LEFT JOIN template_vector v ON v.template_id = t.id
    WHERE t.person_id = :person_id ORDER BY t.created_at DESC LIMIT 100
""")
LIVE = Sql("SELECT id FROM template WHERE person_id = :person_id AND destroyed_at IS NULL ORDER BY id FOR UPDATE")


async def templates_of(conn: Connection, person_id: str) -> list[KeptTemplate]:
    """What is and was kept of a person, the newest first; never the template itself."""
    return [KeptTemplate(**row) for row in await TEMPLATES.rows(conn, person_id=person_id)]


async def erase_face(conn: Connection, person: Person, *, by: str, now: datetime) -> list[Erased]:
    """Ends all of it in the caller's transaction: from its commit on no process finds the person by their face.

    The caller passes what is returned to `enrol.finish` after the commit, which destroys the keys. Twice is as good as once.
    """
    lane = person.operator_id
    rows = await LIVE.rows(conn, person_id=person.id)
    gone = [await enrol.destroy(conn, row["id"], reason="withdrawn", lane=lane, now=now) for row in rows]
    erased = [item for item in gone if item is not None]
    ended = await withdraw_all(conn, person.id, by=by, lane=lane, now=now)
    await forget_pin(conn, person.id)
    if erased or ended:
        people = {*([] if person.assisted else [person.id]), *await payers_of(conn, person.id)}
        body = {"people": sorted(people), "spender_id": person.id, "spender_name": person.display_name}
        await outbox.enqueue(conn, "notice.face_erased", lane=lane, subject_id=person.id, body=body, now=now)
    return erased
