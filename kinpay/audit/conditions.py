"""Whether a charge met conditions, judged from the words of the documents alone: this shares no code with `charges.decide`.

Source: semantics.md "Limits"; reliability.md §4 (I6).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, TypedDict

from kinpay.primitives.clock import zone

Terms = Mapping[str, Any]


class Charged(TypedDict):
    """What never changes of a charge."""

    spender_id: str
    merchant_id: str
    terminal_id: str
    method: str
    mcc: str
    currency: str
    credential_id: str | None
    items: list[dict[str, Any]] | None


def objections(charged: Charged, terms: Terms, moment: datetime, zone_name: str) -> Iterator[str]:
    """What of the terms does not hold for a charge decided at `moment`, by name."""
    local = moment.astimezone(zone(zone_name))
    today = local.date().isoformat()
    if today < terms.get("valid_from", today) or today > terms.get("valid_to", today):
        yield "validity"
    for condition in terms.get("conditions", ()):
        if not _meets(charged, condition, local):
            yield str(condition["kind"])


def _meets(charged: Charged, condition: Terms, local: datetime) -> bool:
    kind = condition["kind"]
    if kind == "hours":
        return _is_open(condition, local)
    if kind == "items":
        told = [item["code"] for item in charged["items"] or ()]
        return bool(told) and all(_permitted(code, condition) for code in told)
    value = {
        "payees": charged["merchant_id"],
        "mccs": charged["mcc"],
        "methods": charged["method"],
        "terminals": charged["terminal_id"],
    }[kind]
    return _permitted(value, condition)


def _permitted(value: str, condition: Terms) -> bool:
    if "allow" in condition:
        return value in condition["allow"]
    return value not in condition["deny"]


def _is_open(hours: Terms, local: datetime) -> bool:
    clock, weekday, today = f"{local:%H:%M}", local.isoweekday(), local.date().isoformat()
    calendar, openings = hours.get("calendar"), hours["open"]
    if calendar is not None:
        semesters = calendar["semesters"]
        within = not semesters or any(s["first"] <= today <= s["last"] for s in semesters)
        school = today in calendar["on"] or (within and weekday in calendar["weekdays"] and today not in calendar["off"])
        kind = "school" if school else "other"
        openings = [o for o in openings if o.get("days", hours.get("days", "school")) == kind]
    return any(weekday in o["weekdays"] and o["opens"] <= clock < o["closes"] for o in openings)
