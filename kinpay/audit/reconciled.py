"""I21: every line of a provider's statement is matched or has a break with a name; whatever was read and found is still there.

What a statement told, what was found by it and how each break ended is in the operator's lane; the tables must say the same.
"""

from __future__ import annotations

from typing import Final

from kinpay.audit.findings import Findings
from kinpay.audit.rule import Rule
from kinpay.database.sql import Connection, Sql
from kinpay.reconciliation.fetch import StatementDigest

_RECONCILED: Final = "I21 reconciled"
_PAGE: Final = 10_000

STATEMENTS_TOLD = Sql("""
    WITH done AS MATERIALIZED (
        SELECT lane, seq, subject_id, body::jsonb AS body FROM audit_event WHERE kind = 'reconciliation.done'
    )
    SELECT replace(coalesce(s.id, d.subject_id)::text, '-', '') AS id,
           CASE WHEN s.id IS NULL THEN 'was read on ' || (d.body ->> 'day') || ' and is not kept'
                WHEN d.seq IS NULL THEN 'is kept and the log does not tell of it'
                ELSE 'is not what the log tells of it' END AS detail
    FROM (SELECT s.*, a.operator_id FROM provider_statement s JOIN provider_account a ON a.id = s.provider_account_id) s
    FULL JOIN done d ON d.subject_id = s.id AND d.lane = s.operator_id
    WHERE s.id IS NULL OR d.seq IS NULL
       OR d.body - 'account' IS DISTINCT FROM jsonb_build_object(
              'day', s.day, 'sha256', encode(s.sha256, 'hex'), 'lines', s.lines, 'matched', s.matched, 'breaks', s.breaks)
       OR d.body ->> 'account' IS DISTINCT FROM replace(s.provider_account_id::text, '-', '')
""")
# The last that the log tells of each break. One that was found before the log told of that is known by its end alone.
BREAKS_TOLD = Sql("""
    WITH events AS MATERIALIZED (
        SELECT e.lane, e.seq, (b.value ->> 'break')::uuid AS id, 'open' AS state, b.value AS found, NULL::jsonb AS ended,
               NULL::uuid AS actor_id
        FROM audit_event e CROSS JOIN LATERAL jsonb_array_elements(e.body::jsonb -> 'breaks') AS b (value)
        WHERE e.kind = 'breaks.found'
        UNION ALL
        SELECT lane, seq, subject_id, 'resolved', NULL, body::jsonb, actor_id FROM audit_event WHERE kind = 'break.resolved'
    ), last AS (
        SELECT DISTINCT ON (id) * FROM events ORDER BY id, seq DESC
    ), found AS (
        SELECT DISTINCT ON (id) id, found FROM events WHERE found IS NOT NULL ORDER BY id, seq DESC
    )
    SELECT replace(coalesce(b.id, l.id)::text, '-', '') AS id,
           CASE WHEN b.id IS NULL THEN 'was found and is not kept'
                WHEN b.state <> coalesce(l.state, 'open') THEN 'is ' || b.state || ' and the log tells otherwise'
                ELSE 'is not what the log tells of it' END AS detail
    FROM (SELECT b.*, a.operator_id FROM recon_break b JOIN provider_account a ON a.id = b.provider_account_id) b
    FULL JOIN last l ON l.id = b.id AND l.lane = b.operator_id
    LEFT JOIN found f ON f.id = b.id
    WHERE b.id IS NULL OR b.state <> coalesce(l.state, 'open')
       OR (b.state = 'resolved'
           AND (b.resolution, b.resolved_by) IS DISTINCT FROM (l.ended ->> 'resolution', l.actor_id))
       OR (b.state = 'resolved' AND l.ended ? 'note_sha256'
           AND encode(sha256(convert_to(coalesce(b.note, ''), 'UTF8')), 'hex') <> l.ended ->> 'note_sha256')
       OR f.found - 'break' IS DISTINCT FROM CASE WHEN f.id IS NOT NULL THEN jsonb_build_object(
              'day', b.day, 'what', b.what, 'kind', b.kind, 'key', b.key, 'ours', b.ours, 'theirs', b.theirs) END
""")
_OURS: Final = """
    SELECT 'debit' AS kind, replace(d.id::text, '-', '') AS key, d.provider_account_id, NULL::text AS debit_key,
           d.currency::text AS currency, d.amount_minor::bigint AS amount_minor, d.id, d.created_at, d.finished_at
    FROM debit d WHERE d.state = 'succeeded'
    UNION ALL
    SELECT 'refund', replace(r.id::text, '-', ''), d.provider_account_id, replace(r.debit_id::text, '-', ''),
           r.currency::text, r.amount_minor::bigint, r.id, r.created_at, r.finished_at
    FROM refund r JOIN debit d ON d.id = r.debit_id AND d.circle_id = r.circle_id WHERE r.state = 'succeeded'
"""
UNNAMED = Sql(
    """
    SELECT replace(l.statement_id::text, '-', '') || '/' || l.number AS id,
           'tells ' || l.kind || ' ' || l.key || ' otherwise than our books, and there is no break' AS detail
    FROM provider_line l
    LEFT JOIN ("""
    + _OURS
    + """) o ON o.kind = l.kind AND o.key = l.key AND o.provider_account_id = l.provider_account_id
    WHERE (o.key IS NULL OR (o.amount_minor, o.currency) <> (l.amount_minor, l.currency)
           OR o.debit_key IS DISTINCT FROM l.debit_key)
      AND NOT EXISTS (SELECT FROM recon_break b WHERE b.provider_account_id = l.provider_account_id AND b.kind = l.kind
                      AND b.key = l.key AND b.what <> 'missing')
    UNION ALL
    SELECT replace(t.last_id, '-', '') || '/' || t.last_number,
           'tells ' || t.kind || ' ' || t.key || ' again, and there is no break'
    FROM (SELECT provider_account_id, kind, key, max(statement_id::text) AS last_id, max(number) AS last_number
          FROM provider_line GROUP BY 1, 2, 3 HAVING count(*) > 1) t
    WHERE NOT EXISTS (SELECT FROM recon_break b WHERE b.provider_account_id = t.provider_account_id AND b.kind = t.kind
                      AND b.key = t.key AND b.what = 'doubled')
"""
)
# An hour: whoever looked could not see what was not committed yet.
FORGOTTEN = Sql(
    """
    SELECT o.kind || '/' || o.key AS id, 'is done here, and is neither told nor missing nor waited for' AS detail
    FROM ("""
    + _OURS
    + """) o
    JOIN recon_progress p ON p.provider_account_id = o.provider_account_id
    LEFT JOIN recon_untold u ON u.kind = o.kind AND u.id = o.id AND u.provider_account_id = o.provider_account_id
         AND u.from_day = ((o.created_at - interval '10 minutes') AT TIME ZONE 'UTC')::date
         AND u.until_day = ((o.finished_at + interval '10 minutes') AT TIME ZONE 'UTC')::date
    WHERE o.finished_at < p.looked_until - interval '1 hour' AND u.id IS NULL
      AND NOT EXISTS (SELECT FROM provider_line l WHERE l.provider_account_id = o.provider_account_id AND l.kind = o.kind
                      AND l.key = o.key)
      AND NOT EXISTS (SELECT FROM recon_break b WHERE b.provider_account_id = o.provider_account_id AND b.kind = o.kind
                      AND b.key = o.key AND b.what = 'missing')
"""
)

RULES: Final = (
    Rule(_RECONCILED, "provider_statement", STATEMENTS_TOLD),
    Rule(_RECONCILED, "recon_break", BREAKS_TOLD),
    Rule(_RECONCILED, "provider_line", UNNAMED),
    Rule(_RECONCILED, "recon_untold", FORGOTTEN),
)

STATEMENTS = Sql("SELECT id, provider_account_id, day, lines, sha256 FROM provider_statement ORDER BY day, id")
LINES = Sql("""
    SELECT number, kind, key, debit_key, currency, amount_minor, finished_at FROM provider_line
    WHERE statement_id = :statement_id AND number > :after ORDER BY number LIMIT :most
""")


async def check_lines(conn: Connection, findings: Findings) -> None:
    """Whether each statement's lines are those that were read: all of them, in their order, by their SHA-256."""
    for row in await STATEMENTS.rows(conn):
        digest, lines, last = StatementDigest(row["provider_account_id"], row["day"]), 0, 0
        while page := await LINES.rows(conn, statement_id=row["id"], after=last, most=_PAGE):
            for line in page:
                digest.add(tuple(line)[1:])
            lines, last = lines + len(page), page[-1]["number"]
        if (lines, last, digest.value) != (row["lines"], row["lines"], row["sha256"]):
            findings.add(_RECONCILED, "provider_statement", (row["id"],), "its lines are not those that were read")
