"""Which days of a provider account were read, and which should have been: none is given up, however late its statement is."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from kinpay.database.sql import Connection, Record, Sql
from kinpay.primitives.errors import Conflict, Invalid, NotFound
from kinpay.reconciliation.match import CLOCKS_DIFFER

READY_AFTER: Final = timedelta(hours=2)
"""How long after its end a provider has a day's statement."""
_AT_ONCE: Final = 50
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# An account that is not used any more is read until all that was debited or given back through it could be told.
DUE = Sql("""
    SELECT a.id, d.day::date AS day
    FROM provider_account a
    LEFT JOIN recon_progress p ON p.provider_account_id = a.id
    CROSS JOIN LATERAL generate_series(
        coalesce(p.complete_until + 1, ((a.created_at - :apart::interval) AT TIME ZONE 'UTC')::date),
        ((:now::timestamptz - :ready::interval) AT TIME ZONE 'UTC')::date - 1, interval '1 day') AS d (day)
    LEFT JOIN recon_unread u ON u.provider_account_id = a.id AND u.day = d.day::date
    WHERE NOT EXISTS (SELECT FROM provider_statement s WHERE s.provider_account_id = a.id AND s.day = d.day::date)
      AND (u.tried_at IS NULL OR u.tried_at < :now::timestamptz - least(u.attempts, 36) * interval '10 minutes')
      AND (a.enabled
           OR EXISTS (SELECT FROM recon_untold w WHERE w.provider_account_id = a.id AND w.until_day >= d.day::date)
           OR EXISTS (SELECT FROM debit o WHERE o.provider_account_id = a.id AND o.state = 'succeeded'
                      AND o.finished_at >= d.day::date - 1)
           OR EXISTS (SELECT FROM refund r JOIN debit o ON o.id = r.debit_id AND o.circle_id = r.circle_id
                      WHERE o.provider_account_id = a.id AND r.state = 'succeeded' AND r.finished_at >= d.day::date - 1))
    ORDER BY u.tried_at NULLS FIRST, d.day, a.id LIMIT :most
""")


async def due_days(conn: Connection, *, now: datetime) -> list[Record]:
    """Every `id` of an account and `day` whose statement should be there and is to be asked for now; the untried first."""
    return await DUE.rows(conn, now=now, ready=READY_AFTER, apart=CLOCKS_DIFFER, most=_AT_ONCE)


TRY = Sql("""
    INSERT INTO recon_unread (provider_account_id, day, attempts, tried_at) VALUES (:account_id, :day, 1, :now)
    ON CONFLICT (provider_account_id, day) DO UPDATE
    SET attempts = recon_unread.attempts + 1, tried_at = EXCLUDED.tried_at, reason = NULL
""")
FAILED = Sql("UPDATE recon_unread SET reason = :reason WHERE provider_account_id = :account_id AND day = :day")


async def note_try(conn: Connection, provider_account_id: str, day: date, *, now: datetime) -> None:
    """A statement is about to be asked for by the schedule."""
    await TRY.run(conn, account_id=provider_account_id, day=day, now=now)


async def note_failure(conn: Connection, provider_account_id: str, day: date, *, reason: str) -> None:
    """It was not to be had, or not to be kept. `reason`: the error's own name."""
    await FAILED.run(conn, account_id=provider_account_id, day=day, reason=reason)


BEGIN = Sql("""
    INSERT INTO recon_progress (provider_account_id, complete_until, looked_until)
    SELECT id, ((created_at - :apart::interval) AT TIME ZONE 'UTC')::date - 1, :epoch FROM provider_account
    WHERE id = :account_id ON CONFLICT DO NOTHING
""")
LOCK = Sql("""
    SELECT p.looked_until, a.operator_id,
           EXISTS (SELECT FROM provider_statement s WHERE s.provider_account_id = a.id AND s.day = :day) AS is_read
    FROM recon_progress p JOIN provider_account a ON a.id = p.provider_account_id
    WHERE p.provider_account_id = :account_id FOR UPDATE OF p
""")


async def begin_day(conn: Connection, provider_account_id: str, day: date, *, now: datetime) -> Record:
    """Locks the account's reconciliation for a day that is to be read; returns its `operator_id` and `looked_until`.

    Raises: NotFound for an account that there is not; Conflict if the day was read; Invalid if it is not over for long enough:
    what the provider adds to it later would be read by nobody.
    """
    await BEGIN.run(conn, account_id=provider_account_id, apart=CLOCKS_DIFFER, epoch=_EPOCH)
    row = await LOCK.row(conn, account_id=provider_account_id, day=day)
    if row is None:
        raise NotFound()
    if row["is_read"]:
        raise Conflict(thing="statement", day=day.isoformat())
    if now < ready_at(day):
        raise Invalid("day_not_over", field="day", ready_at=ready_at(day).isoformat())
    return row


def ready_at(day: date) -> datetime:
    """When a provider has the whole statement of its UTC day."""
    return datetime.combine(day + timedelta(days=1), time(0), UTC) + READY_AFTER


# Every day up to the first that was not read.
ADVANCE = Sql("""
    UPDATE recon_progress p
    SET looked_until = :now,
        complete_until = coalesce(
            (SELECT min(g.day)::date - 1
             FROM generate_series(p.complete_until + 1,
                                  (SELECT max(s.day) + 1 FROM provider_statement s WHERE s.provider_account_id = :account_id),
                                  interval '1 day') AS g (day)
             WHERE NOT EXISTS (SELECT FROM provider_statement s
                               WHERE s.provider_account_id = :account_id AND s.day = g.day::date)), p.complete_until)
    WHERE p.provider_account_id = :account_id
""")
READ = Sql("DELETE FROM recon_unread WHERE provider_account_id = :account_id AND day = :day")


async def finish_day(conn: Connection, provider_account_id: str, day: date, *, now: datetime) -> None:
    """The day was read, and everything that was finished before `now` was looked at."""
    await ADVANCE.run(conn, account_id=provider_account_id, now=now)
    await READ.run(conn, account_id=provider_account_id, day=day)
