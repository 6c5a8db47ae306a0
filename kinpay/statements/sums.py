"""Where a statement's rows come from: set-based sums over the charges, debits and refunds of some days."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple

from kinpay.database.sql import Connection, Sql
from kinpay.statements.statement import Late, LateKind, Paid, Rows, Wanted, What


class Day(NamedTuple):
    """A day of a circle: from the first instant at which its wall showed it to that of the next."""

    day: date
    starts: datetime
    ends: datetime


# Who was really debited: each part of a succeeded debit counts for its own payer, also after a fallback to another one.
# A refund belongs to the part that it gives back; what the provider refused to give back does not count.
PAID = Sql("""
    WITH month AS (
        SELECT c.id, c.spender_id, c.merchant_id, c.mcc, c.currency, d.day
        FROM unnest(:days::date[], :starts::timestamptz[], :ends::timestamptz[]) AS d (day, starts, ends)
        JOIN charge c ON c.circle_id = :circle_id AND c.decided_at >= d.starts AND c.decided_at < d.ends
    ), back AS (
        SELECT r.charge_id, r.debit_id, sum(r.amount_minor) AS amount_minor
        FROM refund r JOIN month m ON m.id = r.charge_id
        WHERE r.circle_id = :circle_id AND r.state <> 'failed'
        GROUP BY r.charge_id, r.debit_id
    ), part AS (
        SELECT m.currency, m.day, m.spender_id, d.payer_id, m.merchant_id, m.mcc, cd.amount_minor,
               coalesce(b.amount_minor, 0) AS refunded_minor,
               row_number() OVER (PARTITION BY m.id ORDER BY d.created_at, d.id) AS nth
        FROM month m
        JOIN charge_debit cd ON cd.charge_id = m.id
        JOIN debit d ON d.id = cd.debit_id AND d.circle_id = :circle_id AND d.state = 'succeeded'
        LEFT JOIN back b ON b.charge_id = m.id AND b.debit_id = d.id
    )
    SELECT currency, day, spender_id, payer_id, merchant_id, mcc, count(*) FILTER (WHERE nth = 1) AS charges,
           count(*) AS debits, sum(amount_minor)::bigint AS gross_minor, sum(refunded_minor)::bigint AS refunded_minor
    FROM part GROUP BY currency, day, spender_id, payer_id, merchant_id, mcc
""")
# What is owed stays owed while it is tried again.
UNPAID = Sql("""
    WITH month AS (
        SELECT c.currency, c.spender_id, coalesce(c.captured_minor, c.amount_minor) AS amount_minor,
               CASE WHEN c.state = 'refused' THEN 'refused'
                    WHEN c.state = 'declined' THEN 'declined'
                    WHEN c.owed_since IS NOT NULL THEN 'owed'
                    WHEN c.state IN ('held', 'due', 'submitted') THEN 'pending' END AS what
        FROM unnest(:starts::timestamptz[], :ends::timestamptz[]) AS d (starts, ends)
        JOIN charge c ON c.circle_id = :circle_id AND c.decided_at >= d.starts AND c.decided_at < d.ends
    )
    SELECT currency, spender_id, what, count(*) AS count, sum(amount_minor)::bigint AS amount_minor
    FROM month WHERE what IS NOT NULL GROUP BY currency, spender_id, what
""")


async def sum_days(conn: Connection, circle_id: str, days: Sequence[Day]) -> Rows:
    """What was debited, and asked for in vain, on those days, as the books stand now."""
    if not days:
        return Rows()
    named = {"circle_id": circle_id, "starts": [day.starts for day in days], "ends": [day.ends for day in days]}
    paid = await PAID.rows(conn, days=[day.day for day in days], **named)
    unpaid = await UNPAID.rows(conn, **named)
    return Rows(tuple(Paid(**row) for row in paid), tuple(Wanted(**{**row, "what": What(row["what"])}) for row in unpaid))


LOOKED_BACK: Final = timedelta(days=62)
"""How much earlier than the month what was still pending may have been decided; holds last a month at most."""
# A month that is closed says nothing more: what happens to its charges after that is told in the month in which it happens.
# A refund that is refused in the end was told as refunded before, there or here: so it is told once more, the other way.
LATE = Sql("""
    WITH happened AS (
        SELECT 'debited' AS kind, d.id AS debit_id, cd.charge_id, d.payer_id, cd.amount_minor, d.finished_at AS at
        FROM debit d JOIN charge_debit cd ON cd.debit_id = d.id
        WHERE d.circle_id = :circle_id AND d.state = 'succeeded' AND d.finished_at >= :starts AND d.finished_at < :ends
        UNION ALL
        SELECT 'refunded', d.id, r.charge_id, d.payer_id, r.amount_minor, r.created_at
        FROM refund r JOIN debit d ON d.id = r.debit_id
        WHERE r.circle_id = :circle_id AND r.created_at >= :starts AND r.created_at < :ends
        UNION ALL
        SELECT 'refund_failed', d.id, r.charge_id, d.payer_id, r.amount_minor, r.finished_at
        FROM refund r JOIN debit d ON d.id = r.debit_id
        WHERE r.circle_id = :circle_id AND r.state = 'failed' AND r.finished_at >= :starts AND r.finished_at < :ends
        UNION ALL
        SELECT 'dropped', NULL, c.id, c.payer_id, coalesce(c.captured_minor, c.amount_minor), c.finished_at
        FROM charge c
        WHERE c.circle_id = :circle_id AND c.decided_at >= :starts::timestamptz - :looked_back::interval
          AND c.decided_at < :starts AND c.state IN ('declined', 'voided')
          AND c.finished_at >= :starts AND c.finished_at < :ends
    )
    SELECT h.kind, h.charge_id, to_char(m.month, 'YYYY-MM') AS month, h.at, c.currency, h.amount_minor, c.spender_id,
           h.payer_id, c.merchant_id, c.mcc,
           h.kind = 'debited' AND NOT EXISTS (
               SELECT 1 FROM charge_debit other JOIN debit o ON o.id = other.debit_id
               WHERE other.charge_id = c.id AND o.state = 'succeeded' AND (o.created_at, o.id) < (d.created_at, d.id)) AS first
    FROM happened h
    LEFT JOIN debit d ON d.id = h.debit_id
    JOIN charge c ON c.id = h.charge_id AND c.circle_id = :circle_id
    JOIN statement_month m ON m.circle_id = :circle_id AND c.decided_at >= m.starts AND c.decided_at < m.ends
    WHERE h.at > m.closed_at
    ORDER BY h.at, h.charge_id
""")


async def late_between(conn: Connection, circle_id: str, days: Sequence[Day]) -> list[Late]:
    """What happened on those days, which follow each other, to charges of months that were closed before."""
    rows = await LATE.rows(conn, circle_id=circle_id, starts=days[0].starts, ends=days[-1].ends, looked_back=LOOKED_BACK)
    found = []
    for row in rows:
        values = {**row}
        at = values.pop("at")
        day = next(day.day for day in days if day.starts <= at < day.ends)
        found.append(Late(**{**values, "kind": LateKind(row["kind"]), "day": day}))
    return found
