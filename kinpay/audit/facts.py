"""The rows of some circles, read table by table, for comparing them with what the audit log says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final

from kinpay.database.sql import Connection, Record, Sql
from kinpay.primitives.clock import local_date

Row = Record | dict[str, Any]
Rows = dict[str, Row]


@dataclass(slots=True)
class Facts:
    """One circle's rows, by table and then by a key (an id; a version is `id/number`)."""

    circle_id: str
    tables: dict[str, Rows] = field(default_factory=lambda: defaultdict(dict))

    def rows(self, table: str) -> Rows:
        """The rows of a table."""
        return self.tables[table]

    @property
    def now(self) -> datetime:
        """When the rows were read."""
        moment: datetime = self.rows("circle")[self.circle_id]["now"]
        return moment

    def anchor(self, table: str, key: str) -> date:
        """The day on which a mandate, pool or card was first consented to, on the circle's wall as it was then."""
        made: datetime = self.rows(table)[key]["created_at"]
        zones = list(self.rows("circle_zone").values())
        earlier = [zone["time_zone"] for zone in zones if zone["since"] <= made]
        first = zones[0]["time_zone"] if zones else self.rows("circle")[self.circle_id]["time_zone"]
        return local_date(made, earlier[-1] if earlier else first)

    def in_currency_of(self, pool_id: str, currency: str) -> bool:
        """Whether a pool counts charges in that currency: its first version's, which no later one changes."""
        first = self.rows("pool_version").get(f"{pool_id}/1")
        return first is None or first["terms"].get("currency") == currency


# Each statement yields the circle, then the key, then the columns that are compared or looked at.
_READ: Final[dict[str, Sql]] = {
    "circle": Sql("SELECT c.id AS circle, c.id AS key, c.time_zone, c.state, l.charge_seq, kinpay_now() AS now FROM circle c"
                  " LEFT JOIN audit_lane l ON l.id = c.id WHERE c.id = ANY(:circles)"),
    "circle_zone": Sql("SELECT circle_id AS circle, since::text AS key, time_zone, since FROM circle_zone"
                       " WHERE circle_id = ANY(:circles) ORDER BY since"),
    "mandate": Sql("""
        SELECT circle_id AS circle, id AS key, payer_id, spender_id, state, reason, version, created_at,
               active_at, ended_at
        FROM mandate WHERE circle_id = ANY(:circles)
    """),
    "mandate_version": Sql("""
        SELECT m.circle_id AS circle, replace(v.mandate_id::text, '-', '') || '/' || v.version AS key, v.circle_id, v.terms,
               v.terms_hash, v.agreed_by, v.proof_id, v.from_charge_seq, v.since, v.cools_until
        FROM mandate_version v JOIN mandate m ON m.id = v.mandate_id WHERE m.circle_id = ANY(:circles)
    """),
    "settlement_rule": Sql("""
        SELECT m.circle_id AS circle, replace(r.mandate_id::text, '-', '') || '/' || r.version AS key, r.circle_id,
               r.agreement_ids, r.since
        FROM settlement_rule r JOIN mandate m ON m.id = r.mandate_id WHERE m.circle_id = ANY(:circles)
    """),
    "pool": Sql("""
        SELECT circle_id AS circle, id AS key, payer_id, spender_ids, state, version, created_at
        FROM pool WHERE circle_id = ANY(:circles)
    """),
    "pool_version": Sql("""
        SELECT p.circle_id AS circle, replace(v.pool_id::text, '-', '') || '/' || v.version AS key, v.circle_id, v.terms,
               v.terms_hash, v.agreed_by, v.proof_id, v.from_charge_seq, v.since
        FROM pool_version v JOIN pool p ON p.id = v.pool_id WHERE p.circle_id = ANY(:circles)
    """),
    "agreement": Sql("""
        SELECT circle_id AS circle, id AS key, payer_id, provider_account_id, business_type, state
        FROM agreement WHERE circle_id = ANY(:circles)
    """),
    "agreement_spender": Sql("""
        SELECT a.circle_id AS circle, replace(a.id::text, '-', '') || '/' || replace(s.spender_id::text, '-', '') AS key,
               s.state
        FROM agreement_spender s JOIN agreement a ON a.id = s.agreement_id WHERE a.circle_id = ANY(:circles)
    """),
    "credential": Sql("""
        SELECT circle_id AS circle, id AS key, person_id, kind, state, terms, issued_at AS created_at
        FROM credential WHERE circle_id = ANY(:circles)
    """),
    "counter": Sql("""
        SELECT circle_id AS circle, id AS key, scope, scope_id, period, filter, filter_hash, refunds
        FROM counter WHERE circle_id = ANY(:circles)
    """),
    "usage": Sql("""
        SELECT u.circle_id AS circle, replace(u.counter_id::text, '-', '') || '/' || u.window_start AS key, u.counter_id,
               u.window_start, u.window_end, u.amount_minor, u.count, u.carried_minor, u.carried_count
        FROM usage u WHERE u.circle_id = ANY(:circles) ORDER BY u.counter_id, u.window_start
    """),
    "charge": Sql("""
        SELECT circle_id AS circle, id AS key, seq, merchant_id, terminal_id, spender_id, mandate_id,
               mandate_version, agreement_id, payer_id, credential_id, method, mcc, currency, amount_minor, captured_minor,
               refunded_minor, state, capture_at_once, delivered, void_requested, late, refusal, items, decided_at, fare_minor,
               face,
               due_on, hold_expires_at, owed_since, finished_at
        FROM charge WHERE circle_id = ANY(:circles)
    """),
    "debit": Sql("""
        SELECT circle_id AS circle, id AS key, payer_id, agreement_id, currency, amount_minor, kind, state, late,
               failure_code, created_at, finished_at
        FROM debit WHERE circle_id = ANY(:circles)
    """),
    "charge_debit": Sql("""
        SELECT circle_id AS circle, replace(charge_id::text, '-', '') || '/' || replace(debit_id::text, '-', '') AS key,
               amount_minor
        FROM charge_debit WHERE circle_id = ANY(:circles)
    """),
    "refund": Sql("""
        SELECT circle_id AS circle, id AS key, charge_id, debit_id, amount_minor, reason, state,
               failure_code, created_at, finished_at
        FROM refund WHERE circle_id = ANY(:circles)
    """),
    "rolled_day": Sql("""
        SELECT circle_id AS circle, day::text AS key, starts, ends, paid, unpaid FROM rolled_day WHERE circle_id = ANY(:circles)
    """),
    "statement_month": Sql("""
        SELECT circle_id AS circle, to_char(month, 'YYYY-MM') AS key, starts, ends, closed_at, paid, unpaid, late, hash
        FROM statement_month WHERE circle_id = ANY(:circles)
    """),
    "entry": Sql("""
        SELECT circle_id AS circle, id AS key, kind, charge_id, debit_id, refund_id, at
        FROM entry WHERE circle_id = ANY(:circles)
    """),
    "posting": Sql("""
        SELECT circle_id AS circle, replace(entry_id::text, '-', '') || '/' || replace(account_id::text, '-', '') AS key,
               amount_minor, currency
        FROM posting WHERE circle_id = ANY(:circles)
    """),
}  # fmt: skip


async def read_facts(conn: Connection, circle_ids: Sequence[str]) -> dict[str, Facts]:
    """The rows of those circles, by circle."""
    found = {circle_id: Facts(circle_id) for circle_id in circle_ids}
    if not circle_ids:
        return found
    for table, statement in _READ.items():
        for row in await statement.rows(conn, circles=list(circle_ids)):
            found[row["circle"]].tables[table][row["key"]] = row
    return found
