"""Which agreement is asked next for what is owed: those that fund the mandate in turn, as far as they can carry it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kinpay.database.sql import Connection, Sql


@dataclass(frozen=True, slots=True)
class NextAgreement:
    """An agreement, and the most that one debit of it may be, in minor units (None: the provider names no cap)."""

    agreement_id: str
    per_debit_minor: int | None


# The one after that which was tried last, and from the end to the beginning. Left out: what is not active any more, and what
# has a cap below the charge. Whether the spender is still known under it is not asked: what is owed is the payer's.
NEXT_AGREEMENTS = Sql("""
    SELECT c.id AS charge_id, n.id AS agreement_id, n.per_debit_minor
    FROM charge c
    CROSS JOIN LATERAL (SELECT agreement_ids FROM settlement_rule s WHERE s.mandate_id = c.mandate_id
                        ORDER BY s.version DESC LIMIT 1) r
    CROSS JOIN LATERAL (
        SELECT a.id, a.per_debit_minor
        FROM unnest(r.agreement_ids) WITH ORDINALITY AS f (id, place) JOIN agreement a ON a.id = f.id
        WHERE a.state = 'active' AND (a.per_debit_minor IS NULL OR a.per_debit_minor >= c.captured_minor)
        ORDER BY f.place <= coalesce(array_position(r.agreement_ids, c.agreement_id), 0), f.place LIMIT 1
    ) n
    WHERE c.circle_id = :circle_id AND c.id = ANY(:charge_ids) AND c.state = 'arrears'
""")


async def next_agreements(conn: Connection, circle_id: str, charge_ids: Sequence[str]) -> dict[str, NextAgreement]:
    """Of each of the circle's charges that is owed and has one; the caller holds the circle's lock."""
    rows = await NEXT_AGREEMENTS.rows(conn, circle_id=circle_id, charge_ids=list(charge_ids))
    return {row["charge_id"]: NextAgreement(row["agreement_id"], row["per_debit_minor"]) for row in rows}
