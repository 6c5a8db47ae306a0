"""Gives back to, or takes from, the windows that a charge used: its original windows, every counter it fell under."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from kinpay.charges.order import Order
from kinpay.charges.request import Charge, Taken
from kinpay.charges.standing import TRAIL, Bounds, Counter, CounterKey, Moment, Trail, Used
from kinpay.database.sql import Connection, Sql
from kinpay.mandates.counters import COUNTED, SELECTED_MINOR, eras_of, periods_of, spans_of
from kinpay.people.lock import LockedCircle
from kinpay.primitives.clock import Span
from kinpay.primitives.period import period_named

_CHARGE: Final = """
    (SELECT :circle_id::uuid AS circle_id, :mandate_id::uuid AS mandate_id, :credential_id::uuid AS credential_id,
            :payer_id::uuid AS payer_id, :spender_id::uuid AS spender_id, :currency::text AS currency,
            :merchant_id::uuid AS merchant_id, :terminal_id::uuid AS terminal_id, :method::text AS method,
            :mcc::text AS mcc, :items::jsonb AS items) ch
"""
# Counters are found from the charge itself, not from today's limits: a counter that no limit needs any more is kept up too.
# What a charge comes to for a counter depends on its items and on whether refunds count, so it is reckoned before and after.
CHANGE_USAGE = Sql(
    """
    WITH moved AS (
        SELECT k.id, k.period LIKE 'trailing@%' AS trails,
               least(:gross_after::bigint - CASE k.refunds WHEN 'keep' THEN 0 ELSE :refunded_after::bigint END,
                     s.selected_minor)
               - least(:gross_before::bigint - CASE k.refunds WHEN 'keep' THEN 0 ELSE :refunded_before::bigint END,
                       s.selected_minor) AS amount_minor
        FROM counter k CROSS JOIN"""
    + _CHARGE
    + "CROSS JOIN LATERAL (SELECT"
    + SELECTED_MINOR
    + "AS selected_minor) s WHERE"
    + COUNTED
    + """)
    UPDATE usage u
    SET amount_minor = u.amount_minor + m.amount_minor, count = u.count + :count
    FROM moved m
    WHERE u.counter_id = m.id AND u.window_start <= :decided_at AND :decided_at < u.window_end
      AND (NOT m.trails OR u.window_start = :decided_at)
"""
)
_NOTHING: Final = Taken(0, 0)


async def change_usage(conn: Connection, charge: Charge, *, before: Taken | None, after: Taken | None) -> None:
    """Puts what the charge comes to `after` in the place of what it came to `before`; None: it does not count.

    Under the circle's lock. A usage row counts what was decided between its start and its end, whatever zone made it.
    """
    if not charge.amount_minor:
        return  # What costs nothing uses nothing.
    was, will_be = before or _NOTHING, after or _NOTHING
    await CHANGE_USAGE.run(
        conn,
        circle_id=charge.circle_id,
        gross_before=was.gross_minor,
        refunded_before=was.refunded_minor,
        gross_after=will_be.gross_minor,
        refunded_after=will_be.refunded_minor,
        count=(after is not None) - (before is not None),
        decided_at=charge.decided_at,
        mandate_id=charge.mandate_id,
        credential_id=charge.credential_id,
        payer_id=charge.payer_id,
        spender_id=charge.spender_id,
        currency=charge.currency,
        merchant_id=charge.merchant_id,
        terminal_id=charge.terminal_id,
        method=charge.method,
        mcc=charge.mcc,
        items=[{"code": item.code, "amount_minor": item.amount_minor} for item in charge.items] or None,
    )


OPEN_WINDOWS = Sql("""
    INSERT INTO usage (circle_id, counter_id, window_start, window_end)
    SELECT :circle_id, c.id, n.starts, n.ends
    FROM counter c JOIN unnest(:periods::text[], :starts::timestamptz[], :ends::timestamptz[]) AS n (period, starts, ends)
         USING (period)
    WHERE c.circle_id = :circle_id
      AND (c.scope_id = :mandate_id OR c.scope_id = :credential_id
           OR c.scope_id IN (SELECT p.id FROM pool p WHERE p.circle_id = :circle_id AND p.payer_id = :payer_id))
    ON CONFLICT DO NOTHING
""")


async def count_late(conn: Connection, circle: LockedCircle, charge: Charge, *, now: datetime) -> None:
    """Counts a charge that had been let go: in its own windows, also of limits and zones that are newer than its letting go."""
    around = await _windows_of(conn, circle, charge.decided_at, now=now)
    await OPEN_WINDOWS.run(
        conn,
        circle_id=circle.id,
        periods=[period for period, _ in around],
        starts=[span.start for _, span in around],
        ends=[span.end for _, span in around],
        mandate_id=charge.mandate_id,
        credential_id=charge.credential_id,
        payer_id=charge.payer_id,
    )
    await change_usage(conn, charge, before=None, after=charge.taken)


async def _windows_of(conn: Connection, circle: LockedCircle, moment: datetime, *, now: datetime) -> list[tuple[str, Span]]:
    """The windows around `moment` of everything that the circle counts, in every zone it has had."""
    eras = await eras_of(conn, circle, now=now)
    found: list[tuple[str, Span]] = []
    for period in await periods_of(conn, circle.id):
        trailing = period_named(period).trailing
        if trailing is not None:
            found.append((period, Span(moment, moment + trailing)))
            continue
        spans = {span.start: span for span in spans_of(eras, period, first=moment, now=now) if span.start <= moment < span.end}
        found += [(period, span) for span in spans.values()]
    return found


READ_USAGE = Sql("""
    SELECT w.at - 1 AS at, u.amount_minor + u.carried_minor AS amount_minor, u.count + u.carried_count AS count
    FROM unnest(:counters::uuid[], :starts::timestamptz[]) WITH ORDINALITY AS w (id, start, at)
    JOIN usage u ON u.counter_id = w.id AND u.window_start = w.start
""")


async def read_usage(conn: Connection, bounds: Sequence[Bounds], moment: Moment) -> dict[CounterKey, Used]:
    """What is used of everything that those bounds count, as of `moment`; of trailing periods also what came after."""
    counters = [counter for scope in bounds for counter in scope.counters]
    windows = list({counter.key(moment): None for counter in counters if counter.trailing is None})
    rows = await READ_USAGE.rows(conn, counters=[key[0] for key in windows], starts=[key[1] for key in windows])
    found = {key: Used() for key in windows}
    for row in rows:
        found[windows[row["at"]]] = Used(row["amount_minor"], row["count"])
    trails = {counter.id: moment.now - counter.trailing for counter in counters if counter.trailing is not None}
    return found | await read_trails(conn, trails)


READ_TRAILS = Sql("""
    SELECT t.id, u.window_start, u.amount_minor, u.count
    FROM unnest(:counters::uuid[], :starts::timestamptz[]) AS t (id, since)
    CROSS JOIN LATERAL (SELECT window_start, amount_minor, count FROM usage
                        WHERE counter_id = t.id AND window_start > t.since ORDER BY window_start LIMIT 1000000) u
    ORDER BY t.id, u.window_start
""")


async def read_trails(conn: Connection, since: Mapping[str, datetime]) -> dict[CounterKey, Used]:
    """Every use of trailing counters after the moment that is named for each."""
    found = {counter_id: Trail(made=[]) for counter_id in since}
    if since:
        for row in await READ_TRAILS.rows(conn, counters=list(since), starts=list(since.values())):
            found[row["id"]].made.append((row["window_start"], row["amount_minor"], row["count"]))
    return {(counter_id, TRAIL): trail for counter_id, trail in found.items()}


TAKE = Sql("""
    INSERT INTO usage (circle_id, counter_id, window_start, window_end, amount_minor, count)
    SELECT :circle_id, counter_id, window_start, window_end, amount_minor, 1
    FROM unnest(:counters::uuid[], :starts::timestamptz[], :ends::timestamptz[], :amounts::bigint[])
         AS n (counter_id, window_start, window_end, amount_minor)
    ON CONFLICT (counter_id, window_start)
    DO UPDATE SET amount_minor = usage.amount_minor + excluded.amount_minor, count = usage.count + 1
""")


async def take_usage(conn: Connection, circle_id: str, uses: Sequence[tuple[Counter, Span]], order: Order) -> None:
    """Reserves one order in the windows that a fresh decision named."""
    await TAKE.run(
        conn,
        circle_id=circle_id,
        counters=[counter.id for counter, _ in uses],
        starts=[span.start for _, span in uses],
        ends=[span.end for _, span in uses],
        amounts=[counter.part_of(order) for counter, _ in uses],
    )
