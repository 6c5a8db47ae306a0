"""What a text needs beside what its cause wrote down: names as they are now, the charge as it stands, what is left today."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from kinpay.database.sql import Connection, Sql
from kinpay.mandates.store import names_of
from kinpay.primitives.errors import NotFound

_PEOPLE: Final = ("spender", "payer", "person")

CIRCLE = Sql("SELECT name, time_zone FROM circle WHERE id = :circle_id")
AGREEMENT = Sql("""
    SELECT a.circle_id, a.payer_id, p.provider FROM agreement a JOIN provider_account p ON p.id = a.provider_account_id
    WHERE a.id = :agreement_id
""")


async def facts_now(conn: Connection, body: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """The facts that a cause wrote down, with the names that people and circles bear now; and the circle's zone, if any."""
    facts = {name: value for name, value in body.items() if name != "people"}
    if "agreement_id" in facts and "circle_id" not in facts:
        facts |= dict(await AGREEMENT.row(conn, agreement_id=facts["agreement_id"]) or {})
    ids = {role: facts[f"{role}_id"] for role in _PEOPLE if facts.get(f"{role}_id")}
    names = await names_of(conn, ids.values()) if ids else {}
    facts |= {f"{role}_name": names[ident] for role, ident in ids.items() if ident in names}
    circle = await CIRCLE.row(conn, circle_id=facts["circle_id"]) if facts.get("circle_id") else None
    if circle is None:
        return facts, None
    return {**facts, "circle_name": circle["name"]}, circle["time_zone"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeFacts:
    """A charge for telling. `payer_ids`: who was debited or would have been. `told` may be kept in a notice to any of them."""

    circle_id: str
    mandate_id: str | None
    spender_id: str
    payer_ids: frozenset[str]
    time_zone: str
    state: str
    capture_at_once: bool
    decided_at: datetime
    cause: str | None
    told: dict[str, Any]


# Who was really debited may be somebody before a fallback, whose debit turned out to have succeeded.
CHARGE = Sql("""
    SELECT c.id AS charge_id, c.circle_id, ci.name AS circle_name, ci.time_zone, c.mandate_id, c.spender_id,
           s.display_name AS spender_name, c.payer_id, p.display_name AS payer_name, c.merchant_id, m.name AS merchant_name,
           c.amount_minor, c.captured_minor, c.currency, c.state, c.capture_at_once, c.refusal, c.decided_at,
           ARRAY(SELECT d.payer_id FROM charge_debit cd JOIN debit d ON d.id = cd.debit_id
                 WHERE cd.charge_id = c.id AND d.state = 'succeeded') AS debited_ids,
           (SELECT d.failure_cause FROM charge_debit cd JOIN debit d ON d.id = cd.debit_id
            WHERE cd.charge_id = c.id AND d.state = 'failed' ORDER BY d.finished_at DESC, d.id DESC LIMIT 1) AS cause
    FROM charge c
    JOIN circle ci ON ci.id = c.circle_id
    JOIN person s ON s.id = c.spender_id
    JOIN merchant m ON m.id = c.merchant_id
    LEFT JOIN person p ON p.id = c.payer_id
    WHERE c.id = :charge_id
""")
_INTERNAL: Final = frozenset({"time_zone", "state", "capture_at_once", "debited_ids", "cause", "mandate_id"})


async def charge_facts(conn: Connection, charge_id: str) -> ChargeFacts:
    """The charge as it stands. Raises: NotFound."""
    row = await CHARGE.row(conn, charge_id=charge_id)
    if row is None:
        raise NotFound()
    told = {name: value for name, value in row.items() if name not in _INTERNAL and value is not None}
    told |= {"decided_at": row["decided_at"].isoformat(), "captured_minor": row["captured_minor"] or row["amount_minor"]}
    payers = {*row["debited_ids"], row["payer_id"]} - {None}
    return ChargeFacts(
        circle_id=row["circle_id"],
        mandate_id=row["mandate_id"],
        spender_id=row["spender_id"],
        payer_ids=frozenset(payers),
        time_zone=row["time_zone"],
        state=row["state"],
        capture_at_once=row["capture_at_once"],
        decided_at=row["decided_at"],
        cause=row["cause"],
        told=told,
    )


REFUND = Sql("""
    SELECT r.charge_id, r.amount_minor AS refund_minor, d.payer_id, p.display_name AS payer_name
    FROM refund r JOIN debit d ON d.id = r.debit_id JOIN person p ON p.id = d.payer_id WHERE r.id = :refund_id
""")


async def refund_facts(conn: Connection, refund_id: str) -> dict[str, Any]:
    """Of which charge a refund is, how much, and to whom it goes back. Raises: NotFound."""
    row = await REFUND.row(conn, refund_id=refund_id)
    if row is None:
        raise NotFound()
    return dict(row)


# The window that holds both the charge and this moment: told after midnight, "today" would be another day.
TODAY = Sql("""
    SELECT v.terms, u.amount_minor + u.carried_minor AS used_minor
    FROM mandate m
    JOIN mandate_version v ON v.mandate_id = m.id AND v.version = m.version
    JOIN counter k ON k.scope = 'mandate' AND k.scope_id = m.id AND k.period = 'day' AND k.filter = '{}'
                      AND k.refunds = 'restore'
    JOIN usage u ON u.counter_id = k.id
    WHERE m.id = :mandate_id AND u.window_start <= :decided_at AND :decided_at < u.window_end
      AND u.window_start <= kinpay_now() AND kinpay_now() < u.window_end
    ORDER BY u.window_start DESC LIMIT 1
""")


async def left_today(conn: Connection, charge: ChargeFacts) -> dict[str, int]:
    """What the mandate's daily limit leaves now, if it has one for every payment; pools and cards may leave less."""
    if charge.mandate_id is None:
        return {}
    row = await TODAY.row(conn, mandate_id=charge.mandate_id, decided_at=charge.decided_at)
    if row is None:
        return {}
    ceilings = [
        limit["at_most"]
        for limit in row["terms"]["limits"]
        if (limit["metric"], limit["window"]) == ("amount", "day")
        and not any(limit.get(name) for name in ("filter", "alignment", "proration", "refunds"))
    ]
    if not ceilings:
        return {}
    return {"left_today_minor": max(0, min(ceilings) - row["used_minor"]), "day_limit_minor": min(ceilings)}
