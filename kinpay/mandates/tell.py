"""Telling people what became of mandates, agreements, pools and cards: one notice topic a kind, with its cause."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from kinpay.database import outbox
from kinpay.database.sql import Connection
from kinpay.mandates.mandate import Mandate
from kinpay.mandates.store import names_of
from kinpay.people.store import people_of


async def tell(
    conn: Connection,
    kind: str,
    *,
    circle_id: str,
    subject_id: str,
    people: Iterable[str],
    body: dict[str, Any],
    now: datetime,
) -> None:
    """Enqueues `notice.<kind>` for `people`; `body` holds ids, amounts and the names that the text needs."""
    told = sorted(set(people))
    await outbox.enqueue(conn, f"notice.{kind}", lane=circle_id, subject_id=subject_id, body={**body, "people": told}, now=now)


async def tell_of_mandate(
    conn: Connection, kind: str, mandate: Mandate, *, now: datetime, extra: dict[str, Any] | None = None
) -> None:
    """Tells payer, spender and the circle's approvers about a mandate, with both names and its reason."""
    names = await names_of(conn, [mandate.payer_id, mandate.spender_id])
    body = {
        "circle_id": mandate.circle_id,
        "mandate_id": mandate.id,
        "payer_id": mandate.payer_id,
        "payer_name": names.get(mandate.payer_id, ""),
        "spender_id": mandate.spender_id,
        "spender_name": names.get(mandate.spender_id, ""),
        "reason": mandate.reason,
        **(extra or {}),
    }
    people = [mandate.payer_id, mandate.spender_id, *await people_of(conn, mandate.circle_id, "approver")]
    await tell(conn, kind, circle_id=mandate.circle_id, subject_id=mandate.id, people=people, body=body, now=now)
