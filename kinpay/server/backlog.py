"""What is left to be done, from the tables: one statement, whose every part goes along an index and ends after so many rows.

A scrape must cost the same on the first day and after years, and whether one process asks or twenty.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Final

import asyncpg

from kinpay.database.pool import Database
from kinpay.database.sql import Sql
from kinpay.primitives.errors import Busy
from kinpay_postgres.keep_log import SLOT

log = logging.getLogger(__name__)

AT_MOST: Final = 10_000
"""Where counting ends: whoever has so much to be done need not know it to the row."""
KEPT_S: Final = 5.0
PATIENCE_S: Final = 2.0

# Young tables would be read from end to end, and go on being: see `Database.open(by_index)`. Here for one transaction.
BY_INDEX = Sql("SET LOCAL enable_seqscan = off")
LOOK = Sql("""
    SELECT
        (SELECT count(*) FROM (SELECT FROM outbox WHERE done_at IS NULL AND dead_at IS NULL LIMIT :at_most) o) AS outbox_open,
        (SELECT extract(epoch FROM greatest(kinpay_now() - available_at, '0'))::float8 FROM outbox
         WHERE done_at IS NULL AND dead_at IS NULL ORDER BY available_at LIMIT 1) AS outbox_oldest_s,
        (SELECT count(*) FROM (SELECT FROM outbox WHERE dead_at IS NOT NULL LIMIT :at_most) o) AS messages_dead,
        (SELECT count(*) FROM (SELECT FROM webhook_delivery WHERE state = 'pending' LIMIT :at_most) w) AS webhooks_pending,
        (SELECT extract(epoch FROM max(greatest(kinpay_now() - first.next_attempt_at, '0')))::float8
         FROM (SELECT id FROM webhook_endpoint WHERE enabled ORDER BY id LIMIT :at_most) e CROSS JOIN LATERAL
              (SELECT next_attempt_at FROM webhook_delivery WHERE endpoint_id = e.id AND state = 'pending'
               ORDER BY next_attempt_at LIMIT 1) first) AS webhooks_overdue_s,
        (SELECT count(*) FROM (SELECT FROM webhook_endpoint WHERE NOT enabled AND disabled_reason <> 'asked' LIMIT :at_most) e)
            AS webhooks_disabled,
        (SELECT count(*) FROM (SELECT FROM inbox WHERE applied_at IS NULL LIMIT :at_most) i) AS inbox_open,
        (SELECT count(*) FROM (SELECT FROM debit WHERE next_check_at IS NOT NULL AND unknown LIMIT :at_most) d)
            AS debits_unknown,
        (SELECT extract(epoch FROM greatest(kinpay_now() - next_check_at, '0'))::float8 FROM debit
         WHERE next_check_at IS NOT NULL ORDER BY next_check_at LIMIT 1) AS debits_overdue_s,
        (SELECT count(*) FROM (SELECT FROM refund WHERE next_check_at IS NOT NULL LIMIT :at_most) r) AS refunds_open,
        (SELECT count(*) FROM (SELECT FROM charge WHERE state = 'held' AND hold_expires_at IS NOT NULL LIMIT :at_most) c)
            AS charges_held,
        (SELECT count(*) FROM (SELECT FROM charge WHERE state = 'due' AND due_on IS NOT NULL LIMIT :at_most) c) AS charges_due,
        (SELECT count(*) FROM (SELECT FROM charge WHERE owed_since IS NOT NULL LIMIT :at_most) c) AS arrears_open,
        (SELECT count(*) FROM (SELECT FROM recon_break WHERE state = 'open' LIMIT :at_most) b) AS breaks_open,
        (SELECT extract(epoch FROM max(greatest(kinpay_now() - ready_at, '0')))::float8
         FROM (SELECT (coalesce(p.complete_until + 1, ((a.created_at - interval '10 minutes') AT TIME ZONE 'UTC')::date) + 1)
                      ::timestamp AT TIME ZONE 'UTC' + interval '2 hours' AS ready_at
               FROM (SELECT id, created_at, enabled FROM provider_account ORDER BY id LIMIT :at_most) a
               LEFT JOIN recon_progress p ON p.provider_account_id = a.id
               WHERE a.enabled OR EXISTS (SELECT FROM recon_untold u WHERE u.provider_account_id = a.id)
                  OR EXISTS (SELECT FROM debit d WHERE d.provider_account_id = a.id AND d.state = 'succeeded'
                             AND d.finished_at >= coalesce(p.looked_until, a.created_at))) s) AS statement_overdue_s,
        (SELECT count(*) FROM (SELECT FROM registration WHERE state = 'open' LIMIT :at_most) r) AS registrations_open,
        (SELECT extract(epoch FROM greatest(kinpay_now() - at, '0'))::float8 FROM checkpoint ORDER BY id DESC LIMIT 1)
            AS checkpoint_age_s,
        (SELECT count(*) FROM pg_replication_slots WHERE slot_name = :slot AND (NOT active OR wal_status = 'lost'))
            AS log_not_kept,
        (SELECT greatest(max(pg_wal_lsn_diff(CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_lsn() END, restart_lsn)), 0)
         FROM pg_replication_slots WHERE slot_name = :slot)::float8 AS log_held_back_bytes,
        (SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'notice' AND schemaname = current_schema()) AS notices_made
""")

Numbers = Mapping[str, float | None]


class Backlog:
    """The numbers as they were at most `kept_s` seconds ago, however many ask."""

    def __init__(self, db: Database, *, kept_s: float = KEPT_S) -> None:
        self._db = db
        self._kept_s = kept_s
        self._at = -kept_s
        self._numbers: Numbers | None = None
        self._looking = asyncio.Lock()

    async def read(self) -> Numbers | None:
        """Every column of `LOOK`; None where the database does not answer within two seconds."""
        async with self._looking:
            if time.monotonic() - self._at >= self._kept_s:
                self._numbers = await self._look()
                self._at = time.monotonic()
            return self._numbers

    async def _look(self) -> Numbers | None:
        try:
            async with asyncio.timeout(PATIENCE_S), self._db.transaction() as conn:
                await BY_INDEX.run(conn)
                row = await LOOK.row(conn, at_most=AT_MOST, slot=SLOT)
        except (Busy, TimeoutError, asyncpg.PostgresError) as error:
            log.warning("backlog not known", extra={"error": type(error).__name__})
            return None
        return None if row is None else dict(row)
