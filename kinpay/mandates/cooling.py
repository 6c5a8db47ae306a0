"""What binds a mandate for a time, besides its terms: caution after the grant, and whatever held before each young raise.

No later version hurries either: a caution binds to its end though the version that says it is no longer in force, and a raise
cools down for as long as the longest of all that still hold demands, not just the terms that it raises.
Source: product.md §1a (cooling period); docs/decisions/0009-the-limit-grammar.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from kinpay.database.sql import Connection, Sql
from kinpay.mandates.mandate import Mandate


@dataclass(frozen=True, slots=True)
class Besides:
    """Canonical terms that bind besides those in force, before the instant `until`."""

    until: datetime
    terms: dict[str, Any]


# The same caution in several versions is one, to the latest of its ends. No caution is longer than 720 hours.
CAUTIONS = Sql("""
    SELECT v.mandate_id,
           jsonb_build_object('currency', v.terms -> 'currency', 'limits', v.terms -> 'cooling' -> 'limits') AS terms,
           m.active_at + max((v.terms -> 'cooling' ->> 'hours')::integer) * interval '1 hour' AS until
    FROM mandate m JOIN mandate_version v ON v.mandate_id = m.id
    WHERE m.circle_id = ANY(:circles) AND m.active_at > kinpay_now() - interval '720 hours'
      AND jsonb_array_length(v.terms -> 'cooling' -> 'limits') > 0
    GROUP BY 1, 2, m.active_at
    HAVING m.active_at + max((v.terms -> 'cooling' ->> 'hours')::integer) * interval '1 hour' > kinpay_now()
    ORDER BY 1, 3, min(v.version)
""")
# What held before a raise goes on to bind until the raise has cooled down.
RAISED = Sql("""
    SELECT v.mandate_id, before.terms, v.cools_until AS until FROM mandate_version v
    JOIN mandate_version before ON before.mandate_id = v.mandate_id AND before.version = v.version - 1
    WHERE v.circle_id = ANY(:circles) AND v.cools_until > kinpay_now() ORDER BY v.mandate_id, v.version
""")


async def binding_besides(conn: Connection, circle_ids: Sequence[str]) -> dict[str, list[Besides]]:
    """What binds the circles' mandates besides now, by mandate: cautions, then what held before raises, oldest first."""
    found: dict[str, list[Besides]] = defaultdict(list)
    for read in (CAUTIONS, RAISED):
        for row in await read.rows(conn, circles=list(circle_ids)):
            found[row["mandate_id"]].append(Besides(row["until"], row["terms"]))
    return found


PATIENCE = Sql("""
    SELECT max((v.terms -> 'cooling' ->> 'hours')::integer) FROM mandate_version v
    WHERE v.mandate_id = :mandate_id AND (v.version = :version OR EXISTS (
        SELECT 1 FROM mandate_version raised
        WHERE raised.mandate_id = v.mandate_id AND raised.version = v.version + 1 AND raised.cools_until > :now))
""")


async def cools_until(conn: Connection, mandate: Mandate, *, now: datetime) -> datetime | None:
    """Until when a raise of the mandate's terms made now cools down; None: at once, as nothing that holds demands caution.

    The longest cooling time counts, of the terms in force and of those that still bind besides. Under the circle's lock.
    """
    hours = await PATIENCE.value(conn, mandate_id=mandate.id, version=mandate.version, now=now)
    return None if hours is None else now + timedelta(hours=hours)
