"""I4 and I22: every usage row is the sum over the charges that it counts, and its window is one that the circle's wall had."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from datetime import datetime
from itertools import accumulate
from typing import Any, Final

from kinpay.audit.facts import Facts, Row
from kinpay.audit.findings import Findings
from kinpay.primitives.clock import Window, window_around
from kinpay.primitives.errors import Invalid

PROJECTION: Final = "I4 projection"
WINDOW: Final = "I22 window_tz"

COUNTING: Final = frozenset({"held", "submitted", "succeeded", "arrears"})


def fits(chosen: dict[str, Any], merchant_id: str, mcc: str) -> bool:
    """Whether a payment to that merchant, of that category, is one that a filter selects."""
    payees, mccs = chosen.get("payees"), chosen.get("mccs")
    return (not payees or merchant_id in payees) and (not mccs or mcc in mccs)


def check_usage(facts: Facts, findings: Findings) -> None:
    """Compares every usage row of a circle with its charges, and looks for rows that are missing or belong to no counter."""
    charges = sorted((c for c in facts.rows("charge").values() if c["state"] in COUNTING), key=lambda c: c["decided_at"])
    by_counter: dict[str, list[tuple[str, Row]]] = defaultdict(list)
    for key, row in facts.rows("usage").items():
        by_counter[row["counter_id"]].append((key, row))
    for counter_id, counter in facts.rows("counter").items():
        counted = [c for c in charges if _counts(counter, c, facts)]
        windows = by_counter.pop(counter_id, [])
        _compare_windows(counter_id, windows, counted, findings)
        for key, row in windows:
            _check_window(key, row, counter["period"], facts, findings)
    for orphans in by_counter.values():
        for key, _ in orphans:
            findings.add(PROJECTION, "usage", key.split("/"), "belongs to no counter of its circle")


def _counts(counter: Row, charge: Row, facts: Facts) -> bool:
    if not fits(counter["filter"], charge["merchant_id"], charge["mcc"]):
        return False
    if counter["scope"] == "mandate":
        return bool(charge["mandate_id"] == counter["scope_id"])
    if counter["scope"] == "credential":
        return bool(charge["credential_id"] == counter["scope_id"])
    pool = facts.rows("pool").get(counter["scope_id"])
    if pool is None or pool["payer_id"] != charge["payer_id"]:
        return False
    if not facts.in_currency_of(counter["scope_id"], charge["currency"]):
        return False
    return pool["spender_ids"] is None or charge["spender_id"] in pool["spender_ids"]


def net_minor(charge: Row) -> int:
    """What a counting charge uses: what it captured, or holds, less what was given back."""
    captured = charge["captured_minor"]
    return int(charge["amount_minor"] if captured is None else captured) - int(charge["refunded_minor"])


def _compare_windows(counter_id: str, windows: list[tuple[str, Row]], counted: list[Row], findings: Findings) -> None:
    moments = [charge["decided_at"] for charge in counted]
    sums = [0, *accumulate(net_minor(charge) for charge in counted)]
    covered = [False] * len(counted)
    for key, row in windows:
        low, high = bisect_left(moments, row["window_start"]), bisect_left(moments, row["window_end"])
        covered[low:high] = [True] * (high - low)
        amount, count = sums[high] - sums[low], high - low
        if (row["amount_minor"], row["count"]) != (amount, count):
            said = f"{row['amount_minor']} in {row['count']} payments; its charges come to {amount} in {count}"
            findings.add(PROJECTION, "usage", key.split("/"), f"says {said}")
    for charge, found in zip(counted, covered, strict=True):
        if not found:
            moment = charge["decided_at"].isoformat()
            findings.add(PROJECTION, "usage", (counter_id, charge["key"]), f"no window counts this charge of {moment}")


def _check_window(key: str, row: Row, period: str, facts: Facts, findings: Findings) -> None:
    """A window is a calendar one of some zone the circle had; one that a change of zone cut short ends at the change."""
    zones = list(facts.rows("circle_zone").values())
    start, end = row["window_start"], row["window_end"]
    changes = {zone["since"] for zone in zones[1:]}
    if not any(_is_calendar(start, end, period, zone["time_zone"], changes) for zone in zones):
        findings.add(WINDOW, "usage", key.split("/"), f"from {start} to {end} is no {period} of any zone the circle had")
    carries = row["carried_minor"] != 0 or row["carried_count"] != 0
    if carries and not any(start < change < end for change in changes):
        findings.add(PROJECTION, "usage", key.split("/"), "carries an amount, and no change of zone falls into it")


def _is_calendar(start: datetime, end: datetime, period: str, zone_name: str, changes: set[datetime]) -> bool:
    try:
        whole = window_around(start, Window(period), zone_name)
    except Invalid:
        return False
    return whole.start == start and (whole.end == end or (end < whole.end and end in changes))
