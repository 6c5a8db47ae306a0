"""Where a person is looked for, how a place's gallery changes, and whether what was found is still there.

A person is looked for at the site where they were enrolled, and where they were allowed to be looked for since. Whoever was
never enrolled with a site's operator is found nowhere. Each change moves the version of the places concerned and tells every
process, in the transaction that makes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from kinpay.database import audit
from kinpay.database.audit import Event
from kinpay.database.sql import Connection, Sql
from kinpay.primitives.errors import NotFound

CHANNEL: Final = "gallery"
"""What PostgreSQL notifies on; the payload is the place (a site or an operator)."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Scope:
    """Whom a search compares with: everybody enrolled with `operator_id` who is looked for at `site_id` (None: anywhere),
    by templates of one model, dimension and number of pictures.
    """

    operator_id: str
    site_id: str | None
    model_id: str
    dimension: int
    pictures: int

    @property
    def place_id(self) -> str:
        """Whose version moves when this changes."""
        return self.site_id or self.operator_id

    def __str__(self) -> str:
        return f"{self.place_id}/{self.model_id}/{self.dimension}/{self.pictures}"


# The operator's own place first: it is part of every change of theirs, so that no two changes wait for each other crosswise.
MOVE = Sql("""
    WITH moved AS (
        INSERT INTO gallery_place (id, version) SELECT id, 1 FROM unnest(:place_ids::uuid[]) AS place (id) ORDER BY id
        ON CONFLICT (id) DO UPDATE SET version = gallery_place.version + 1
        RETURNING id)
    SELECT pg_notify('gallery', replace(id::text, '-', '')) FROM moved
""")


async def move(conn: Connection, operator_id: str, site_ids: Sequence[str]) -> None:
    """The galleries of these sites are not what they were; heard by every process once the transaction is committed."""
    await MOVE.rows(conn, place_ids=[operator_id])
    if site_ids:
        await MOVE.rows(conn, place_ids=list(site_ids))


ABOUT = Sql("""
    SELECT t.person_id, p.operator_id, w.site_id FROM template t JOIN template_vector v ON v.template_id = t.id
    JOIN person p ON p.id = t.person_id JOIN terminal w ON w.id = t.captured_by WHERE t.id = :template_id
""")
JOIN = Sql("""
    INSERT INTO gallery_member (site_id, person_id, reason, joined_at) VALUES (:site_id, :person_id, :reason, :now)
    ON CONFLICT DO NOTHING RETURNING site_id
""")
SITES_OF = Sql("SELECT site_id FROM gallery_member WHERE person_id = :person_id")


async def join_where_captured(conn: Connection, template_id: str, *, lane: str, now: datetime) -> None:
    """A vector that is there to stay: its person is looked for where it was captured, and wherever they were before."""
    row = await ABOUT.row(conn, template_id=template_id)
    if row is None:  # A terminal's own template is looked for nowhere.
        return
    await _join(conn, row["person_id"], row["site_id"], reason="enrolled_here", lane=lane, now=now)
    sites = await SITES_OF.rows(conn, person_id=row["person_id"])
    await move(conn, row["operator_id"], [site["site_id"] for site in sites])


async def _join(conn: Connection, person_id: str, site_id: str, *, reason: str, lane: str, now: datetime) -> bool:
    if await JOIN.value(conn, site_id=site_id, person_id=person_id, reason=reason, now=now) is None:
        return False
    await audit.record(conn, lane, Event("gallery.joined", person_id, {"site_id": site_id, "reason": reason}), now=now)
    return True


OPERATOR_OF_BOTH = Sql("""
    SELECT p.operator_id FROM person p, site s JOIN merchant m ON m.id = s.merchant_id
    WHERE p.id = :person_id AND s.id = :site_id AND m.operator_id = p.operator_id
""")


async def allow(conn: Connection, person_id: str, *, site_id: str, lane: str, now: datetime) -> bool:
    """Lets a person be looked for at another site of the operator with whom they are enrolled; False if they were already.

    Raises: NotFound for a site of somebody else.
    """
    operator_id = await OPERATOR_OF_BOTH.value(conn, person_id=person_id, site_id=site_id)
    if operator_id is None:
        raise NotFound()
    if not await _join(conn, person_id, site_id, reason="allowed", lane=lane, now=now):
        return False
    await move(conn, operator_id, [site_id])
    return True


LEAVE = Sql("DELETE FROM gallery_member WHERE site_id = :site_id AND person_id = :person_id RETURNING site_id")
OPERATOR_OF = Sql("SELECT operator_id FROM person WHERE id = :person_id")


async def disallow(conn: Connection, person_id: str, *, site_id: str, lane: str, now: datetime) -> bool:
    """Takes a person out of one site's gallery, also out of the one where they were enrolled; False if they were not in it."""
    if await LEAVE.value(conn, site_id=site_id, person_id=person_id) is None:
        return False
    await audit.record(conn, lane, Event("gallery.left", person_id, {"site_id": site_id}), now=now)
    await move(conn, await OPERATOR_OF.value(conn, person_id=person_id), [site_id])
    return True


HAS_ANOTHER = Sql("""
    SELECT EXISTS (SELECT FROM template t JOIN template_vector v ON v.template_id = t.id
                   WHERE t.person_id = :person_id AND t.destroyed_at IS NULL)
""")


async def take_out(conn: Connection, template_id: str, *, lane: str, now: datetime) -> None:
    """A destroyed template: every gallery that had it moves, and with their last one a person is looked for nowhere."""
    row = await ABOUT.row(conn, template_id=template_id)
    if row is None:  # A terminal's own template is looked for nowhere.
        return
    person_id = row["person_id"]
    sites = [site["site_id"] for site in await SITES_OF.rows(conn, person_id=person_id)]
    if not await HAS_ANOTHER.value(conn, person_id=person_id):
        for site_id in sites:
            await LEAVE.value(conn, site_id=site_id, person_id=person_id)
            await audit.record(conn, lane, Event("gallery.left", person_id, {"site_id": site_id}), now=now)
    await move(conn, row["operator_id"], sites)


STANDING = Sql("""
    SELECT coalesce((SELECT version FROM gallery_place WHERE id = :place_id), 0) AS version,
           coalesce((SELECT max(version) FROM rotation WHERE operator_id = :operator_id), 0) AS rotation_version
""")


async def standing(conn: Connection, scope: Scope) -> tuple[int, int]:
    """The version of the scope's place, and of its operator's rotation; 0 for what there is none of."""
    row = await STANDING.row(conn, place_id=scope.place_id, operator_id=scope.operator_id)
    assert row is not None, "one row of subqueries"
    return row["version"], row["rotation_version"]


IN_SITE = Sql("""
    SELECT t.id FROM gallery_member m JOIN person p ON p.id = m.person_id JOIN template t ON t.person_id = m.person_id
    JOIN template_vector v ON v.template_id = t.id
    WHERE m.site_id = :site_id AND p.operator_id = :operator_id AND p.state = 'active'
      AND t.destroyed_at IS NULL AND t.provisional_until IS NULL
      AND t.model = :model_id AND v.dimension = :dimension AND v.pictures = :pictures
""")
IN_OPERATOR = Sql("""
    SELECT t.id FROM template t JOIN template_vector v ON v.template_id = t.id JOIN person p ON p.id = t.person_id
    WHERE p.operator_id = :operator_id AND p.state = 'active'
      AND t.destroyed_at IS NULL AND t.provisional_until IS NULL
      AND t.model = :model_id AND v.dimension = :dimension AND v.pictures = :pictures
""")


async def template_ids(conn: Connection, scope: Scope) -> frozenset[str]:
    """The templates of a scope as they are now."""
    named = {"operator_id": scope.operator_id, "model_id": scope.model_id}
    shape = {"dimension": scope.dimension, "pictures": scope.pictures}
    if scope.site_id is None:
        rows = await IN_OPERATOR.rows(conn, **named, **shape)
    else:
        rows = await IN_SITE.rows(conn, **named, **shape, site_id=scope.site_id)
    return frozenset(row["id"] for row in rows)


STILL_THERE = Sql("""
    SELECT t.id, t.person_id FROM template t JOIN template_vector v ON v.template_id = t.id JOIN person p ON p.id = t.person_id
    WHERE t.id = ANY(:template_ids::uuid[]) AND p.operator_id = :operator_id AND p.state = 'active'
      AND t.destroyed_at IS NULL AND t.provisional_until IS NULL
      AND t.model = :model_id AND v.dimension = :dimension AND v.pictures = :pictures
      AND (:site_id::uuid IS NULL
           OR EXISTS (SELECT FROM gallery_member m WHERE m.site_id = :site_id AND m.person_id = t.person_id))
""")


async def still_there(conn: Connection, scope: Scope, found: Sequence[str]) -> dict[str, str]:
    """Those of `found` that belong to the scope at this moment, with their persons: what a search may count."""
    rows = await STILL_THERE.rows(
        conn,
        template_ids=list(found),
        operator_id=scope.operator_id,
        site_id=scope.site_id,
        model_id=scope.model_id,
        dimension=scope.dimension,
        pictures=scope.pictures,
    )
    return {row["id"]: row["person_id"] for row in rows}
