"""I4 and I22: every usage row is the sum over the charges that it counts, and its window is one that the circle's wall had."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any, Final

from kinpay.audit.facts import Facts, Row
from kinpay.audit.findings import Findings
from kinpay.primitives.errors import Invalid
from kinpay.primitives.period import period_named, window_around

PROJECTION: Final = "I4 projection"
WINDOW: Final = "I22 window_tz"

COUNTING: Final = frozenset({"held", "due", "submitted", "succeeded", "arrears"})


def selects(chosen: Mapping[str, Any], charge: Mapping[str, Any] | Row) -> bool:
    """Whether a charge is one that a filter selects; by items also where the till told none."""
    for name, value in (("payees", "merchant_id"), ("mccs", "mcc"), ("methods", "method"), ("terminals", "terminal_id")):
        if chosen.get(name) and charge[value] not in chosen[name]:
            return False
    items = charge["items"]
    return not chosen.get("items") or not items or any(item["code"] in chosen["items"] for item in items)


def part_minor(chosen: Mapping[str, Any], charge: Mapping[str, Any] | Row, whole_minor: int) -> int:
    """How much of `whole_minor` a filter that selects the charge counts: by items, at most what those cost."""
    items = charge["items"]
    if not chosen.get("items") or not items:
        return whole_minor
    return min(whole_minor, sum(int(item["amount_minor"]) for item in items if item["code"] in chosen["items"]))


def check_usage(facts: Facts, findings: Findings) -> None:
    """Compares every usage row of a circle with its charges, and looks for rows that are missing or belong to no counter."""
    charges = sorted(
        (c for c in facts.rows("charge").values() if c["state"] in COUNTING and c["amount_minor"]),
        key=lambda c: c["decided_at"],
    )
    by_counter: dict[str, list[tuple[str, Row]]] = defaultdict(list)
    for key, row in facts.rows("usage").items():
        by_counter[row["counter_id"]].append((key, row))
    for counter_id, counter in facts.rows("counter").items():
        counted = [(c, _counted_minor(counter, c)) for c in charges if _counts(counter, c, facts)]
        windows = by_counter.pop(counter_id, [])
        trailing = period_named(counter["period"]).trailing
        if trailing is not None:
            _compare_trail(counter_id, windows, counted, trailing, facts, findings)
            continue
        _compare_windows(counter_id, windows, counted, findings)
        for key, row in windows:
            _check_window(key, row, counter["period"], facts, findings)
    for orphans in by_counter.values():
        for key, _ in orphans:
            findings.add(PROJECTION, "usage", key.split("/"), "belongs to no counter of its circle")


def _counts(counter: Row, charge: Row, facts: Facts) -> bool:
    if not selects(counter["filter"], charge):
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


def _counted_minor(counter: Row, charge: Row) -> int:
    """What a counting charge comes to: what it captured, or holds, less what was given back unless that is kept."""
    captured = charge["captured_minor"]
    whole = int(charge["amount_minor"] if captured is None else captured)
    if counter["refunds"] != "keep":
        whole -= int(charge["refunded_minor"])
    return part_minor(counter["filter"], charge, whole)


def _compare_windows(
    counter_id: str, windows: list[tuple[str, Row]], counted: list[tuple[Row, int]], findings: Findings
) -> None:
    moments = [charge["decided_at"] for charge, _ in counted]
    sums = [0, *accumulate(minor for _, minor in counted)]
    covered = [False] * len(counted)
    for key, row in windows:
        low, high = bisect_left(moments, row["window_start"]), bisect_left(moments, row["window_end"])
        covered[low:high] = [True] * (high - low)
        _compare(key, row, sums[high] - sums[low], high - low, findings)
    for (charge, _), found in zip(counted, covered, strict=True):
        if not found:
            moment = charge["decided_at"].isoformat()
            findings.add(PROJECTION, "usage", (counter_id, charge["key"]), f"no window counts this charge of {moment}")


def _compare(key: str, row: Row, amount: int, count: int, findings: Findings) -> None:
    if (row["amount_minor"], row["count"]) != (amount, count):
        said = f"{row['amount_minor']} in {row['count']} payments; its charges come to {amount} in {count}"
        findings.add(PROJECTION, "usage", key.split("/"), f"says {said}")


def _compare_trail(
    counter_id: str,
    uses: list[tuple[str, Row]],
    counted: list[tuple[Row, int]],
    trailing: timedelta,
    facts: Facts,
    findings: Findings,
) -> None:
    """Every moment at which something was used has its row, for as long as it may be in a window; older ones may be gone."""
    sums: dict[datetime, list[int]] = defaultdict(lambda: [0, 0])
    for charge, minor in counted:
        sums[charge["decided_at"]][0] += minor
        sums[charge["decided_at"]][1] += 1
    for key, row in uses:
        if row["window_end"] != row["window_start"] + trailing:
            findings.add(
                WINDOW, "usage", key.split("/"), f"from {row['window_start']} to {row['window_end']} is not {trailing}"
            )
        amount, count = sums.pop(row["window_start"], (0, 0))
        _compare(key, row, amount, count, findings)
    for moment in sums:
        if moment + trailing > facts.now:
            findings.add(PROJECTION, "usage", (counter_id, moment.isoformat()), "nothing counts what was used at this moment")


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
        whole = window_around(start, period, zone_name)
    except Invalid:
        return False
    return whole.start == start and (whole.end == end or (end < whole.end and end in changes))
