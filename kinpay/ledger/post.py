"""Writes entries, each with its audit event, inside the transaction of what they are about."""

from __future__ import annotations

from datetime import datetime

from kinpay.database.audit import Event
from kinpay.database.sql import Connection, Sql
from kinpay.ledger.entry import Entry

OPEN_ACCOUNTS = Sql("""
    INSERT INTO ledger_account (id, kind, owner_id, currency)
    SELECT * FROM unnest(:ids::uuid[], :kinds::text[], :owners::uuid[], :currencies::text[])
    ON CONFLICT DO NOTHING
""")
WRITE_ENTRY = Sql("""
    INSERT INTO entry (id, circle_id, kind, charge_id, debit_id, refund_id, at)
    VALUES (:id, :circle_id, :kind, :charge_id, :debit_id, :refund_id, :now)
""")
WRITE_POSTINGS = Sql("""
    INSERT INTO posting (entry_id, account_id, circle_id, currency, amount_minor, at)
    SELECT :id, account_id, :circle_id, currency, amount_minor, :now
    FROM unnest(:accounts::uuid[], :currencies::text[], :amounts::bigint[]) AS p (account_id, currency, amount_minor)
""")


async def post(conn: Connection, entry: Entry, *, now: datetime) -> Event:
    """Writes the entry; returns the audit event that the caller records with its own."""
    accounts = [posting.account for posting in entry.postings]
    currencies = [account.currency for account in accounts]
    await OPEN_ACCOUNTS.run(
        conn,
        ids=[account.id for account in accounts],
        kinds=[account.kind.value for account in accounts],
        owners=[account.owner_id for account in accounts],
        currencies=currencies,
    )
    await WRITE_ENTRY.run(
        conn,
        id=entry.id,
        circle_id=entry.circle_id,
        kind=entry.kind,
        charge_id=entry.charge_id,
        debit_id=entry.debit_id,
        refund_id=entry.refund_id,
        now=now,
    )
    await WRITE_POSTINGS.run(
        conn,
        id=entry.id,
        circle_id=entry.circle_id,
        accounts=[account.id for account in accounts],
        currencies=currencies,
        amounts=[posting.minor for posting in entry.postings],
        now=now,
    )
    lines = [[posting.account.id, posting.minor, posting.account.currency] for posting in entry.postings]
    return Event(
        f"entry.{entry.kind}",
        entry.id,
        {"charge_id": entry.charge_id, "debit_id": entry.debit_id, "refund_id": entry.refund_id, "postings": lines},
    )
