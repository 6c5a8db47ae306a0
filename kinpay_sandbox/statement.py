"""A UTC day of a client's money, from the bank's own ledger.

Source: docs/sandbox-bank.md §4.
"""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime, timedelta

from kinpay_sandbox.books import Connection, stamp
from kinpay_sandbox.client import Client

COLUMNS = ("kind", "key", "debit_key", "agreement_id", "spender_ref", "amount_minor", "currency", "finished_at")

MOVED_ON_DAY = """
SELECT CASE e.kind WHEN 'refund' THEN 'refund' ELSE 'debit' END AS kind, coalesce(r.key, d.key) AS key, r.debit_key,
    coalesce(d.agreement_id, g.agreement_id) AS agreement_id, coalesce(d.spender_ref, g.spender_ref) AS spender_ref,
    p.amount_minor, l.currency, e.posted_at
FROM entries e
JOIN postings p ON p.entry_id = e.entry_id AND p.amount_minor > 0
JOIN ledger_accounts l USING (ledger_account_id)
LEFT JOIN debits d ON e.kind <> 'refund' AND d.debit_id = e.reference
LEFT JOIN refunds r ON e.kind = 'refund' AND r.refund_id = e.reference
LEFT JOIN debits g ON g.client_id = r.client_id AND g.key = r.debit_key
WHERE e.client_id = $1 AND e.kind IN ('debit', 'capture', 'refund') AND e.posted_at >= $2 AND e.posted_at < $3
ORDER BY e.posted_at, e.entry_id"""
AT_ONCE = 5_000


async def statement_of(conn: Connection, client: Client, *, day: date) -> bytes:
    """Return the CSV of every debit and refund that moved money on that UTC day; amounts are positive minor units.

    `conn` is in a snapshot. However many lines there are, they are fetched and written by and by.
    """
    begins_at = datetime(day.year, day.month, day.day, tzinfo=UTC)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    parts = []
    moved = await conn.cursor(MOVED_ON_DAY, client.client_id, begins_at, begins_at + timedelta(days=1))
    while rows := await moved.fetch(AT_ONCE):
        for row in rows:
            names = (row["kind"], row["key"], row["debit_key"] or "", row["agreement_id"], row["spender_ref"] or "")
            writer.writerow((*names, row["amount_minor"], row["currency"], stamp(row["posted_at"])))
        parts.append(table.getvalue().encode())
        table.seek(0)
        table.truncate()
    return b"".join(parts) or table.getvalue().encode()
