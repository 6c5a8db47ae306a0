"""Gives back to, or takes from, the windows that a charge used: its original windows, every counter it fell under."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from kinpay.charges.request import Charge
from kinpay.charges.standing import Counter, CounterKey, Used
from kinpay.database.sql import Connection, Sql
from kinpay.mandates.counters import eras_of, spans_of
from kinpay.people.lock import LockedCircle
from kinpay.primitives.clock import Span, Window

# Counters are found from the charge itself, not from today's limits: a counter that no limit needs any more is kept up too.
CHANGE_USAGE = Sql("""
    UPDATE usage u
    SET amount_minor = u.amount_minor + :amount_minor, count = u.count + :count
    FROM counter c
    WHERE c.circle_id = :circle_id AND u.counter_id = c.id
      AND u.window_start <= :decided_at AND :decided_at < u.window_end
      AND (c.scope_id = :mandate_id OR c.scope_id = :credential_id
           OR c.scope_id IN (SELECT p.id FROM pool p JOIN pool_version v ON v.pool_id = p.id AND v.version = 1
                             WHERE p.circle_id = :circle_id AND p.payer_id = :payer_id
                               AND v.terms ->> 'currency' = :currency
                               AND (p.spender_ids IS NULL OR :spender_id = ANY(p.spender_ids))))
      AND (NOT c.filter ? 'payees' OR c.filter -> 'payees' ? :merchant_id)
      AND (NOT c.filter ? 'mccs' OR c.filter -> 'mccs' ? :mcc)
""")


async def change_usage(conn: Connection, charge: Charge, *, amount_minor: int, count: int) -> None:
    """Adds `amount_minor` and `count` (negative: gives back) to the windows that hold the charge's decision.

    Under the circle's lock. A usage row counts what was decided between its start and its end, whatever zone made it.
    """
    await CHANGE_USAGE.run(
        conn,
        circle_id=charge.circle_id,
        amount_minor=amount_minor,
        count=count,
        decided_at=charge.decided_at,
        mandate_id=charge.mandate_id,
        credential_id=charge.credential_id,
        payer_id=charge.payer_id,
        spender_id=charge.spender_id,
        currency=charge.currency,
        merchant_id=charge.merchant_id,
        mcc=charge.mcc,
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
    eras = await eras_of(conn, circle, now=now)
    around = {
        (window.value, span.start): span.end
        for window in Window
        for span in spans_of(eras, window, first=charge.decided_at, now=now)
        if span.start <= charge.decided_at < span.end
    }
    await OPEN_WINDOWS.run(
        conn,
        circle_id=circle.id,
        periods=[period for period, _ in around],
        starts=[start for _, start in around],
        ends=list(around.values()),
        mandate_id=charge.mandate_id,
        credential_id=charge.credential_id,
        payer_id=charge.payer_id,
    )
    await change_usage(conn, charge, amount_minor=charge.net_minor, count=1)


READ_USAGE = Sql("""
    SELECT w.at - 1 AS at, u.amount_minor + u.carried_minor AS amount_minor, u.count + u.carried_count AS count
    FROM unnest(:counters::uuid[], :starts::timestamptz[]) WITH ORDINALITY AS w (id, start, at)
    JOIN usage u ON u.counter_id = w.id AND u.window_start = w.start
""")


async def read_usage(conn: Connection, windows: Sequence[CounterKey]) -> dict[CounterKey, Used]:
    """What the windows have used."""
    rows = await READ_USAGE.rows(conn, counters=[key[0] for key in windows], starts=[key[1] for key in windows])
    found = {key: Used() for key in windows}
    for row in rows:
        found[windows[row["at"]]] = Used(row["amount_minor"], row["count"])
    return found


TAKE = Sql("""
    INSERT INTO usage (circle_id, counter_id, window_start, window_end, amount_minor, count)
    SELECT :circle_id, counter_id, window_start, window_end, :amount_minor, 1
    FROM unnest(:counters::uuid[], :starts::timestamptz[], :ends::timestamptz[]) AS n (counter_id, window_start, window_end)
    ON CONFLICT (counter_id, window_start)
    DO UPDATE SET amount_minor = usage.amount_minor + excluded.amount_minor, count = usage.count + 1
""")


async def take_usage(conn: Connection, circle_id: str, uses: Sequence[tuple[Counter, Span]], *, amount_minor: int) -> None:
    """Reserves one charge of `amount_minor` in the windows that a fresh decision named."""
    await TAKE.run(
        conn,
        circle_id=circle_id,
        amount_minor=amount_minor,
        counters=[counter.id for counter, _ in uses],
        starts=[span.start for _, span in uses],
        ends=[span.end for _, span in uses],
    )
