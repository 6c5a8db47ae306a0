"""Counters: what has been used of every limit, one row a window; a new counter starts from history.

A usage row always holds the sum over the counting charges with `window_start <= decided_at < window_end`, plus what was carried
when the circle's zone changed. A window that a change of zone cut short ends at the moment of the change. Of a trailing period
each moment at which something was used has a row, which ends when that use leaves the window; what has left is pruned.
Source: semantics.md "Limits" (a new or changed limit starts from history; changing the zone never opens a fresh window).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import accumulate
from typing import Final

from kinpay.database.sql import Connection, Sql
from kinpay.mandates.limit import Limit, filter_hash, period_of
from kinpay.mandates.terms import Terms
from kinpay.people.lock import LockedCircle
from kinpay.primitives.clock import Span
from kinpay.primitives.ids import new_id
from kinpay.primitives.period import EVER, Unit, period_named, window_around

COUNTING_STATES: Final = ("held", "due", "submitted", "succeeded", "arrears")
"""The states in which a charge uses its limits: one payment, and its net amount."""


@dataclass(frozen=True, slots=True)
class Era:
    """A time zone and from when it was the circle's; the first one holds for all time before, too."""

    time_zone: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Used:
    """What a window came to, in minor units and payments."""

    amount_minor: int
    count: int


@dataclass(frozen=True, slots=True)
class UsageRow:
    """A row of `usage` to be written."""

    span: Span
    used: Used
    carried: Used


NOTHING: Final = Used(0, 0)


def spans_of(eras: Sequence[Era], period: str, *, first: datetime, now: datetime) -> list[Span]:
    """The windows that were in force one after another, from the one around `first` to the one around `now`; pure.

    The last window of an era ends where the era does; the first of the next one begins where it would have begun. A lifetime
    knows no zones. Not for trailing periods, which have no windows.
    """
    if period_named(period).unit is Unit.LIFETIME:
        return [EVER]
    spans: list[Span] = []
    for position, era in enumerate(eras):
        until = eras[position + 1].since if position + 1 < len(eras) else None
        moment = first if position == 0 else max(first, era.since)
        while moment <= now and (until is None or moment < until):
            whole = window_around(moment, period, era.time_zone)
            spans.append(Span(whole.start, whole.end if until is None else min(whole.end, until)))
            moment = whole.end
    return spans


def cuts_of(spans: Sequence[Span]) -> list[datetime]:
    """Every instant at which one of `spans` begins or ends, in order."""
    return sorted({moment for span in spans for moment in (span.start, span.end)})


def rows_of(eras: Sequence[Era], spans: Sequence[Span], pieces: Mapping[int, Used]) -> list[UsageRow]:
    """The usage rows of one counter; pure. `pieces`: what was used from `cuts[i]` to `cuts[i + 1]` of `cuts_of(spans)`, by i.

    Where the zone changed inside a window, the new one carries what the old one had used beyond what the new one counts.
    """
    cuts = cuts_of(spans)
    amounts = [0, *accumulate(pieces.get(i, NOTHING).amount_minor for i in range(len(cuts)))]
    counts = [0, *accumulate(pieces.get(i, NOTHING).count for i in range(len(cuts)))]

    def used_between(start: datetime, end: datetime) -> Used:
        low, high = bisect_left(cuts, start), bisect_left(cuts, end)
        return Used(amounts[high] - amounts[low], counts[high] - counts[low])

    rows: dict[datetime, UsageRow] = {}
    last: UsageRow | None = None
    changes = {era.since for era in eras[1:]}
    for span in spans:
        carried = NOTHING
        if last is not None and last.span.end in changes and span.start < last.span.end:
            carried = _beyond(last, used_between(span.start, last.span.end))
        last = UsageRow(span, used_between(span.start, span.end), carried)
        rows[span.start] = last
    return [row for row in rows.values() if row.used != NOTHING or row.carried != NOTHING]


def _beyond(old: UsageRow, counted: Used) -> Used:
    return Used(
        max(0, old.used.amount_minor + old.carried.amount_minor - counted.amount_minor),
        max(0, old.used.count + old.carried.count - counted.count),
    )


CONSENT_DAY = Sql("SELECT consent_day(:circle_id, :at)")


async def consent_day(conn: Connection, circle_id: str, *, at: datetime) -> date:
    """The day on the circle's wall, as it was then, from which what was consented to at `at` is counted and prorated."""
    day: date = await CONSENT_DAY.value(conn, circle_id=circle_id, at=at)
    return day


ADD_COUNTERS = Sql("""
    INSERT INTO counter (id, circle_id, scope, scope_id, period, filter, filter_hash, refunds, created_at)
    SELECT n.id, :circle_id, :scope, :scope_id, n.period, n.filter, n.filter_hash, n.refunds, :now
    FROM unnest(:ids::uuid[], :periods::text[], :filters::jsonb[], :filter_hashes::bytea[], :refunds::text[])
        AS n (id, period, filter, filter_hash, refunds)
    ON CONFLICT (scope_id, period, filter_hash, refunds) DO NOTHING
    RETURNING id
""")


async def ensure_counters(
    conn: Connection, *, circle: LockedCircle, scope: str, scope_id: str, terms: Terms, consented_at: datetime, now: datetime
) -> list[str]:
    """Makes the counters that the limits of `terms` need and that are not there yet, filled from history.

    `scope` is mandate, pool or credential; `consented_at`: when that was first consented to. Returns the ids of the new ones.
    """
    anchor = await consent_day(conn, circle.id, at=consented_at)
    wanted: dict[CounterName, dict[str, list[str]]] = {}
    for limit in terms.all_limits:
        if (name := counter_name(limit, anchor)) is not None:
            wanted[name] = limit.filter.canonical()
    rows = await ADD_COUNTERS.rows(
        conn,
        circle_id=circle.id,
        scope=scope,
        scope_id=scope_id,
        ids=[new_id() for _ in wanted],
        periods=[name.period for name in wanted],
        filters=list(wanted.values()),
        filter_hashes=[name.filter_hash for name in wanted],
        refunds=[name.refunds for name in wanted],
        now=now,
    )
    made = [row["id"] for row in rows]
    await recount(conn, circle=circle, counter_ids=made, now=now)
    return made


@dataclass(frozen=True, slots=True)
class CounterName:
    """Which counter of its scope: two limits that count the same share one."""

    period: str
    filter_hash: bytes
    refunds: str


def counter_name(limit: Limit, anchor: date) -> CounterName | None:
    """The counter that a limit needs; None for a limit per payment."""
    period = period_of(limit.model_dump(), anchor)
    return None if period is None else CounterName(period, filter_hash(limit.filter.canonical()), limit.refunds)


COUNTERS_OF = Sql("SELECT id FROM counter WHERE scope_id = :scope_id ORDER BY id")


async def counters_of(conn: Connection, scope_id: str) -> list[str]:
    """The ids of everything that is counted for one mandate, pool or credential."""
    return [row["id"] for row in await COUNTERS_OF.rows(conn, scope_id=scope_id)]


ERAS = Sql("SELECT time_zone, since FROM circle_zone WHERE circle_id = :circle_id ORDER BY since")


async def eras_of(conn: Connection, circle: LockedCircle, *, now: datetime) -> list[Era]:
    """The time zones that the circle has had, in order."""
    eras = [Era(row["time_zone"], row["since"]) for row in await ERAS.rows(conn, circle_id=circle.id)]
    return eras or [Era(circle.time_zone, now)]


FIRST_CHARGE = Sql("SELECT min(decided_at) FROM charge WHERE circle_id = :circle_id")
PERIODS = Sql("SELECT id, period FROM counter WHERE id = ANY(:ids) ORDER BY id")
PERIODS_OF = Sql("SELECT DISTINCT period FROM counter WHERE circle_id = :circle_id ORDER BY period")


async def periods_of(conn: Connection, circle_id: str) -> list[str]:
    """The names of all periods over which something is counted in a circle."""
    return [row["period"] for row in await PERIODS_OF.rows(conn, circle_id=circle_id)]


async def recount(conn: Connection, *, circle: LockedCircle, counter_ids: Sequence[str], now: datetime) -> None:
    """Fills counters anew from history, every window that has charges; the caller holds the circle's lock."""
    if not counter_ids:
        return
    eras = await eras_of(conn, circle, now=now)
    first = await FIRST_CHARGE.value(conn, circle_id=circle.id)
    for row in await PERIODS.rows(conn, ids=list(counter_ids)):
        await CLEAR.run(conn, counter_id=row["id"])
        if first is None:
            continue
        trailing = period_named(row["period"]).trailing
        if trailing is not None:
            await WRITE_TRAIL.run(conn, counter_id=row["id"], trailing=trailing, since=now - trailing)
            continue
        spans = spans_of(eras, row["period"], first=min(first, now), now=now)
        await _rewrite(conn, row["id"], circle_id=circle.id, eras=eras, spans=spans)


COUNTED: Final = """
    ch.circle_id = k.circle_id
    AND CASE k.scope
        WHEN 'mandate' THEN ch.mandate_id = k.scope_id
        WHEN 'credential' THEN ch.credential_id = k.scope_id
        ELSE EXISTS (SELECT 1 FROM pool p JOIN pool_version v ON v.pool_id = p.id AND v.version = 1
                     WHERE p.id = k.scope_id AND p.payer_id = ch.payer_id
                     AND v.terms ->> 'currency' = ch.currency::text
                     AND (p.spender_ids IS NULL OR ch.spender_id = ANY(p.spender_ids))) END
    AND (NOT k.filter ? 'payees' OR k.filter -> 'payees' ? replace(ch.merchant_id::text, '-', ''))
    AND (NOT k.filter ? 'mccs' OR k.filter -> 'mccs' ? ch.mcc::text)
    AND (NOT k.filter ? 'methods' OR k.filter -> 'methods' ? ch.method)
    AND (NOT k.filter ? 'terminals' OR k.filter -> 'terminals' ? replace(ch.terminal_id::text, '-', ''))
    AND (NOT k.filter ? 'items' OR ch.items IS NULL OR EXISTS (
        SELECT 1 FROM jsonb_array_elements(ch.items) item WHERE k.filter -> 'items' ? (item ->> 'code')))
"""
"""Whether charge `ch`, if it counts at all, does for counter `k`: a pool's are in its currency, which no version changes."""
FITTING: Final = "ch.amount_minor > 0 AND ch.state IN ('held', 'due', 'submitted', 'succeeded', 'arrears') AND" + COUNTED
"""Whether charge `ch` counts for counter `k`; what costs nothing does not."""
SELECTED_MINOR: Final = """
    CASE WHEN k.filter ? 'items' AND ch.items IS NOT NULL THEN (
        SELECT sum((item ->> 'amount_minor')::bigint)::bigint FROM jsonb_array_elements(ch.items) item
        WHERE k.filter -> 'items' ? (item ->> 'code')) END
"""
"""What those items cost that counter `k` selects, the most that it counts; null: the whole (`least` passes nulls over)."""
NET_MINOR: Final = (
    """
    least(coalesce(ch.captured_minor, ch.amount_minor) - CASE k.refunds WHEN 'keep' THEN 0 ELSE ch.refunded_minor END,"""
    + SELECTED_MINOR
    + ")"
)
"""What charge `ch` comes to for counter `k`: what it holds or captured, less what was given back unless that is kept."""

PIECES = Sql(
    """
    SELECT width_bucket(ch.decided_at, :cuts::timestamptz[]) - 1 AS piece, count(*)::integer AS count,
           sum("""
    + NET_MINOR
    + """)::bigint AS amount_minor
    FROM counter k JOIN charge ch ON """
    + FITTING
    + """
    WHERE k.id = :counter_id GROUP BY 1
"""
)
CLEAR = Sql("DELETE FROM usage WHERE counter_id = :counter_id")
WRITE_TRAIL = Sql(
    """
    INSERT INTO usage (circle_id, counter_id, window_start, window_end, amount_minor, count)
    SELECT k.circle_id, k.id, ch.decided_at, ch.decided_at + :trailing::interval, sum("""
    + NET_MINOR
    + """)::bigint, count(*)::integer
    FROM counter k JOIN charge ch ON ch.decided_at > :since AND """
    + FITTING
    + """
    WHERE k.id = :counter_id GROUP BY k.circle_id, k.id, ch.decided_at
"""
)
WRITE_USAGE = Sql("""
    INSERT INTO usage (circle_id, counter_id, window_start, window_end, amount_minor, count, carried_minor, carried_count)
    SELECT :circle_id, :counter_id, n.* FROM unnest(:starts::timestamptz[], :ends::timestamptz[], :amounts::bigint[],
        :counts::integer[], :carried_amounts::bigint[], :carried_counts::integer[]) AS n
""")


async def _rewrite(conn: Connection, counter_id: str, *, circle_id: str, eras: Sequence[Era], spans: Sequence[Span]) -> None:
    found = await PIECES.rows(conn, counter_id=counter_id, cuts=cuts_of(spans))
    pieces = {row["piece"]: Used(row["amount_minor"], row["count"]) for row in found}
    rows = rows_of(eras, spans, pieces)
    await WRITE_USAGE.run(
        conn,
        circle_id=circle_id,
        counter_id=counter_id,
        starts=[row.span.start for row in rows],
        ends=[row.span.end for row in rows],
        amounts=[row.used.amount_minor for row in rows],
        counts=[row.used.count for row in rows],
        carried_amounts=[row.carried.amount_minor for row in rows],
        carried_counts=[row.carried.count for row in rows],
    )


FORGET = Sql("""
    DELETE FROM usage u USING counter k
    WHERE k.period LIKE 'trailing@%' AND u.counter_id = k.id AND u.window_end < kinpay_now() - :grace::interval
""")
KEPT_BEYOND: Final = timedelta(days=1)
"""How long a use that has left its trailing window is kept: nobody reads it, but a slow transaction may still change it."""


async def forget_trails(conn: Connection) -> int:
    """Prunes what has left every trailing window. Returns how many rows."""
    return await FORGET.run(conn, grace=KEPT_BEYOND)
