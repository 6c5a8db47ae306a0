"""I1, I3, I8, I18: what was debited, what went back, what the books say of it; each invariant a statement over all rows."""

from __future__ import annotations

from typing import Final

from kinpay.audit.rule import Rule
from kinpay.database.sql import Sql

_ONE_DEBIT: Final = "I1 one_debit"
_BALANCED: Final = "I3 ledger_balanced"
_REFUNDS: Final = "I8 refund_cap"
_MONEY: Final = "I18 money_type"

# A charge's succeeded debits, less all that goes back to the payer, are what it captured less what was refunded: so a surplus
# debit is only right together with its refund, and pays for nothing. One that the provider refuses to give back stays visible
# as a failed refund.
ONE_DEBIT = Sql("""
    WITH debited AS (
        SELECT cd.charge_id, count(*) AS all_of_them, count(*) FILTER (WHERE d.state IN ('frozen', 'submitted')) AS open,
               count(*) FILTER (WHERE d.state = 'succeeded' AND NOT EXISTS (
                   SELECT 1 FROM refund s WHERE s.debit_id = d.id AND s.reason = 'surplus')) AS succeeded,
               coalesce(sum(cd.amount_minor) FILTER (WHERE d.state = 'succeeded'), 0) AS minor
        FROM charge_debit cd JOIN debit d ON d.id = cd.debit_id AND d.circle_id = cd.circle_id GROUP BY 1
    ), back AS (
        SELECT charge_id, coalesce(sum(amount_minor) FILTER (WHERE state <> 'failed'), 0) AS minor,
               coalesce(sum(amount_minor) FILTER (WHERE state = 'failed' AND reason = 'surplus'), 0) AS stuck_minor
        FROM refund GROUP BY 1
    ), charged AS (
        SELECT c.id, c.state, c.captured_minor, coalesce(d.all_of_them, 0) AS all_of_them, coalesce(d.open, 0) AS open,
               coalesce(d.succeeded, 0) AS succeeded,
               coalesce(d.minor, 0) - coalesce(b.minor, 0) - coalesce(c.captured_minor, 0) + c.refunded_minor AS kept_too_much,
               coalesce(b.stuck_minor, 0) AS stuck_minor
        FROM charge c LEFT JOIN debited d ON d.charge_id = c.id LEFT JOIN back b ON b.charge_id = c.id
    )
    SELECT replace(id::text, '-', '') AS id,
           'is ' || state || ' with ' || all_of_them || ' debits, ' || succeeded || ' succeeded and ' || open || ' open'
           || CASE WHEN state = 'succeeded' THEN '; debits less refunds are off by ' || kept_too_much ELSE '' END AS detail
    FROM charged
    WHERE NOT CASE state
        WHEN 'succeeded' THEN (succeeded >= 1 OR (captured_minor = 0 AND all_of_them = 0))
                              AND kept_too_much IN (0, stuck_minor)
        WHEN 'submitted' THEN succeeded = 0 AND open = 1
        WHEN 'arrears' THEN succeeded = 0 AND open = 0 AND all_of_them > 0
        WHEN 'declined' THEN succeeded = 0 AND open = 0 AND all_of_them > 0
        WHEN 'voided' THEN succeeded = 0 AND open = 0
        ELSE all_of_them = 0 END
    ORDER BY id
""")
DEBIT_IS_ITS_CHARGES = Sql("""
    SELECT replace(d.id::text, '-', '') AS id,
           'debits ' || d.amount_minor || '; its charges come to ' || coalesce(sum(cd.amount_minor), 0) AS detail
    FROM debit d LEFT JOIN charge_debit cd ON cd.debit_id = d.id AND cd.circle_id = d.circle_id
    GROUP BY d.id, d.amount_minor HAVING d.amount_minor IS DISTINCT FROM sum(cd.amount_minor) ORDER BY 1
""")
SHARE_IS_CAPTURED = Sql("""
    SELECT replace(cd.charge_id::text, '-', '') || '/' || replace(cd.debit_id::text, '-', '') AS id,
           'takes ' || cd.amount_minor || ' of a charge that captured ' || coalesce(c.captured_minor::text, 'nothing') AS detail
    FROM charge_debit cd LEFT JOIN charge c ON c.id = cd.charge_id AND c.circle_id = cd.circle_id
    WHERE c.captured_minor IS DISTINCT FROM cd.amount_minor
""")
IDS_ARE_ONCE = Sql("""
    SELECT replace(id::text, '-', '') AS id, 'is in ' || count(*) || ' circles' AS detail
    FROM (SELECT id FROM charge UNION ALL SELECT id FROM debit UNION ALL SELECT id FROM refund) AS every
    GROUP BY id HAVING count(*) > 1
""")
REFUND_CAP = Sql("""
    SELECT replace(r.charge_id::text, '-', '') || '/' || replace(r.debit_id::text, '-', '') AS id,
           'refunds ' || sum(r.amount_minor) FILTER (WHERE r.state <> 'failed') || ' of a debit of '
           || coalesce(min(cd.amount_minor)::text, 'another charge') AS detail
    FROM refund r LEFT JOIN charge_debit cd ON cd.charge_id = r.charge_id AND cd.debit_id = r.debit_id
    LEFT JOIN debit d ON d.id = r.debit_id
    GROUP BY r.charge_id, r.debit_id
    HAVING coalesce(sum(r.amount_minor) FILTER (WHERE r.state <> 'failed'), 0) > coalesce(min(cd.amount_minor), 0)
        OR bool_or(d.state IS DISTINCT FROM 'succeeded')
""")
REFUND_NOT_ABOVE_CAPTURED = Sql("""
    SELECT replace(id::text, '-', '') AS id, 'refunds ' || refunded_minor || ' of ' || coalesce(captured_minor, 0) AS detail
    FROM charge WHERE refunded_minor > coalesce(captured_minor, 0) OR captured_minor > amount_minor OR refunded_minor < 0
""")
UNBALANCED = Sql("""
    SELECT replace(e.id::text, '-', '') AS id,
           CASE WHEN count(p.entry_id) = 0 THEN 'has no postings'
                ELSE 'sums to ' || sum(p.amount_minor) || ' over ' || count(DISTINCT p.currency) || ' currencies' END AS detail
    FROM entry e LEFT JOIN posting p ON p.entry_id = e.id
    GROUP BY e.id HAVING count(p.entry_id) < 2 OR sum(p.amount_minor) <> 0 OR count(DISTINCT p.currency) <> 1
""")
CURRENCY_UNBALANCED = Sql("""
    SELECT currency::text AS id, 'all postings sum to ' || sum(amount_minor) AS detail
    FROM posting GROUP BY currency HAVING sum(amount_minor) <> 0
""")
POSTING_FITS = Sql("""
    SELECT replace(p.entry_id::text, '-', '') || '/' || replace(p.account_id::text, '-', '') AS id,
           'is not in the currency of its account, or not in the circle or at the moment of its entry' AS detail
    FROM posting p LEFT JOIN ledger_account a ON a.id = p.account_id LEFT JOIN entry e ON e.id = p.entry_id
    WHERE a.currency IS DISTINCT FROM p.currency OR e.circle_id IS DISTINCT FROM p.circle_id OR p.amount_minor = 0
       OR e.at IS DISTINCT FROM p.at
""")
ACCOUNT_IS_NAMED = Sql("""
    SELECT replace(id::text, '-', '') AS id, 'its id is not made from kind, owner and currency' AS detail
    FROM ledger_account
    WHERE replace(id::text, '-', '') <> left(encode(sha256(convert_to(
        kind || E'\\n' || replace(owner_id::text, '-', '') || E'\\n' || currency, 'UTF8')), 'hex'), 32)
""")
# What each kind of entry moves: from which account to which, and how much (kinpay.ledger.entry).
ENTRY_SHAPE = Sql("""
    WITH lines AS (
        SELECT p.entry_id, max(p.amount_minor) AS minor,
               (array_agg(a.kind || ' ' || a.owner_id) FILTER (WHERE p.amount_minor > 0))[1] AS debited,
               (array_agg(a.kind || ' ' || a.owner_id) FILTER (WHERE p.amount_minor < 0))[1] AS credited
        FROM posting p JOIN ledger_account a ON a.id = p.account_id GROUP BY 1
    ), wanted AS (
        SELECT e.id, e.kind, CASE e.kind WHEN 'capture' THEN c.captured_minor WHEN 'debit' THEN d.amount_minor
                                         ELSE r.amount_minor END AS minor,
               'payer ' || coalesce(d.payer_id, rd.payer_id, c.payer_id) AS payer, 'merchant ' || c.merchant_id AS merchant,
               'clearing ' || coalesce(d.provider_account_id, rd.provider_account_id) AS clearing
        FROM entry e LEFT JOIN charge c ON c.id = e.charge_id AND c.circle_id = e.circle_id
        LEFT JOIN debit d ON d.id = e.debit_id AND d.circle_id = e.circle_id
        LEFT JOIN refund r ON r.id = e.refund_id AND r.circle_id = e.circle_id AND r.charge_id = e.charge_id
        LEFT JOIN debit rd ON rd.id = r.debit_id
    )
    SELECT replace(w.id::text, '-', '') AS id, w.kind || ' entry does not move what it is about' AS detail
    FROM wanted w LEFT JOIN lines l ON l.entry_id = w.id
    WHERE NOT coalesce(w.minor = l.minor AND CASE w.kind
        WHEN 'capture' THEN l.debited LIKE 'payer %' AND l.credited = w.merchant
        WHEN 'debit' THEN l.debited = w.clearing AND l.credited = w.payer
        WHEN 'refund' THEN l.debited = w.merchant AND l.credited = w.payer
        WHEN 'refund_paid' THEN l.debited = w.payer AND l.credited = w.clearing
        ELSE l.debited = w.payer AND l.credited = w.merchant END, false)
""")
DEBIT_IS_BOOKED = Sql("""
    SELECT replace(d.id::text, '-', '') AS id, 'is ' || d.state || ' and booked ' || count(e.id) || ' times' AS detail
    FROM debit d LEFT JOIN entry e ON e.debit_id = d.id AND e.kind = 'debit'
    GROUP BY d.id, d.state HAVING count(e.id) <> CASE WHEN d.state = 'succeeded' THEN count(DISTINCT d.circle_id) ELSE 0 END
""")
CAPTURE_IS_BOOKED = Sql("""
    SELECT replace(c.id::text, '-', '') AS id, 'is ' || c.state || ' and its capture is booked ' || count(e.id) || ' times'
           AS detail
    FROM charge c LEFT JOIN entry e ON e.charge_id = c.id AND e.kind = 'capture'
    GROUP BY c.id, c.circle_id, c.state, c.owed_since, c.captured_minor, c.due_on
    HAVING count(e.id) <> CASE WHEN c.captured_minor = 0 THEN 0
                               WHEN c.state IN ('succeeded', 'arrears') OR c.owed_since IS NOT NULL THEN 1
                               WHEN c.due_on IS NOT NULL AND c.state = 'submitted' THEN 1 ELSE 0 END
""")
REFUND_IS_BOOKED = Sql("""
    SELECT replace(r.id::text, '-', '') AS id, 'is ' || r.state || '; booked: ' || coalesce(string_agg(e.kind, ', '), 'nothing')
           AS detail
    FROM refund r LEFT JOIN entry e ON e.refund_id = r.id
    GROUP BY r.id, r.circle_id, r.state, r.reason
    HAVING count(*) FILTER (WHERE e.kind = 'refund_paid') <> CASE WHEN r.state = 'succeeded' THEN 1 ELSE 0 END
        OR count(*) FILTER (WHERE e.kind = 'refund') > 1
        OR (r.reason <> 'surplus' AND count(*) FILTER (WHERE e.kind = 'refund') <> 1)
        OR count(*) FILTER (WHERE e.kind = 'adjustment')
           <> CASE WHEN r.state = 'failed' THEN count(*) FILTER (WHERE e.kind = 'refund') ELSE 0 END
""")
SETTLED = Sql("""
    SELECT replace(s.merchant_id::text, '-', '') || '/' || s.day || '/' || s.currency AS id,
           'says ' || s.captured_minor || ' less ' || s.refunded_minor || '; the ledger ' || l.captured_minor || ' less '
           || l.refunded_minor AS detail
    FROM settlement_day s
    JOIN ledger_account a ON a.kind = 'merchant' AND a.owner_id = s.merchant_id AND a.currency = s.currency
    CROSS JOIN LATERAL (
        SELECT coalesce(-sum(p.amount_minor) FILTER (WHERE e.kind = 'capture'), 0) AS captured_minor,
               coalesce(sum(p.amount_minor) FILTER (WHERE e.kind <> 'capture'), 0) AS refunded_minor
        FROM posting p JOIN entry e ON e.id = p.entry_id
        WHERE p.account_id = a.id AND p.at >= s.starts AND p.at < s.ends) l
    WHERE (l.captured_minor, l.refunded_minor) IS DISTINCT FROM (s.captured_minor, s.refunded_minor)
""")
ONE_CURRENCY = Sql("""
    SELECT replace(c.id::text, '-', '') || '/' || replace(d.id::text, '-', '') AS id,
           'charge in ' || c.currency || ', debit in ' || d.currency || ', agreement in ' || a.currency AS detail
    FROM charge_debit cd JOIN charge c ON c.id = cd.charge_id AND c.circle_id = cd.circle_id
    JOIN debit d ON d.id = cd.debit_id AND d.circle_id = cd.circle_id JOIN agreement a ON a.id = d.agreement_id
    WHERE c.currency <> d.currency OR a.currency <> d.currency
    UNION ALL
    SELECT replace(r.id::text, '-', ''), 'refund in ' || r.currency || ' of a debit in ' || d.currency
    FROM refund r JOIN debit d ON d.id = r.debit_id WHERE r.currency <> d.currency
    UNION ALL
    SELECT replace(e.id::text, '-', ''), 'entry in ' || p.currency || ' of a charge in ' || c.currency
    FROM entry e JOIN posting p ON p.entry_id = e.id JOIN charge c ON c.id = e.charge_id AND c.circle_id = e.circle_id
    WHERE p.currency <> c.currency
""")
POSITIVE = Sql("""
    SELECT replace(id::text, '-', '') AS id, 'its amount is ' || amount_minor AS detail
    FROM (SELECT id, greatest(amount_minor, fare_minor)::bigint AS amount_minor FROM charge
          UNION ALL SELECT id, amount_minor FROM debit
          UNION ALL SELECT id, amount_minor FROM refund) AS every WHERE amount_minor <= 0
""")

RULES: Final = (
    Rule(_ONE_DEBIT, "charge", ONE_DEBIT),
    Rule(_ONE_DEBIT, "debit", DEBIT_IS_ITS_CHARGES),
    Rule(_ONE_DEBIT, "charge_debit", SHARE_IS_CAPTURED),
    Rule("I9 idem_unique", "charge, debit, refund", IDS_ARE_ONCE),
    Rule(_REFUNDS, "refund", REFUND_CAP),
    Rule(_REFUNDS, "charge", REFUND_NOT_ABOVE_CAPTURED),
    Rule(_BALANCED, "entry", UNBALANCED),
    Rule(_BALANCED, "posting", CURRENCY_UNBALANCED),
    Rule(_BALANCED, "posting", POSTING_FITS),
    Rule(_BALANCED, "ledger_account", ACCOUNT_IS_NAMED),
    Rule(_BALANCED, "entry", ENTRY_SHAPE),
    Rule(_BALANCED, "debit", DEBIT_IS_BOOKED),
    Rule(_BALANCED, "charge", CAPTURE_IS_BOOKED),
    Rule(_BALANCED, "refund", REFUND_IS_BOOKED),
    Rule("I4 projection", "settlement_day", SETTLED),
    Rule(_MONEY, "charge, debit, refund, entry", ONE_CURRENCY),
    Rule(_MONEY, "charge, debit, refund", POSITIVE),
)
