"""What happens by itself: pending debits and refunds finish, unsigned agreements lapse, signed ones run out.

Everything is read from the database, so that a restart forgets nothing.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta
from typing import Literal

from kinpay_sandbox.agree import lapse_agreement
from kinpay_sandbox.books import Pool, now_utc
from kinpay_sandbox.client import forget_nonces
from kinpay_sandbox.debit import finish_debit, lock_debit_of_anybody
from kinpay_sandbox.refund import finish_refund, lock_refund_of_anybody
from kinpay_sandbox.refusal import Refusal

LONGEST_NAP_S = 5.0
NONCES_EVERY = timedelta(minutes=5)

log = logging.getLogger("kinpay_sandbox.deadlines")

DUE_DEBITS = """
SELECT key, client_id, finish_code FROM debits WHERE state = 'pending' AND finish_at <= $1 ORDER BY finish_at LIMIT 100"""
DUE_REFUNDS = """
SELECT key, client_id, finish_code FROM refunds WHERE state = 'pending' AND finish_at <= $1 ORDER BY finish_at LIMIT 100"""
DUE_AGREEMENTS = """
SELECT agreement_id FROM agreements
WHERE (state = 'pending' AND expires_at <= $1) OR (state = 'active' AND valid_until <= $1) LIMIT 100"""
FORGET_SESSIONS = "DELETE FROM sessions WHERE expires_at < now()"
NEXT = """
SELECT min(due) FROM (
    SELECT min(finish_at) AS due FROM debits WHERE state = 'pending'
    UNION ALL SELECT min(finish_at) FROM refunds WHERE state = 'pending'
    UNION ALL SELECT min(expires_at) FROM agreements WHERE state = 'pending'
    UNION ALL SELECT min(valid_until) FROM agreements WHERE state = 'active') dues"""


async def keep_deadlines(db: Pool, *, base_url: str, wake: asyncio.Event) -> None:
    """Run for ever: do what is due, then sleep until the next deadline or until `wake` is set."""
    tidied_at = now_utc()
    while True:
        wake.clear()
        nap_s = LONGEST_NAP_S
        try:
            await _do_due(db, base_url=base_url, now=now_utc())
            if now_utc() - tidied_at > NONCES_EVERY:
                tidied_at = now_utc()
                await forget_nonces(db)
                await db.execute(FORGET_SESSIONS)
            due = await db.fetchval(NEXT)
            if due is not None:
                nap_s = min(LONGEST_NAP_S, max(0.005, (due - now_utc()).total_seconds()))
        except Exception:  # the loop must outlive a database that is away for a moment
            log.exception("deadlines could not be kept; trying again")
            nap_s = 1.0
        try:
            await asyncio.wait_for(wake.wait(), nap_s)
        except TimeoutError:
            continue


async def _do_due(db: Pool, *, base_url: str, now: datetime) -> None:
    for row in await db.fetch(DUE_DEBITS, now):
        try:
            async with db.acquire() as conn, conn.transaction():
                debit = await lock_debit_of_anybody(conn, row["key"], client_id=row["client_id"])
                state: Literal["succeeded", "failed"] = "succeeded" if debit.finish_code is None else "failed"
                await finish_debit(conn, debit, state=state, code=debit.finish_code)
        except Refusal as refusal:  # somebody finished or cancelled it a moment earlier
            log.debug("debit was not due after all: %s", refusal.code)
    for row in await db.fetch(DUE_REFUNDS, now):
        try:
            async with db.acquire() as conn, conn.transaction():
                refund = await lock_refund_of_anybody(conn, row["key"], client_id=row["client_id"])
                await finish_refund(conn, refund, succeeds=refund.finish_code is None, code=refund.finish_code)
        except Refusal as refusal:
            log.debug("refund was not due after all: %s", refusal.code)
    for row in await db.fetch(DUE_AGREEMENTS, now):
        async with db.acquire() as conn, conn.transaction():
            await lapse_agreement(conn, row["agreement_id"], base_url=base_url, now=now)
