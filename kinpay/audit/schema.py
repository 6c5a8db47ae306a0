"""I9, I10, I18: what the schema itself promises is still there: unique keys, append-only tables, valid constraints."""

from __future__ import annotations

from typing import Final

from kinpay.audit.findings import Findings
from kinpay.database.sql import Connection, Record, Sql

_UNIQUE: Final = "I9 idem_unique"
_APPEND_ONLY: Final = "I10 append_only"

UNIQUE_KEYS: Final = (
    ("agreement", "id"), ("audit_event", "lane,seq"), ("audit_lane", "id"), ("burnt_code", "id"), ("charge", "id,circle_id"),
    ("charge_debit", "charge_id,debit_id"), ("checkpoint", "id"), ("checkpoint_lane", "checkpoint_id,lane"),
    ("circle", "id"), ("circle_zone", "circle_id,since"), ("counter", "id"), ("counter", "scope_id,period,filter_hash,refunds"),
    ("credential", "id"), ("debit", "id,circle_id"), ("entry", "id"), ("inbox", "provider_account_id,notice_id"),
    ("ledger_account", "id"), ("ledger_account", "kind,owner_id,currency"), ("mandate", "id"),
    ("mandate", "circle_id,payer_id,spender_id"), ("mandate_version", "mandate_id,version"),
    ("notice", "outbox_id,person_id,kind"), ("operator", "id"), ("outbox", "id"), ("person", "id"),
    ("person", "operator_id,account"),
    ("pool", "id"), ("pool_version", "pool_id,version"), ("posting", "entry_id,account_id"),
    ("provider_account", "operator_id,provider,account"), ("refund", "id,circle_id"), ("registration", "id"),
    ("request_key", "principal_id,operation,key"), ("request_nonce", "signer_id,nonce"), ("rolled_day", "circle_id,day"),
    ("scan", "code_id"), ("settlement_rule", "mandate_id,version"), ("statement_month", "circle_id,month"),
    ("settlement_day", "merchant_id,day,currency"), ("settlement_paid", "merchant_id,day,currency"),
    ("template", "id"), ("template_vector", "template_id"), ("rotation", "operator_id,version"),
    ("gallery_member", "site_id,person_id"), ("gallery_place", "id"), ("terminal", "id"), ("terminal", "public_key"),
    ("usage", "counter_id,window_start"),
    ("api_key", "id"), ("api_key", "prefix"), ("webhook_event", "outbox_id"), ("webhook_delivery", "event_id,endpoint_id"),
    ("webhook_attempt", "delivery_id,number"), ("provider_statement", "provider_account_id,day"),
    ("provider_line", "statement_id,number"), ("recon_break", "id"), ("recon_break", "provider_account_id,kind,key,what"),
    ("recon_break_line", "statement_id,number"), ("recon_untold", "kind,id"),
)  # fmt: skip
"""Table, columns. The partial one, of open mandates, is among them."""

APPEND_ONLY: Final = (
    "audit_event", "burnt_code", "charge_debit", "checkpoint", "checkpoint_lane", "circle_zone", "entry", "mandate_version",
    "pool_version", "posting", "provider_line", "recon_break_line", "settlement_rule", "statement_month", "settlement_day",
    "settlement_paid",
)  # fmt: skip

INDEXES = Sql("""
    SELECT c.relname AS of_table, i.indpred IS NOT NULL AS is_partial,
           (SELECT string_agg(a.attname, ',' ORDER BY k.place)
            FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place)
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number) AS columns
    FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = current_schema() AND i.indisunique AND i.indisvalid AND i.indisready
""")
# Row triggers before update and delete are type 27, statement triggers before truncate 34; 'O' and 'A': they fire.
TRIGGERS = Sql("""
    SELECT c.relname AS of_table, t.tgname AS name FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE n.nspname = current_schema() AND NOT t.tgisinternal AND t.tgqual IS NULL AND t.tgenabled IN ('O', 'A')
      AND ((t.tgname = 'append_only' AND t.tgtype = 27) OR (t.tgname = 'append_only_whole' AND t.tgtype = 34))
      AND p.proname = 'forbid_change' AND p.prosrc ~ '^\\s*BEGIN\\s+RAISE EXCEPTION'
""")
INVALID = Sql("""
    SELECT c.relname AS of_table, o.conname AS name FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = current_schema() AND o.contype IN ('c', 'f') AND NOT o.convalidated
""")
CHECKS = Sql("""
    SELECT c.relname AS of_table, count(*) AS number FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = current_schema() AND o.contype = 'c' AND o.convalidated GROUP BY 1
""")
_CHECKS_AT_LEAST: Final = {"charge": 6, "debit": 4, "refund": 3, "entry": 1, "posting": 1, "usage": 3}
DOMAINS = Sql("SELECT typname FROM pg_type t JOIN pg_constraint o ON o.contypid = t.oid WHERE o.contype = 'c'")


async def check_schema(conn: Connection, findings: Findings) -> None:
    """Names every promise of the schema that somebody took away."""
    unique = {(row["of_table"], row["columns"]) for row in await INDEXES.rows(conn) if _whole(row)}
    for table, columns in UNIQUE_KEYS:
        if (table, columns) not in unique:
            findings.add(_UNIQUE, table, (columns,), "there is no valid unique index over these columns")
    firing = {(row["of_table"], row["name"]) for row in await TRIGGERS.rows(conn)}
    for table in APPEND_ONLY:
        for name in ("append_only", "append_only_whole"):
            if (table, name) not in firing:
                findings.add(_APPEND_ONLY, table, (name,), "the trigger that forbids changes is missing, off or empty")
    for row in await INVALID.rows(conn):
        findings.add("I18 money_type", row["of_table"], (row["name"],), "the constraint is not validated")
    checks = {row["of_table"]: row["number"] for row in await CHECKS.rows(conn)}
    for table, least in _CHECKS_AT_LEAST.items():
        if checks.get(table, 0) < least:
            findings.add("I18 money_type", table, (), f"{checks.get(table, 0)} check constraints where there were {least}")
    domains = {row["typname"] for row in await DOMAINS.rows(conn)}
    for name in {"currency", "amount_minor", "sum_minor"} - domains:
        findings.add("I18 money_type", name, (), "the domain does not check its values any more")


def _whole(row: Record) -> bool:
    """Whether the index is over all rows; the one of open mandates is over some by design."""
    return not row["is_partial"] or (row["of_table"], row["columns"]) == ("mandate", "circle_id,payer_id,spender_id")
