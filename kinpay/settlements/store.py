"""Settlements as staff and merchants' back offices read them, and the note that one was paid."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from kinpay.database.audit import Event, record
from kinpay.database.sql import Connection, Record, Sql
from kinpay.ledger.entry import Account, AccountKind
from kinpay.primitives.actor import Actor
from kinpay.primitives.errors import NotFound, WrongState
from kinpay.settlements.settlement import Line, Settlement

IS_OURS = Sql("SELECT EXISTS (SELECT 1 FROM merchant WHERE id = :merchant_id AND operator_id = :operator_id)")


async def require_merchant(conn: Connection, merchant_id: str, *, asker: Actor) -> None:
    """Raises: NotFound for a merchant of somebody else, or beyond an API key's reach."""
    ours = await IS_OURS.value(conn, merchant_id=merchant_id, operator_id=asker.operator_id)
    if not ours or not asker.acts_for(operator_id=asker.operator_id, merchant_id=merchant_id):
        raise NotFound()


PAGE = Sql("""
    SELECT s.merchant_id, s.day, s.currency, s.captures, s.captured_minor, s.refunds, s.refunded_minor, s.closed_at,
           p.reference, p.paid_by, p.paid_at
    FROM settlement_day s LEFT JOIN settlement_paid p USING (merchant_id, day, currency)
    WHERE s.merchant_id = :merchant_id AND (:before::date IS NULL OR s.day < :before)
    ORDER BY s.day DESC, s.currency LIMIT :limit
""")


async def settlements_of(conn: Connection, merchant_id: str, *, before: date | None, limit: int) -> list[Settlement]:
    """A merchant's closed days, newest first."""
    return [_read(row) for row in await PAGE.rows(conn, merchant_id=merchant_id, before=before, limit=limit)]


def _read(row: Record | dict[str, Any]) -> Settlement:
    return Settlement(**row)


ONE = Sql("""
    SELECT s.merchant_id, s.day, s.currency, s.captures, s.captured_minor, s.refunds, s.refunded_minor, s.closed_at,
           p.reference, p.paid_by, p.paid_at, s.starts, s.ends
    FROM settlement_day s LEFT JOIN settlement_paid p USING (merchant_id, day, currency)
    WHERE s.merchant_id = :merchant_id AND s.day = :day AND s.currency = :currency
""")
LINES = Sql("""
    SELECT e.id AS entry_id, p.at, e.kind, e.charge_id, t.name AS terminal_name, c.reference, -p.amount_minor AS amount_minor
    FROM posting p JOIN entry e ON e.id = p.entry_id
    JOIN charge c ON c.id = e.charge_id AND c.circle_id = e.circle_id JOIN terminal t ON t.id = c.terminal_id
    WHERE p.account_id = :account_id AND p.at >= :starts AND p.at < :ends
      AND (:after::uuid IS NULL OR (p.at, e.id) > (SELECT at, id FROM entry WHERE id = :after))
    ORDER BY p.at, e.id LIMIT :limit
""")


async def lines_of(
    conn: Connection, merchant_id: str, *, day: date, currency: str, after: str | None, limit: int
) -> list[Line]:
    """What a closed day is made of, in order; every line is one entry of the ledger. Raises: NotFound if it is not closed."""
    row = await ONE.row(conn, merchant_id=merchant_id, day=day, currency=currency)
    if row is None:
        raise NotFound()
    account = Account(AccountKind.MERCHANT, merchant_id, currency)
    rows = await LINES.rows(conn, account_id=account.id, starts=row["starts"], ends=row["ends"], after=after, limit=limit)
    return [Line(**found) for found in rows]


PAY = Sql("""
    INSERT INTO settlement_paid (merchant_id, day, currency, reference, paid_by, paid_at)
    VALUES (:merchant_id, :day, :currency, :reference, :actor_id, :now) ON CONFLICT DO NOTHING RETURNING 1
""")


async def unpaid_day(conn: Connection, merchant_id: str, *, day: date, currency: str) -> Settlement:
    """A closed day that is not paid yet. Raises: NotFound if it is not closed; WrongState if it was paid."""
    row = await ONE.row(conn, merchant_id=merchant_id, day=day, currency=currency)
    if row is None:
        raise NotFound()
    if row["paid_at"] is not None:
        raise WrongState("settlement", state="paid", event="pay")
    return _read({name: row[name] for name in Settlement.__slots__})


async def note_paid(
    conn: Connection,
    merchant_id: str,
    *,
    operator_id: str,
    day: date,
    currency: str,
    reference: str,
    actor_id: str,
    now: datetime,
) -> Settlement:
    """Notes that the operator has paid a closed day. Raises: NotFound if it is not closed; WrongState if it was paid before."""
    await unpaid_day(conn, merchant_id, day=day, currency=currency)
    named = {"merchant_id": merchant_id, "day": day, "currency": currency}
    if await PAY.value(conn, **named, reference=reference, actor_id=actor_id, now=now) is None:
        raise WrongState("settlement", state="paid", event="pay")
    body = {"day": day.isoformat(), "currency": currency, "reference": reference}
    await record(conn, operator_id, Event("settlement.paid", merchant_id, body, actor_id), now=now)
    row = await ONE.row(conn, **named)
    assert row is not None
    return _read({name: row[name] for name in Settlement.__slots__})
