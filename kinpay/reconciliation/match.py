"""Matching a statement's lines with our debits and refunds, by their keys: set-based, some thousand lines at a time.

Each line is looked up by an index, so what a statement costs depends on its lines and not on how many debits there ever were.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final

from kinpay.database.audit import Event
from kinpay.database.sql import Connection, Record, Sql

CLOCKS_DIFFER: Final = timedelta(minutes=10)
"""How far a provider's clock may be from ours: so far around midnight a line may be in either day's statement."""
_AT_ONCE: Final = 10_000
"""Lines judged by one statement: none runs into the pool's time-out, however long the day was."""
_IN_ONE_EVENT: Final = 100

# Statistics lag behind a day that was just copied in; whatever is looked up here, an index has it.
BY_INDEX = Sql("""
    SELECT set_config(name, 'off', true) FROM unnest(ARRAY['enable_seqscan', 'enable_hashjoin', 'enable_mergejoin']) AS name
""")

# What the provider calls a key is one of our ids only if it is written exactly as we write them.
_OURS_OF: Final = """(
    SELECT d.id, NULL::text AS debit_key, d.currency::text AS currency, d.amount_minor::bigint AS amount_minor, d.state
    FROM debit d
    WHERE {of}.kind = 'debit' AND d.id = CASE WHEN {of}.key ~ '^[0-9a-f]{{32}}$' THEN {of}.key::uuid END
      AND d.provider_account_id = :account_id
    UNION ALL
    SELECT r.id, replace(r.debit_id::text, '-', ''), r.currency::text, r.amount_minor::bigint, r.state
    FROM refund r JOIN debit d ON d.id = r.debit_id AND d.circle_id = r.circle_id
    WHERE {of}.kind = 'refund' AND r.id = CASE WHEN {of}.key ~ '^[0-9a-f]{{32}}$' THEN {of}.key::uuid END
      AND d.provider_account_id = :account_id
)"""
_AGREES: Final = """{line}.amount_minor = o.amount_minor AND {line}.currency = o.currency
    AND {line}.debit_key IS NOT DISTINCT FROM o.debit_key"""

# A line is told for the first time, or once more (further up in this statement, or in another one).
FIND = Sql(
    """
    WITH told AS MATERIALIZED (
        SELECT l.number, l.kind, l.key, l.debit_key, l.currency, l.amount_minor,
               CASE WHEN l.key ~ '^[0-9a-f]{32}$' THEN l.key::uuid END AS id,
               EXISTS (SELECT FROM provider_line e WHERE e.provider_account_id = :account_id AND e.kind = l.kind
                       AND e.key = l.key AND (e.statement_id <> l.statement_id OR e.number < l.number)) AS again
        FROM provider_line l
        WHERE l.statement_id = :statement_id AND l.number > :after AND l.number <= :until
    ), waited AS (
        DELETE FROM recon_untold u USING told t WHERE u.kind = t.kind AND u.id = t.id AND u.provider_account_id = :account_id
    ), judged AS (
        SELECT t.number, t.kind, t.key,
               CASE WHEN t.again THEN 'doubled' WHEN o.id IS NULL THEN 'orphan'
                    WHEN o.state <> 'succeeded' OR NOT ("""
    + _AGREES.format(line="t")
    + """) THEN 'differing' END AS what,
               CASE WHEN o.id IS NOT NULL THEN jsonb_build_object('amount_minor', o.amount_minor, 'currency', o.currency,
                    'state', o.state, 'debit_key', o.debit_key) END AS ours
        FROM told t LEFT JOIN LATERAL """
    + _OURS_OF.format(of="t")
    + """ o ON true
    ), written AS (
        INSERT INTO recon_break_line (statement_id, number, provider_account_id, kind, key, what, ours)
        SELECT :statement_id, number, :account_id, kind, key, what, ours FROM judged WHERE what IS NOT NULL
    )
    SELECT count(*) FILTER (WHERE what IS NULL) AS matched, count(*) FILTER (WHERE what IS NOT NULL) AS odd FROM judged
"""
)


async def find_odd_lines(conn: Connection, *, statement_id: str, provider_account_id: str, lines: int) -> tuple[int, int]:
    """Notes every line of a statement that does not agree with our books; returns how many lines do, and how many do not."""
    matched = odd = 0
    for after in range(0, lines, _AT_ONCE):
        row = await FIND.row(
            conn, statement_id=statement_id, account_id=provider_account_id, after=after, until=after + _AT_ONCE
        )
        assert row is not None, "an aggregate always answers"
        matched += row["matched"]
        odd += row["odd"]
    return matched, odd


# A break that was resolved opens again for another line; not for the one that somebody resolved before it came in a statement.
NAME = Sql("""
    WITH named AS (
        INSERT INTO recon_break AS b (id, provider_account_id, day, what, kind, key, ours, theirs, found_at)
        SELECT DISTINCT ON (o.kind, o.key, o.what)
               gen_random_uuid(), :account_id, :day, o.what, o.kind, o.key, o.ours,
               jsonb_build_object('amount_minor', l.amount_minor, 'currency', l.currency, 'debit_key', l.debit_key,
                                  'finished_at', l.finished_at, 'number', l.number), :now
        FROM recon_break_line o JOIN provider_line l ON l.statement_id = o.statement_id AND l.number = o.number
        WHERE o.statement_id = :statement_id ORDER BY o.kind, o.key, o.what, o.number
        ON CONFLICT (provider_account_id, kind, key, what) DO UPDATE
        SET state = 'open', resolution = NULL, note = NULL, resolved_at = NULL, resolved_by = NULL, day = EXCLUDED.day,
            ours = EXCLUDED.ours, theirs = EXCLUDED.theirs, found_at = EXCLUDED.found_at
        WHERE b.state = 'resolved'
          AND (b.theirs ? 'number' OR b.theirs - 'finished_at' IS DISTINCT FROM EXCLUDED.theirs - 'finished_at' - 'number')
        RETURNING b.id, b.what, b.kind, b.key, b.day, b.ours, b.theirs
    )
    SELECT id, what, kind, key, day, ours, theirs FROM named ORDER BY id
""")


async def name_breaks(
    conn: Connection, *, statement_id: str, provider_account_id: str, day: date, now: datetime
) -> list[Record]:
    """Opens, or opens again, the break of every line that was noted; returns those."""
    return await NAME.rows(conn, statement_id=statement_id, account_id=provider_account_id, day=day, now=now)


def found_events(subject_id: str, breaks: Sequence[Record]) -> list[Event]:
    """What the audit log keeps of breaks that were found: all of it, many in one event."""
    told = [
        {
            "break": row["id"],
            "day": row["day"].isoformat(),
            **{name: row[name] for name in ("what", "kind", "key", "ours", "theirs")},
        }
        for row in breaks
    ]
    parts = (told[at : at + _IN_ONE_EVENT] for at in range(0, len(told), _IN_ONE_EVENT))
    return [Event("breaks.found", subject_id, {"breaks": part}) for part in parts]


# What differs no more: a later statement has it, or our books have come round to every line that made the break. Where
# something was noted on an open break, somebody has to look.
MEND = Sql(
    """
    WITH mended AS (
        SELECT b.id, CASE b.what WHEN 'missing' THEN 'appeared' ELSE 'settled' END AS resolution
        FROM recon_break b CROSS JOIN LATERAL """
    + _OURS_OF.format(of="b")
    + """ o
        WHERE b.provider_account_id = :account_id AND b.state = 'open' AND b.note IS NULL AND o.state = 'succeeded'
          AND CASE WHEN b.what = 'missing' THEN
                  EXISTS (SELECT FROM provider_line l WHERE l.provider_account_id = :account_id AND l.kind = b.kind
                          AND l.key = b.key AND """
    + _AGREES.format(line="l")
    + """)
              WHEN b.what IN ('orphan', 'differing') THEN
                  (b.theirs ->> 'amount_minor')::bigint = o.amount_minor AND b.theirs ->> 'currency' = o.currency
                  AND b.theirs ->> 'debit_key' IS NOT DISTINCT FROM o.debit_key
                  AND NOT EXISTS (
                      SELECT FROM recon_break_line x
                      JOIN provider_line l ON l.statement_id = x.statement_id AND l.number = x.number
                      WHERE x.provider_account_id = :account_id AND x.kind = b.kind AND x.key = b.key AND x.what = b.what
                        AND NOT ("""
    + _AGREES.format(line="l")
    + """))
              ELSE false END
    )
    UPDATE recon_break b SET state = 'resolved', resolution = m.resolution, resolved_at = :now
    FROM mended m WHERE b.id = m.id RETURNING b.id, b.resolution
"""
)


async def mend(conn: Connection, *, provider_account_id: str, now: datetime) -> list[Event]:
    """Resolves the open breaks of an account that are none any more; returns what is to be recorded."""
    rows = await MEND.rows(conn, account_id=provider_account_id, now=now)
    return [Event("break.resolved", row["id"], _ended(row)) for row in rows]


def _ended(row: Record) -> dict[str, Any]:
    return {"resolution": row["resolution"], "by": "itself"}
