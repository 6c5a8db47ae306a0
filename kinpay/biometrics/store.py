"""How templates are kept: ciphertext in the row, its key elsewhere, nothing of either once destroyed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kinpay.database.sql import Connection, Sql


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateRow:
    """A template as kept. `provisional_until`: destroyed then, unless bound before; None once bound."""

    id: str
    person_id: str
    operator_id: str
    key_id: str
    model: str
    model_version: str
    ciphertext: bytes | None
    provisional_until: datetime | None
    destroyed_at: datetime | None
    modality: str = "opaque"
    dimension: int | None = None
    pictures: int | None = None
    rotation_version: int | None = None


INSERT = Sql("""
    INSERT INTO template (id, person_id, key_id, model, model_version, ciphertext, provisional_until, captured_by, created_at)
    VALUES (:id, :person_id, :key_id, :model, :model_version, :ciphertext, :provisional_until, :captured_by, :now)
""")
INSERT_VECTOR = Sql("""
    INSERT INTO template_vector (template_id, modality, dimension, pictures, rotation_version)
    VALUES (:template_id, :modality, :dimension, :pictures, :rotation_version)
""")


async def insert(
    conn: Connection,
    row: TemplateRow,
    *,
    captured_by: str,
    now: datetime,
) -> None:
    """Writes a new template."""
    await INSERT.run(
        conn,
        id=row.id,
        person_id=row.person_id,
        key_id=row.key_id,
        model=row.model,
        model_version=row.model_version,
        ciphertext=row.ciphertext,
        provisional_until=row.provisional_until,
        captured_by=captured_by,
        now=now,
    )
    if row.dimension is not None:
        shape = {"dimension": row.dimension, "pictures": row.pictures, "rotation_version": row.rotation_version}
        await INSERT_VECTOR.run(conn, template_id=row.id, modality=row.modality, **shape)


FIND = Sql("""
    SELECT t.id, t.person_id, p.operator_id, t.key_id, t.model, t.model_version, t.ciphertext, t.provisional_until,
           t.destroyed_at, coalesce(v.modality, 'opaque') AS modality, v.dimension, v.pictures, v.rotation_version
    FROM template t JOIN person p ON p.id = t.person_id LEFT JOIN template_vector v ON v.template_id = t.id
    WHERE t.id = :template_id
""")


async def find(conn: Connection, template_id: str) -> TemplateRow | None:
    """The template of that id, destroyed or not."""
    row = await FIND.row(conn, template_id=template_id)
    return None if row is None else TemplateRow(**row)


SEVERAL = Sql("""
    SELECT t.id, t.person_id, p.operator_id, t.key_id, t.model, t.model_version, t.ciphertext, t.provisional_until,
           t.destroyed_at, v.modality, v.dimension, v.pictures, v.rotation_version
    FROM template t JOIN person p ON p.id = t.person_id JOIN template_vector v ON v.template_id = t.id
    WHERE t.id = ANY(:template_ids::uuid[]) AND t.ciphertext IS NOT NULL
""")


async def kept_vectors(conn: Connection, template_ids: list[str]) -> list[TemplateRow]:
    """Those of `template_ids` that are vectors and not destroyed."""
    return [TemplateRow(**row) for row in await SEVERAL.rows(conn, template_ids=template_ids)]


REWRITE = Sql("""
    WITH moved AS (
        UPDATE template_vector SET rotation_version = :rotation_version
        WHERE template_id = :template_id AND rotation_version = :before RETURNING template_id)
    UPDATE template t SET ciphertext = :ciphertext FROM moved
    WHERE t.id = moved.template_id AND t.destroyed_at IS NULL RETURNING t.id
""")


async def rewrite(conn: Connection, template_id: str, *, ciphertext: bytes, before: int, rotation_version: int) -> bool:
    """Puts the same template under another rotation; False if it was destroyed or moved on meanwhile."""
    named = {"template_id": template_id, "before": before, "rotation_version": rotation_version}
    return await REWRITE.value(conn, **named, ciphertext=ciphertext) is not None


OPERATOR_OF = Sql("SELECT operator_id FROM person WHERE id = :person_id")


async def operator_of(conn: Connection, person_id: str) -> str | None:
    """The operator with whom the person has their account."""
    operator_id: str | None = await OPERATOR_OF.value(conn, person_id=person_id)
    return operator_id


CONFIRM = Sql("""
    UPDATE template SET provisional_until = NULL
    WHERE id = :template_id AND destroyed_at IS NULL AND (provisional_until IS NULL OR provisional_until > :now)
    RETURNING id
""")


async def confirm(conn: Connection, template_id: str, *, now: datetime) -> bool:
    """Ends the provisional life by keeping; False if it was destroyed or is due to be."""
    return await CONFIRM.value(conn, template_id=template_id, now=now) is not None


DESTROY = Sql("""
    UPDATE template SET ciphertext = NULL, destroyed_at = :now, destroyed_reason = :reason
    WHERE id = :template_id AND destroyed_at IS NULL
    RETURNING key_id
""")


async def destroy(conn: Connection, template_id: str, *, reason: str, now: datetime) -> str | None:
    """Removes the ciphertext; returns the id of the key that is to be destroyed, None if that was done before."""
    key_id: str | None = await DESTROY.value(conn, template_id=template_id, reason=reason, now=now)
    return key_id


LIVE_KEYS = Sql("SELECT key_id FROM template WHERE destroyed_at IS NULL AND key_id = ANY(:key_ids::uuid[])")


async def live_keys(conn: Connection, key_ids: list[str]) -> frozenset[str]:
    """Which of `key_ids` open a template that is still kept."""
    return frozenset(row["key_id"] for row in await LIVE_KEYS.rows(conn, key_ids=key_ids))


KEY_GONE_TOLD = Sql("""
    SELECT EXISTS (SELECT FROM audit_event WHERE subject_id = :template_id AND kind = 'template.key_destroyed')
""")


async def key_destruction_recorded(conn: Connection, template_id: str) -> bool:
    """Whether the second half of the erase receipt is written."""
    return bool(await KEY_GONE_TOLD.value(conn, template_id=template_id))
