"""Comparing with those alone who are named: a person who said who they are, or a few whose numbers end alike.

No gallery is held for it: the rows of this moment are opened, compared and let go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from kinpay.biometrics.curves import Comparison
from kinpay.biometrics.enrol import opened
from kinpay.biometrics.gallery_store import Scope
from kinpay.biometrics.keyring import Keyring
from kinpay.biometrics.matcher import Candidate, Ranking
from kinpay.biometrics.rotation import RotationGone, Rotations, turn
from kinpay.biometrics.store import TemplateRow, kept_vectors
from kinpay.biometrics.template import Sample
from kinpay.biometrics.vectors import cosine
from kinpay.database.pool import Database
from kinpay.database.sql import Sql
from kinpay.primitives.sealed import Sealed
from kinpay.primitives.server_keys import SealBroken

OF_PEOPLE = Sql("""
    SELECT t.id FROM template t JOIN person p ON p.id = t.person_id JOIN template_vector v ON v.template_id = t.id
    WHERE t.person_id = ANY(:person_ids::uuid[]) AND p.operator_id = :operator_id AND p.state = 'active'
      AND t.destroyed_at IS NULL AND t.provisional_until IS NULL
      AND t.model = :model_id AND v.dimension = :dimension AND v.pictures = :pictures
""")


async def compare_with(
    db: Database, keyring: Keyring, rotations: Rotations, *, person_ids: Sequence[str], scope: Scope, sample: Sample
) -> Ranking:
    """How near `sample` is to the templates of those people alone, in an operator's `scope` (its site plays no part).

    A template that does not open (its key is gone) is not there.
    """
    async with db.connection() as conn:
        found = await OF_PEOPLE.rows(
            conn,
            person_ids=list(person_ids),
            operator_id=scope.operator_id,
            model_id=scope.model_id,
            dimension=scope.dimension,
            pictures=scope.pictures,
        )
        rows = await kept_vectors(conn, [row["id"] for row in found])
    keys = await keyring.unwrap_all([row.key_id for row in rows])
    candidates = await asyncio.to_thread(_compare, rows, keys, rotations, sample=sample)
    return Ranking(
        model_id=scope.model_id,
        comparison=Comparison(scope.pictures, sample.pictures),
        size=len(candidates),
        candidates=tuple(candidates),
    )


def _compare(
    rows: Sequence[TemplateRow], keys: Mapping[str, Sealed[bytes]], rotations: Rotations, *, sample: Sample
) -> list[Candidate]:
    found: list[Candidate] = []
    for row in rows:
        if row.key_id not in keys or row.rotation_version is None:
            continue
        try:
            matrix = rotations.matrix_now(
                row.operator_id, row.rotation_version, model_id=sample.model_id, dimension=sample.dimension
            )
            kept = opened(row, keys[row.key_id]).vector().open()
        except (SealBroken, RotationGone, ValueError):
            continue
        found.append(Candidate(row.person_id, row.id, cosine(turn(matrix, sample.vector.open()), kept)))
    return sorted(found, key=lambda item: -item.score)
