"""What we hold for done and no statement tells.

What was finished since the last look and is not told yet waits in `recon_untold`. It leaves when a statement tells it, or when
every statement that could has been read, whenever that is: then it is missing.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from kinpay.database.sql import Connection, Record, Sql
from kinpay.reconciliation.match import CLOCKS_DIFFER

_AT_ONCE: Final = 10_000
_LONGEST_TRANSACTION: Final = timedelta(hours=1)
"""What was finished so long before the last look may have been committed after it."""
_FIRST: Final = "0" * 32

LOOK_AT_DEBITS = Sql("""
    WITH part AS MATERIALIZED (
        SELECT d.id, replace(d.id::text, '-', '') AS key, d.created_at, d.finished_at FROM debit d
        WHERE d.provider_account_id = :account_id AND d.state = 'succeeded' AND (d.finished_at, d.id) > (:after, :after_id)
        ORDER BY d.finished_at, d.id LIMIT :most
    ), waiting AS (
        INSERT INTO recon_untold (kind, id, provider_account_id, from_day, until_day)
        SELECT 'debit', p.id, :account_id, ((p.created_at - :apart::interval) AT TIME ZONE 'UTC')::date,
               ((p.finished_at + :apart::interval) AT TIME ZONE 'UTC')::date
        FROM part p
        WHERE NOT EXISTS (SELECT FROM provider_line l WHERE l.provider_account_id = :account_id AND l.kind = 'debit'
                          AND l.key = p.key)
          AND NOT EXISTS (SELECT FROM recon_break b WHERE b.provider_account_id = :account_id AND b.kind = 'debit'
                          AND b.key = p.key AND b.what = 'missing')
        ON CONFLICT DO NOTHING
    )
    SELECT id, finished_at FROM part ORDER BY finished_at DESC, id DESC LIMIT 1
""")
LOOK_AT_REFUNDS = Sql("""
    WITH part AS MATERIALIZED (
        SELECT r.id, replace(r.id::text, '-', '') AS key, r.created_at, r.finished_at,
               (SELECT d.provider_account_id FROM debit d WHERE d.id = r.debit_id AND d.circle_id = r.circle_id) AS account_id
        FROM refund r
        WHERE r.state = 'succeeded' AND (r.finished_at, r.id) > (:after, :after_id)
        ORDER BY r.finished_at, r.id LIMIT :most
    ), waiting AS (
        INSERT INTO recon_untold (kind, id, provider_account_id, from_day, until_day)
        SELECT 'refund', p.id, :account_id, ((p.created_at - :apart::interval) AT TIME ZONE 'UTC')::date,
               ((p.finished_at + :apart::interval) AT TIME ZONE 'UTC')::date
        FROM part p
        WHERE p.account_id = :account_id
          AND NOT EXISTS (SELECT FROM provider_line l WHERE l.provider_account_id = :account_id AND l.kind = 'refund'
                          AND l.key = p.key)
          AND NOT EXISTS (SELECT FROM recon_break b WHERE b.provider_account_id = :account_id AND b.kind = 'refund'
                          AND b.key = p.key AND b.what = 'missing')
        ON CONFLICT DO NOTHING
    )
    SELECT id, finished_at FROM part ORDER BY finished_at DESC, id DESC LIMIT 1
""")
# Ours is missing once every statement is there that could tell it, and none does.
FIND_MISSING = Sql("""
    WITH span AS (
        SELECT min(from_day) AS first, max(until_day) AS last FROM recon_untold WHERE provider_account_id = :account_id
    ), unread AS MATERIALIZED (
        SELECT g.day::date AS day FROM span CROSS JOIN LATERAL generate_series(first, last, interval '1 day') AS g (day)
        WHERE NOT EXISTS (SELECT FROM provider_statement s WHERE s.provider_account_id = :account_id AND s.day = g.day::date)
    ), gone AS (
        DELETE FROM recon_untold u
        WHERE u.provider_account_id = :account_id
          AND NOT EXISTS (SELECT FROM unread n WHERE n.day BETWEEN u.from_day AND u.until_day)
        RETURNING u.kind, u.id
    ), ours AS (
        SELECT g.kind, d.id, NULL::text AS debit_key, d.currency::text AS currency, d.amount_minor::bigint AS amount_minor,
               d.state, d.finished_at
        FROM gone g JOIN debit d ON d.id = g.id WHERE g.kind = 'debit'
        UNION ALL
        SELECT g.kind, r.id, replace(r.debit_id::text, '-', ''), r.currency::text, r.amount_minor::bigint, r.state,
               r.finished_at
        FROM gone g JOIN refund r ON r.id = g.id WHERE g.kind = 'refund'
    ), written AS (
        INSERT INTO recon_break (id, provider_account_id, day, what, kind, key, ours, found_at)
        SELECT gen_random_uuid(), :account_id, (finished_at AT TIME ZONE 'UTC')::date, 'missing', kind,
               replace(id::text, '-', ''),
               jsonb_build_object('amount_minor', amount_minor, 'currency', currency, 'state', state, 'debit_key', debit_key,
                                  'finished_at', finished_at), :now
        FROM ours
        ON CONFLICT (provider_account_id, kind, key, what) DO NOTHING
        RETURNING id, what, kind, key, day, ours, theirs
    )
    SELECT id, what, kind, key, day, ours, theirs FROM written ORDER BY id
""")


async def find_missing(conn: Connection, *, provider_account_id: str, looked_until: datetime, now: datetime) -> list[Record]:
    """Looks at what was finished since `looked_until`, and at what has waited; returns the breaks that are new."""
    for look in (LOOK_AT_DEBITS, LOOK_AT_REFUNDS):
        after, after_id = looked_until - _LONGEST_TRANSACTION, _FIRST
        while True:
            row = await look.row(
                conn, account_id=provider_account_id, after=after, after_id=after_id, apart=CLOCKS_DIFFER, most=_AT_ONCE
            )
            if row is None:
                break
            after, after_id = row["finished_at"], row["id"]
    return await FIND_MISSING.rows(conn, account_id=provider_account_id, now=now)
