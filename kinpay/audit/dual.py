"""I24: where an operator asks for two people, every privileged act had two, and the log names both."""

from __future__ import annotations

from typing import Final

from kinpay.audit.findings import Findings
from kinpay.audit.rule import Rule
from kinpay.database.sql import Connection, Sql
from kinpay.operators.act import fingerprint_of

_DUAL: Final = "I24 operator_dual"

ALONE = Sql("""
    SELECT replace(id::text, '-', '') AS id, 'was agreed to by nobody else' AS detail FROM privileged_act
    WHERE state IN ('approved', 'done') AND (decided_by IS NULL OR decided_by = asked_by)
""")
# Each state is the last that the log tells; the yes is somebody else's, the deed that of whoever asked.
TOLD_OTHERWISE = Sql("""
    SELECT replace(a.id::text, '-', '') AS id, 'is ' || a.state || ' and the log tells otherwise' AS detail
    FROM privileged_act a
    LEFT JOIN LATERAL (SELECT e.kind, e.actor_id FROM audit_event e WHERE e.lane = a.operator_id AND e.subject_id = a.id
                       ORDER BY e.seq DESC LIMIT 1) told ON true
    WHERE told.kind IS DISTINCT FROM 'privileged.' || a.state
       OR (a.state = 'done' AND told.actor_id IS DISTINCT FROM a.asked_by)
       OR (a.state IN ('approved', 'done')
           AND NOT EXISTS (SELECT FROM audit_event e WHERE e.lane = a.operator_id AND e.subject_id = a.id
                           AND e.kind = 'privileged.approved' AND e.actor_id = a.decided_by))
""")
# Whatever a person did while the switch was on comes right after an act of its kind that was agreed to: one transaction holds
# the lane from the one event to the other. (A break's end that does not say by whom is from when only writing off took two.)
UNASKED = Sql("""
    SELECT replace(e.lane::text, '-', '') || '/' || e.seq AS id, e.kind || ' was done by one person' AS detail
    FROM (VALUES ('staff.added', '', '', 'staff.add'), ('staff.ended', 'role', 'owner', 'staff.end'),
                 ('api_key.made', '', '', 'api_key.make'), ('webhook.made', '', '', 'webhook.send'),
                 ('webhook.changed', 'url', 'true', 'webhook.send'),
                 ('webhook.changed', 'lets_more_out', 'true', 'webhook.send'),
                 ('webhook.rotated', 'enabled', 'true', 'webhook.rotate'),
                 ('webhook.rotated', 'enabled', 'false', 'webhook.rotate'),
                 ('settlement.paid', '', '', 'settlement.pay'),
                 ('break.resolved', 'resolution', 'written_off', 'break.write_off'),
                 ('break.resolved', 'by', 'person', 'break.end'),
                 ('operator.dual_control', 'on', 'false', 'dual_control.end')) AS privileged (kind, field, value, act)
    JOIN audit_event e ON e.kind = privileged.kind
    JOIN person p ON p.id = e.actor_id
    LEFT JOIN audit_event d ON d.lane = e.lane AND d.seq = e.seq - 1
    WHERE (field = '' OR e.body::jsonb ->> field = value) AND NOT (act = 'break.write_off' AND e.body::jsonb ? 'by')
      AND (SELECT s.body::jsonb ->> 'on' FROM audit_event s
           WHERE s.lane = e.lane AND s.kind = 'operator.dual_control' AND s.seq < e.seq ORDER BY s.seq DESC LIMIT 1) = 'true'
      AND (d.kind, d.actor_id, d.body::jsonb ->> 'kind') IS DISTINCT FROM ('privileged.done', e.actor_id, privileged.act)
""")
# What a change lets out is told by what there was before and after it, whatever it says of itself.
LETS_OUT = Sql("""
    SELECT replace(lane::text, '-', '') || '/' || seq AS id, 'says that no more leaves than before, and more does' AS detail
    FROM (SELECT lane, seq, body::jsonb AS body FROM audit_event WHERE kind = 'webhook.changed') e
    WHERE body ? 'before' AND (body ->> 'lets_more_out')::boolean IS DISTINCT FROM (
        body ->> 'url_sha256' <> body -> 'before' ->> 'url_sha256' OR NOT body -> 'before' -> 'types' @> (body -> 'types')
        OR (body -> 'enabled' = 'true' AND body -> 'before' -> 'enabled' = 'false'))
""")
# What a second person read is what was then done: the deed is the next event. (Events of webhooks from before they told the
# address have nothing to compare.)
OTHERWISE = Sql("""
    SELECT replace(a.id::text, '-', '') AS id, 'was agreed to, and something else was done' AS detail
    FROM privileged_act a JOIN audit_event d ON d.lane = a.operator_id AND d.subject_id = a.id AND d.kind = 'privileged.done'
    LEFT JOIN LATERAL (SELECT e.kind, replace(e.subject_id::text, '-', '') AS subject, e.body::jsonb AS told FROM audit_event e
                       WHERE e.lane = d.lane AND e.seq = d.seq + 1) e ON true
    WHERE CASE a.kind
        WHEN 'staff.add' THEN e.kind = 'staff.added' AND e.subject = about ->> 'person_id' AND told -> 'role' = about -> 'role'
        WHEN 'staff.end' THEN e.kind = 'staff.ended' AND e.subject = about ->> 'person_id' AND told -> 'role' = about -> 'role'
        WHEN 'api_key.make' THEN e.kind = 'api_key.made' AND told -> 'merchant' = about -> 'merchant_id'
            AND told -> 'scopes' @> (about -> 'scopes') AND about -> 'scopes' @> (told -> 'scopes')
        WHEN 'webhook.send' THEN e.kind IN ('webhook.made', 'webhook.changed')
            AND (NOT about ? 'endpoint_id' OR e.subject = about ->> 'endpoint_id')
            AND (NOT told ? 'url_sha256'
                 OR (told ->> 'url_sha256' = encode(sha256(convert_to(about ->> 'url', 'UTF8')), 'hex')
                     AND told -> 'types' @> (about -> 'types') AND about -> 'types' @> (told -> 'types')))
        WHEN 'webhook.rotate' THEN e.kind = 'webhook.rotated' AND e.subject = about ->> 'endpoint_id'
        WHEN 'settlement.pay' THEN e.kind = 'settlement.paid' AND e.subject = about ->> 'merchant_id'
            AND told -> 'day' = about -> 'day' AND told -> 'currency' = about -> 'currency'
            AND told -> 'reference' = about -> 'reference'
        WHEN 'break.write_off' THEN e.kind = 'break.resolved' AND e.subject = about ->> 'break_id'
        WHEN 'break.end' THEN e.kind = 'break.resolved' AND e.subject = about ->> 'break_id'
            AND told -> 'resolution' = about -> 'resolution'
        WHEN 'dual_control.end' THEN e.kind = 'operator.dual_control' AND told -> 'on' = 'false'
    END IS NOT TRUE
""")
SWITCHED = Sql("""
    SELECT replace(o.id::text, '-', '') AS id, 'asks for two people or not, and the log tells otherwise' AS detail
    FROM operator o
    WHERE o.dual_control IS DISTINCT FROM coalesce(
        (SELECT (s.body::jsonb ->> 'on')::boolean FROM audit_event s
         WHERE s.lane = o.id AND s.kind = 'operator.dual_control' ORDER BY s.seq DESC LIMIT 1), false)
""")

RULES: Final = (
    Rule(_DUAL, "privileged_act", ALONE),
    Rule(_DUAL, "privileged_act", TOLD_OTHERWISE),
    Rule(_DUAL, "audit_event", UNASKED),
    Rule(_DUAL, "audit_event", LETS_OUT),
    Rule(_DUAL, "privileged_act", OTHERWISE),
    Rule(_DUAL, "operator", SWITCHED),
)

ACTS = Sql("""
    SELECT a.id, a.kind, a.about, a.fingerprint,
           (SELECT e.body::jsonb ->> 'fingerprint' FROM audit_event e
            WHERE e.lane = a.operator_id AND e.subject_id = a.id AND e.kind = 'privileged.asked'
            ORDER BY e.seq LIMIT 1) AS told
    FROM privileged_act a WHERE :after::uuid IS NULL OR a.id > :after ORDER BY a.id LIMIT :most
""")
_AT_ONCE: Final = 1_000


async def check_acts(conn: Connection, findings: Findings) -> None:
    """What the rows show a second person is what was asked for: its fingerprint is in the log."""
    after: str | None = None
    while rows := await ACTS.rows(conn, after=after, most=_AT_ONCE):
        for row in rows:
            if not fingerprint_of(row["kind"], row["about"]).hex() == row["fingerprint"].hex() == row["told"]:
                findings.add(_DUAL, "privileged_act", (row["id"],), "is not what was asked for")
        after = rows[-1]["id"]
