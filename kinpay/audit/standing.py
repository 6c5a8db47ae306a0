"""I2, I13, I14, I15, I17, I23: nothing is stuck, forgotten or kept too long, and nothing links what must not be linked."""

from __future__ import annotations

from typing import Final

from kinpay.audit.rule import Rule
from kinpay.database.sql import Sql

_STUCK: Final = "I2 no_stuck"
_OUTBOX: Final = "I13 outbox_complete"
_BIOMETRIC: Final = "I15 bio_binding"
_ISOLATION: Final = "I17 isolation"
_CODES: Final = "I23 terminal_bound"

UNSCHEDULED = Sql("""
    SELECT 'debit/' || replace(id::text, '-', '') AS id, 'is submitted and nobody will ask for it' AS detail
    FROM debit WHERE state = 'submitted' AND next_check_at IS NULL
    UNION ALL SELECT 'refund/' || replace(id::text, '-', ''), 'is submitted and nobody will ask for it'
    FROM refund WHERE state = 'submitted' AND next_check_at IS NULL
    UNION ALL SELECT 'charge/' || replace(id::text, '-', ''), 'is held and its hold never ends'
    FROM charge WHERE state = 'held' AND hold_expires_at IS NULL
    UNION ALL SELECT 'charge/' || replace(id::text, '-', ''), 'is owed and will not be tried again'
    FROM charge WHERE state = 'arrears' AND retry_at IS NULL
    UNION ALL SELECT 'agreement/' || replace(id::text, '-', ''), 'is undecided and nobody will ask for it'
    FROM agreement WHERE state IN ('created', 'pending') AND next_check_at IS NULL
""")
OVERDUE = Sql("""
    SELECT 'debit/' || replace(id::text, '-', '') AS id, 'should have been asked for at ' || next_check_at AS detail
    FROM debit WHERE next_check_at < :since
    UNION ALL SELECT 'refund/' || replace(id::text, '-', ''), 'should have been asked for at ' || next_check_at
    FROM refund WHERE state = 'submitted' AND next_check_at < :since
    UNION ALL SELECT 'charge/' || replace(id::text, '-', ''), 'is held; its hold ended at ' || hold_expires_at
    FROM charge WHERE state = 'held' AND hold_expires_at < :since
    UNION ALL SELECT 'charge/' || replace(c.id::text, '-', ''), 'should have been debited with ' || c.due_on
    FROM charge c JOIN operator o ON o.id = c.operator_id
    WHERE c.state = 'due' AND c.due_on + 1 < (:since::timestamptz AT TIME ZONE o.time_zone)::date
    UNION ALL SELECT 'charge/' || replace(id::text, '-', ''), 'is owed; it should have been tried again at ' || retry_at
    FROM charge WHERE state = 'arrears' AND retry_at < :since
    UNION ALL SELECT 'agreement/' || replace(id::text, '-', ''), 'should have been asked for at ' || next_check_at
    FROM agreement WHERE next_check_at < :since
    UNION ALL SELECT 'registration/' || replace(id::text, '-', ''), 'is open; its time ended at ' || expires_at
    FROM registration WHERE state = 'open' AND expires_at < :since
    UNION ALL SELECT 'outbox/' || id, 'is to be delivered since ' || available_at
    FROM outbox WHERE done_at IS NULL AND dead_at IS NULL AND available_at < :since
        AND (lease_until IS NULL OR lease_until < :since)
    UNION ALL SELECT 'inbox/' || replace(provider_account_id::text, '-', '') || '/' || notice_id,
                     'is to be acted on since ' || next_try_at
    FROM inbox WHERE applied_at IS NULL AND attempts < 24 AND next_try_at < :since
""")
CHARGE_IS_TOLD = Sql("""
    SELECT replace(c.id::text, '-', '') AS id, 'is ' || c.state || ' and nobody is told: no outbox row' AS detail
    FROM charge c LEFT JOIN outbox o ON o.subject_id = c.id WHERE o.id IS NULL
""")
OUTBOX_STATE = Sql("""
    SELECT id::text AS id, 'is done and given up at once' AS detail FROM outbox
    WHERE done_at IS NOT NULL AND dead_at IS NOT NULL
""")
INBOX_STATE = Sql("""
    SELECT replace(provider_account_id::text, '-', '') || '/' || notice_id AS id,
           CASE WHEN applied_at IS NULL THEN 'is not acted on and not scheduled' ELSE 'is dealt with, and nobody says how' END
           AS detail
    FROM inbox WHERE (applied_at IS NULL AND next_try_at IS NULL) OR (applied_at IS NOT NULL AND result IS NULL)
""")
# A minute's grace: the schedule destroys what is past its minutes; nothing opens it meanwhile.
TEMPLATE_LIFE = Sql("""
    SELECT replace(t.id::text, '-', '') AS id,
           CASE WHEN t.provisional_until IS NOT NULL THEN 'was to be destroyed at ' || t.provisional_until
                ELSE 'is kept and no registration is bound to it' END AS detail
    FROM template t
    WHERE t.ciphertext IS NOT NULL
      AND (t.provisional_until < :now::timestamptz - interval '1 minute'
           OR (t.provisional_until IS NULL
               AND NOT EXISTS (SELECT FROM registration r WHERE r.template_id = t.id AND r.state = 'bound')))
""")
TEMPLATE_AFTER_END = Sql("""
    SELECT replace(t.id::text, '-', '') AS id, 'is kept although its registration is ' || r.state AS detail
    FROM template t JOIN registration r ON r.template_id = t.id
    WHERE t.ciphertext IS NOT NULL AND r.state IN ('refused', 'expired', 'withdrawn')
      AND NOT EXISTS (SELECT FROM registration b WHERE b.template_id = t.id AND b.state = 'bound')
""")
TEMPLATE_RECEIPT = Sql("""
    SELECT replace(t.id::text, '-', '') AS id, 'is destroyed and nothing says so in the audit log' AS detail
    FROM template t WHERE t.destroyed_at IS NOT NULL
      AND NOT EXISTS (SELECT FROM audit_event e WHERE e.subject_id = t.id AND e.kind = 'template.destroyed')
""")
GALLERY_MEMBER = Sql("""
    SELECT replace(m.person_id::text, '-', '') AS id,
           'is looked for at site ' || replace(m.site_id::text, '-', '') || CASE WHEN p.operator_id <> o.operator_id
           THEN ', which belongs to another operator' ELSE ', and no template of theirs is kept' END AS detail
    FROM gallery_member m JOIN person p ON p.id = m.person_id JOIN site s ON s.id = m.site_id
    JOIN merchant o ON o.id = s.merchant_id
    WHERE p.operator_id <> o.operator_id
       OR NOT EXISTS (SELECT FROM template t JOIN template_vector v ON v.template_id = t.id
                      WHERE t.person_id = m.person_id AND t.destroyed_at IS NULL)
""")
CHARGE_LINKS = Sql("""
    SELECT replace(c.id::text, '-', '') AS id,
           'circle, operator, merchant, terminal, mandate, agreement or credential do not belong together' AS detail
    FROM charge c
    LEFT JOIN circle k ON k.id = c.circle_id
    LEFT JOIN merchant h ON h.id = c.merchant_id LEFT JOIN terminal t ON t.id = c.terminal_id
    LEFT JOIN mandate m ON m.id = c.mandate_id LEFT JOIN agreement a ON a.id = c.agreement_id
    LEFT JOIN credential r ON r.id = c.credential_id
    WHERE k.operator_id IS DISTINCT FROM c.operator_id OR h.operator_id IS DISTINCT FROM c.operator_id
       OR t.operator_id IS DISTINCT FROM c.operator_id
       OR (c.mandate_id IS NOT NULL
           AND (m.circle_id, m.spender_id, m.payer_id) IS DISTINCT FROM (c.circle_id, c.spender_id, c.payer_id))
       OR (c.agreement_id IS NOT NULL AND (a.circle_id, a.payer_id) IS DISTINCT FROM (c.circle_id, c.payer_id))
       OR (c.credential_id IS NOT NULL AND c.state <> 'refused'
           AND (r.circle_id, r.person_id) IS DISTINCT FROM (c.circle_id, c.spender_id))
""")
DEBIT_LINKS = Sql("""
    SELECT replace(d.id::text, '-', '') AS id, 'is not of the circle, operator, payer and provider account of its agreement'
           AS detail
    FROM debit d LEFT JOIN agreement a ON a.id = d.agreement_id
    WHERE (a.circle_id, a.operator_id, a.payer_id, a.provider_account_id)
          IS DISTINCT FROM (d.circle_id, d.operator_id, d.payer_id, d.provider_account_id)
    UNION ALL
    SELECT replace(r.id::text, '-', ''), 'is not in the circle of its debit and charge' FROM refund r
    LEFT JOIN debit d ON d.id = r.debit_id LEFT JOIN charge c ON c.id = r.charge_id
    WHERE (d.circle_id, c.circle_id) IS DISTINCT FROM (r.circle_id, r.circle_id)
""")
CONSENT_LINKS = Sql("""
    SELECT 'agreement/' || replace(a.id::text, '-', '') AS id, 'is not of its circle''s operator, or its account''s' AS detail
    FROM agreement a JOIN circle k ON k.id = a.circle_id JOIN provider_account p ON p.id = a.provider_account_id
    JOIN person y ON y.id = a.payer_id
    WHERE k.operator_id <> a.operator_id OR p.operator_id <> a.operator_id OR y.operator_id <> a.operator_id
    UNION ALL
    SELECT 'mandate/' || replace(m.id::text, '-', ''), 'is between people of another operator than its circle''s'
    FROM mandate m JOIN circle k ON k.id = m.circle_id JOIN person y ON y.id = m.payer_id JOIN person s ON s.id = m.spender_id
    WHERE y.operator_id <> k.operator_id OR s.operator_id <> k.operator_id
    UNION ALL
    SELECT 'settlement_rule/' || replace(s.mandate_id::text, '-', '') || '/' || s.version,
           'names an agreement of another payer or another circle'
    FROM settlement_rule s JOIN mandate m ON m.id = s.mandate_id CROSS JOIN unnest(s.agreement_ids) AS u (id)
    LEFT JOIN agreement a ON a.id = u.id
    WHERE (a.circle_id, a.payer_id) IS DISTINCT FROM (m.circle_id, m.payer_id)
    UNION ALL
    SELECT 'credential/' || replace(r.id::text, '-', ''), 'is of a person of another operator than its circle''s'
    FROM credential r JOIN circle k ON k.id = r.circle_id JOIN person y ON y.id = r.person_id
    WHERE y.operator_id <> k.operator_id
""")
LOST_ROWS = Sql("""
    SELECT e.what || '/' || replace(e.id::text, '-', '') AS id, 'is in a circle that does not exist' AS detail
    FROM (SELECT 'charge' AS what, id, circle_id FROM charge UNION ALL SELECT 'debit', id, circle_id FROM debit
          UNION ALL SELECT 'charge_debit', debit_id, circle_id FROM charge_debit
          UNION ALL SELECT 'refund', id, circle_id FROM refund UNION ALL SELECT 'entry', id, circle_id FROM entry
          UNION ALL SELECT 'posting', entry_id, circle_id FROM posting
          UNION ALL SELECT 'usage', counter_id, circle_id FROM usage) AS e
    LEFT JOIN circle k ON k.id = e.circle_id WHERE k.id IS NULL
""")
ONESELF = Sql("""
    SELECT replace(m.id::text, '-', '') AS id, 'its spender is its payer, and nothing says that it is for oneself' AS detail
    FROM mandate m
    WHERE m.payer_id = m.spender_id AND m.state <> 'ended'
      AND NOT EXISTS (SELECT FROM agreement a WHERE a.payer_id = m.payer_id AND a.business_type = 'self')
      AND NOT EXISTS (SELECT FROM registration r WHERE r.spender_id = m.spender_id AND r.business_type = 'self')
""")
CODE_BURNT = Sql("""
    SELECT replace(b.id::text, '-', '') AS id,
           CASE WHEN b.burnt_at > b.expires_at THEN 'was used after its end at ' || b.expires_at
                ELSE 'was used at another terminal than its own' END AS detail
    FROM burnt_code b LEFT JOIN scan s ON s.code_id = b.id LEFT JOIN charge c ON c.id = b.charge_id
    WHERE b.burnt_at > b.expires_at OR s.terminal_id <> b.terminal_id OR c.terminal_id <> b.terminal_id
    UNION ALL
    SELECT replace(charge_id::text, '-', ''), 'is one charge for ' || count(*) || ' codes'
    FROM burnt_code WHERE charge_id IS NOT NULL GROUP BY charge_id HAVING count(*) > 1
""")
STRAY_LANES = Sql("""
    SELECT replace(e.lane::text, '-', '') AS id, 'has events and no lane' AS detail
    FROM (SELECT DISTINCT lane FROM audit_event) e LEFT JOIN audit_lane l ON l.id = e.lane
    LEFT JOIN circle k ON k.id = e.lane WHERE l.id IS NULL AND k.id IS NULL
""")
CHECKPOINTED = Sql("""
    SELECT replace(c.lane::text, '-', '') || '/' || c.seq AS id, 'is not what a checkpoint was made of' AS detail
    FROM checkpoint_lane c LEFT JOIN audit_event e ON e.lane = c.lane AND e.seq = c.seq
    WHERE c.seq > 0 AND e.hash IS DISTINCT FROM c.hash
""")

RULES: Final = (
    Rule(_STUCK, "", UNSCHEDULED),
    Rule(_OUTBOX, "charge", CHARGE_IS_TOLD),
    Rule(_OUTBOX, "outbox", OUTBOX_STATE),
    Rule("I14 notify_ack", "inbox", INBOX_STATE),
    Rule(_BIOMETRIC, "template", TEMPLATE_AFTER_END),
    Rule(_BIOMETRIC, "template", TEMPLATE_RECEIPT),
    Rule(_BIOMETRIC, "gallery_member", GALLERY_MEMBER),
    Rule(_ISOLATION, "charge", CHARGE_LINKS),
    Rule(_ISOLATION, "debit, refund", DEBIT_LINKS),
    Rule(_ISOLATION, "", CONSENT_LINKS),
    Rule(_ISOLATION, "", LOST_ROWS),
    Rule("I7 consent_evidence", "mandate", ONESELF),
    Rule(_CODES, "burnt_code", CODE_BURNT),
    Rule("I11 hash_chain", "audit_event", STRAY_LANES),
    Rule("I11 hash_chain", "audit_event", CHECKPOINTED),
)
WITH_A_WORKER: Final = (Rule(_STUCK, "", OVERDUE), Rule(_BIOMETRIC, "template", TEMPLATE_LIFE))
"""What only a running worker keeps true."""
