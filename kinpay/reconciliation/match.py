"""Matching a day's lines with our debits and refunds, by their keys: set-based, whatever the number of lines."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Final

from kinpay.database.sql import Connection, Sql

CLOCKS_DIFFER: Final = timedelta(minutes=10)
"""How far a provider's clock may be from ours: so far around midnight a line may be in either day's statement."""

OURS: Final = """
    SELECT 'debit' AS kind, d.id, replace(d.id::text, '-', '') AS key, NULL::text AS debit_key, d.currency::text AS currency,
           d.amount_minor::bigint AS amount_minor, d.state, d.created_at, d.finished_at, d.circle_id
    FROM debit d WHERE d.provider_account_id = :account_id
    UNION ALL
    SELECT 'refund', r.id, replace(r.id::text, '-', ''), replace(r.debit_id::text, '-', ''), r.currency::text,
           r.amount_minor::bigint, r.state, r.created_at, r.finished_at, r.circle_id
    FROM refund r JOIN debit d ON d.id = r.debit_id AND d.circle_id = r.circle_id WHERE d.provider_account_id = :account_id
"""
"""Every debit and refund at one provider account, by the key that the provider knows it by."""

# A line is told for the first time, or once more (in this statement or in another one).
FIND = Sql(
    """
    WITH ours AS ("""
    + OURS
    + """), told AS (
        SELECT l.*, row_number() OVER (PARTITION BY l.kind, l.key ORDER BY l.number) > 1
               OR EXISTS (SELECT 1 FROM provider_line e WHERE e.provider_account_id = :account_id AND e.kind = l.kind
                          AND e.key = l.key AND e.statement_id <> :statement_id) AS again
        FROM provider_line l WHERE l.statement_id = :statement_id
    ), judged AS (
        SELECT t.kind, t.key, t.number,
               CASE WHEN t.again THEN 'doubled' WHEN o.key IS NULL THEN 'orphan'
                    WHEN o.state <> 'succeeded' OR o.amount_minor <> t.amount_minor OR o.currency <> t.currency
                         OR o.debit_key IS DISTINCT FROM t.debit_key THEN 'differing' END AS what,
               CASE WHEN o.key IS NOT NULL THEN jsonb_build_object('amount_minor', o.amount_minor, 'currency', o.currency,
                    'state', o.state, 'debit_key', o.debit_key) END AS ours,
               jsonb_build_object('amount_minor', t.amount_minor, 'currency', t.currency, 'debit_key', t.debit_key,
                                  'finished_at', t.finished_at, 'number', t.number) AS theirs
        FROM told t LEFT JOIN ours o ON o.kind = t.kind AND o.key = t.key
    ), written AS (
        INSERT INTO recon_break (id, provider_account_id, day, what, kind, key, ours, theirs, found_at)
        SELECT DISTINCT ON (kind, key, what) gen_random_uuid(), :account_id, :day, what, kind, key, ours, theirs, :now
        FROM judged WHERE what IS NOT NULL ORDER BY kind, key, what, number
        ON CONFLICT (provider_account_id, kind, key, what) DO NOTHING
    )
    SELECT count(*) FILTER (WHERE what IS NULL) AS matched, count(*) FILTER (WHERE what IS NOT NULL) AS breaks FROM judged
"""
)
# Ours is missing once every statement is there that could tell it, and none does.
FIND_MISSING = Sql(
    """
    WITH done AS (
        SELECT * FROM ("""
    + OURS
    + """) o
        WHERE o.state = 'succeeded' AND o.finished_at >= :since AND o.finished_at < :until
    ), judged AS (
        SELECT o.* FROM done o
        WHERE NOT EXISTS (SELECT 1 FROM provider_line l
                          WHERE l.provider_account_id = :account_id AND l.kind = o.kind AND l.key = o.key)
          AND NOT EXISTS (
              SELECT 1 FROM generate_series(((o.created_at - :apart::interval) AT TIME ZONE 'UTC')::date,
                                            ((o.finished_at + :apart::interval) AT TIME ZONE 'UTC')::date,
                                            interval '1 day') AS g (day)
              WHERE NOT EXISTS (SELECT 1 FROM provider_statement s
                                WHERE s.provider_account_id = :account_id AND s.day = g.day::date))
    ), written AS (
        INSERT INTO recon_break (id, provider_account_id, day, what, kind, key, ours, found_at)
        SELECT gen_random_uuid(), :account_id, (finished_at AT TIME ZONE 'UTC')::date, 'missing', kind, key,
               jsonb_build_object('amount_minor', amount_minor, 'currency', currency, 'state', state, 'debit_key', debit_key,
                                  'finished_at', finished_at), :now
        FROM judged
        ON CONFLICT (provider_account_id, kind, key, what) DO NOTHING RETURNING 1
    )
    SELECT count(*) FROM written
"""
)


async def find_breaks(
    conn: Connection, *, statement_id: str, provider_account_id: str, day: date, now: datetime
) -> tuple[int, int]:
    """Names every line of a statement that does not agree with our books; returns how many lines do, and how many do not."""
    row = await FIND.row(conn, statement_id=statement_id, account_id=provider_account_id, day=day, now=now)
    assert row is not None, "an aggregate always answers"
    return row["matched"], row["breaks"]


async def find_missing(conn: Connection, *, provider_account_id: str, since: datetime, until: datetime, now: datetime) -> int:
    """Names what we hold for done between two instants and no statement tells; returns how many are new."""
    found: int = await FIND_MISSING.value(
        conn, account_id=provider_account_id, since=since, until=until, apart=CLOCKS_DIFFER, now=now
    )
    return found


# What differs no more: a later statement has it, or our books have come round.
MEND = Sql(
    """
    WITH ours AS ("""
    + OURS
    + """), mended AS (
        SELECT b.id, CASE b.what WHEN 'missing' THEN 'appeared' ELSE 'settled' END AS resolution
        FROM recon_break b
        JOIN ours o ON o.kind = b.kind AND o.key = b.key AND o.state = 'succeeded'
        JOIN provider_line l ON l.provider_account_id = :account_id AND l.kind = b.kind AND l.key = b.key
             AND l.amount_minor = o.amount_minor AND l.currency = o.currency AND l.debit_key IS NOT DISTINCT FROM o.debit_key
        WHERE b.provider_account_id = :account_id AND b.state = 'open' AND b.what IN ('missing', 'orphan', 'differing')
    )
    UPDATE recon_break b SET state = 'resolved', resolution = m.resolution, resolved_at = :now
    FROM mended m WHERE b.id = m.id RETURNING b.id, b.resolution
"""
)


async def mend(conn: Connection, *, provider_account_id: str, now: datetime) -> dict[str, str]:
    """Resolves the open breaks of an account that are none any more; their ids and how."""
    rows = await MEND.rows(conn, account_id=provider_account_id, now=now)
    return {row["id"]: row["resolution"] for row in rows}
