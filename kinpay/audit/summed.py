"""I4 for statements: a day's sums, and a closed month as it stood then, are what its charges, debits and refunds come to.

Reckoned charge by charge from the rows; this shares no code with the sums of `kinpay.statements`.
Source: reliability.md §4 (I4); docs/statements.md.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from kinpay.audit.facts import Facts, Row
from kinpay.audit.findings import Findings
from kinpay.statements.kept import read_late, read_paid, read_unpaid, rows_hash
from kinpay.statements.statement import Rows

PROJECTION: Final = "I4 projection"

Key = tuple[str, str, str, str, str]
"""(currency, spender, payer, merchant, category)."""
_FIGURES: Final = ("charges", "debits", "gross_minor", "refunded_minor")


def check_statements(facts: Facts, findings: Findings) -> None:
    """Looks at every day that was summed up and every month that was closed."""
    days, months = facts.rows("rolled_day"), facts.rows("statement_month")
    if not days and not months:
        return
    books = _Books(facts)
    for key, row in days.items():
        _compare("rolled_day", key, row["paid"], books.paid(row["starts"], row["ends"], as_of=None), findings)
        asked = Counter({(one["currency"], one["spender_id"], one["what"]): one["count"] for one in row["unpaid"]})
        if asked != books.unpaid(row["starts"], row["ends"]):
            findings.add(PROJECTION, "rolled_day", (facts.circle_id, key), "does not say what was asked for in vain on it")
    for key, row in months.items():
        _compare("statement_month", key, row["paid"], books.paid(row["starts"], row["ends"], as_of=row["closed_at"]), findings)
        rows = Rows(read_paid(row["paid"]), read_unpaid(row["unpaid"]), read_late(row["late"]))
        if rows_hash(key, rows) != row["hash"]:
            findings.add(PROJECTION, "statement_month", (facts.circle_id, key), "its figures do not fit its hash")


def _compare(
    table: str, key: str, kept: Iterable[Mapping[str, Any]], reckoned: dict[Key, Counter[str]], findings: Findings
) -> None:
    told: dict[Key, Counter[str]] = defaultdict(Counter)
    for row in kept:
        name = (row["currency"], row["spender_id"], row["payer_id"], row["merchant_id"], row["mcc"])
        told[name].update({figure: row[figure] for figure in _FIGURES})
    if {name: +figures for name, figures in told.items()} != {name: +figures for name, figures in reckoned.items()}:
        findings.add(PROJECTION, table, (key,), "does not say what its charges came to")


class _Books:
    """One circle's charges with the debits and refunds of each."""

    def __init__(self, facts: Facts) -> None:
        self._charges = [(key, row) for key, row in facts.rows("charge").items()]
        self._debits: dict[str, list[tuple[str, Row, int]]] = defaultdict(list)
        for key, part in facts.rows("charge_debit").items():
            charge_id, _, debit_id = key.partition("/")
            self._debits[charge_id].append((debit_id, facts.rows("debit")[debit_id], part["amount_minor"]))
        self._refunds: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for refund in facts.rows("refund").values():
            self._refunds[refund["charge_id"], refund["debit_id"]].append(refund)

    def _between(self, starts: datetime, ends: datetime) -> Iterable[tuple[str, Row]]:
        return [(key, row) for key, row in self._charges if starts <= row["decided_at"] < ends]

    def paid(self, starts: datetime, ends: datetime, *, as_of: datetime | None) -> dict[Key, Counter[str]]:
        """What was debited and given back of the charges decided then, as it was known at `as_of` (None: now)."""
        found: dict[Key, Counter[str]] = defaultdict(Counter)
        for charge_id, charge in self._between(starts, ends):
            debits = [one for one in self._debits[charge_id] if one[1]["state"] == "succeeded" and _by(one[1], as_of)]
            for place, (debit_id, debit, amount) in enumerate(sorted(debits, key=lambda one: (one[1]["created_at"], one[0]))):
                back = sum(_counted(refund, as_of) for refund in self._refunds[charge_id, debit_id])
                name = (charge["currency"], charge["spender_id"], debit["payer_id"], charge["merchant_id"], charge["mcc"])
                figures = {"charges": int(place == 0), "debits": 1, "gross_minor": amount, "refunded_minor": back}
                found[name].update(figures)
        return found

    def unpaid(self, starts: datetime, ends: datetime) -> Counter[tuple[str, str, str]]:
        """How many charges were refused, declined, owed, or are not known yet."""
        found: Counter[tuple[str, str, str]] = Counter()
        for _, charge in self._between(starts, ends):
            if charge["state"] in ("refused", "declined"):
                what = charge["state"]
            elif charge["owed_since"] is not None:
                what = "owed"
            elif charge["state"] in ("held", "due", "submitted"):
                what = "pending"
            else:
                continue
            found[charge["currency"], charge["spender_id"], what] += 1
        return found


def _by(debit: Row, as_of: datetime | None) -> bool:
    return as_of is None or debit["finished_at"] <= as_of


def _counted(refund: Row, as_of: datetime | None) -> int:
    """What of a refund counts: it was asked for by then, and not refused by then."""
    failed = refund["state"] == "failed" and (as_of is None or refund["finished_at"] <= as_of)
    asked = as_of is None or refund["created_at"] <= as_of
    return int(refund["amount_minor"]) if asked and not failed else 0
