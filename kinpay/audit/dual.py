"""I24: where an operator asks for two people, every privileged act had two, and the log names both."""

from __future__ import annotations

from typing import Final

from kinpay.audit.rule import Rule
from kinpay.database.sql import Sql

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
                 ('webhook.changed', 'url', 'true', 'webhook.send'), ('settlement.paid', '', '', 'settlement.pay'),
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
    Rule(_DUAL, "operator", SWITCHED),
)
