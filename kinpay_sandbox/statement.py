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
    d.agreement_id, d.spender_ref, p.amount_minor, l.currency, e.posted_at
FROM entries e
JOIN postings p ON p.entry_id = e.entry_id AND p.amount_minor > 0
JOIN ledger_accounts l USING (ledger_account_id)
LEFT JOIN refunds r ON e.kind = 'refund' AND r.refund_id = e.reference
JOIN debits d ON d.debit_id = e.reference OR (d.client_id = r.client_id AND d.key = r.debit_key)
WHERE e.client_id = $1 AND e.kind IN ('debit', 'capture', 'refund') AND e.posted_at >= $2 AND e.posted_at < $3
ORDER BY e.posted_at, e.entry_id"""


async def statement_of(conn: Connection, client: Client, *, day: date) -> str:
    """Return the CSV of every debit and refund that moved money on that UTC day; amounts are positive minor units."""
    begins_at = datetime(day.year, day.month, day.day, tzinfo=UTC)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in await conn.fetch(MOVED_ON_DAY, client.client_id, begins_at, begins_at + timedelta(days=1)):
        names = (row["kind"], row["key"], row["debit_key"] or "", row["agreement_id"], row["spender_ref"] or "")
        writer.writerow((*names, row["amount_minor"], row["currency"], stamp(row["posted_at"])))
    return table.getvalue()
