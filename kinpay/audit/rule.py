"""An invariant as one statement that must return no row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from kinpay.audit.findings import SHOWN, Findings
from kinpay.database.sql import Connection, Sql


@dataclass(frozen=True, slots=True)
class Rule:
    """`broken` yields the ids of the rows that break the rule as text in `id` (parts separated by a slash), and `detail`."""

    invariant: str
    table: str
    broken: Sql


@dataclass(frozen=True, slots=True)
class Asked:
    """The moment of the audit, and how late a worker may be before that is a finding; None: there is no worker."""

    now: datetime
    overdue_after: timedelta | None


async def check_rules(conn: Connection, rules: Sequence[Rule], asked: Asked, findings: Findings) -> None:
    """Runs every rule; of each the first rows are told one by one, the rest counted."""
    known = {"now": asked.now, "since": asked.now - asked.overdue_after if asked.overdue_after is not None else None}
    for rule in rules:
        given = {name: known[name] for name in rule.broken.names}
        rows = await rule.broken.rows(conn, **given)
        for row in rows[:SHOWN]:
            findings.add(rule.invariant, rule.table, row["id"].split("/"), row["detail"])
        if len(rows) > SHOWN:
            findings.uncounted(rule.invariant, len(rows) - SHOWN)
