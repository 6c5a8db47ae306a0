"""Canonical terms become what `decide` looks at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

from kinpay.charges.hours import Hours, Opening, SchoolDays
from kinpay.charges.standing import NO_CONDITIONS, Allowed, Bounds, Ceiling, Chosen, Conditions, Counter, Scope
from kinpay.mandates.limit import begins, period_of, prorated, refunds_of
from kinpay.primitives.clock import start_of_day
from kinpay.primitives.fields import EARLIEST, LATEST
from kinpay.primitives.period import Period, days_around, period_named

CounterMap = Mapping[tuple[str, str, str], tuple[str, Chosen | None]]
"""(period, filter's name, what refunds do) → (counter id, compiled filter)."""


def bounds_of(
    terms: Mapping[str, Any],
    *,
    scope: Scope,
    counters: CounterMap,
    anchor: date,
    time_zone: str,
    until: datetime | None = None,
) -> Bounds:
    """Compiles canonical terms with all that is counted for them. `anchor`: the day of the consent.

    `until`: they bind before that instant only, beside other bounds of the same scope, which keep the counters.
    """
    start = begins(anchor, terms.get("valid_from"))
    ceilings = tuple(_ceiling(limit, scope, counters, anchor, start, time_zone) for limit in terms.get("limits", ()))
    counted = () if until is not None else tuple(_counter(key[0], *found) for key, found in counters.items())
    return Bounds(scope, ceilings, counted, _conditions(terms, time_zone), until)


def _ceiling(
    limit: Mapping[str, Any], scope: Scope, counters: CounterMap, anchor: date, start: date, time_zone: str
) -> Ceiling:
    name = period_of(limit, anchor)
    written = limit.get("filter", {})
    return Ceiling(
        scope,
        limit["metric"] == "count",
        None if name is None else period_named(name),
        limit.get("at_most"),
        limit.get("at_least"),
        chosen(written),
        "" if name is None else counters[(name, filter_name(written), refunds_of(limit))][0],
        name or "",
        _first(limit, period_named(name), start, time_zone) if name and limit.get("proration") == "first_period" else None,
    )


def _first(limit: Mapping[str, Any], period: Period, start: date, time_zone: str) -> tuple[datetime, int]:
    first, _ = days_around(start, period)
    return start_of_day(first, time_zone), prorated(limit["at_most"], start, period)


def _counter(period: str, counter_id: str, selected: Chosen | None) -> Counter:
    return Counter(counter_id, period, selected, period_named(period).trailing)


def chosen(canonical: Mapping[str, Sequence[str]]) -> Chosen | None:
    """Compiles a canonical filter; None if everything fits it."""
    named = {name: frozenset(values) for name, values in canonical.items() if values}
    return Chosen(**named) if named else None


def filter_name(canonical: Mapping[str, Sequence[str]]) -> str:
    """A comparable name for a canonical filter."""
    return repr([(name, sorted(set(values))) for name, values in sorted(canonical.items()) if values])


def _conditions(terms: Mapping[str, Any], time_zone: str) -> Conditions:
    lists: dict[str, list[Allowed]] = {"payees": [], "mccs": [], "items": [], "methods": [], "terminals": []}
    hours: list[Hours] = []
    for condition in terms.get("conditions", ()):
        if condition["kind"] == "hours":
            hours.append(_hours(condition))
            continue
        only = condition.get("allow")
        lists[condition["kind"]].append((only is not None, frozenset(only if only is not None else condition["deny"])))
    valid_from, valid_to = terms.get("valid_from"), terms.get("valid_to")
    compiled = Conditions(
        **{kind: tuple(found) for kind, found in lists.items()},
        hours=tuple(hours),
        valid_from=start_of_day(_day(valid_from), time_zone) if valid_from else None,
        valid_until=start_of_day(_day(valid_to) + timedelta(days=1), time_zone) if valid_to else None,
    )
    return NO_CONDITIONS if compiled == NO_CONDITIONS else compiled


def _day(written: str) -> date:
    """A day with another one before and after it: terms from before days had bounds may say `9999-12-31` or `0001-01-01`."""
    return min(max(date.fromisoformat(written), EARLIEST), LATEST)


def _hours(written: Mapping[str, Any]) -> Hours:
    calendar, days = written.get("calendar"), written.get("days", "school")
    openings = tuple(_opening(item, item.get("days", days)) for item in written["open"])
    return Hours(openings, None if calendar is None else _school_days(calendar))


def _opening(written: Mapping[str, Any], days: str) -> Opening:
    closes = None if written["closes"] == "24:00" else time.fromisoformat(written["closes"])
    return Opening(time.fromisoformat(written["opens"]), closes, frozenset(written["weekdays"]), days == "school")


def _school_days(written: Mapping[str, Any]) -> SchoolDays:
    return SchoolDays(
        frozenset(written["weekdays"]),
        tuple((date.fromisoformat(s["first"]), date.fromisoformat(s["last"])) for s in written["semesters"]),
        frozenset(map(date.fromisoformat, written["off"])),
        frozenset(map(date.fromisoformat, written["on"])),
    )
