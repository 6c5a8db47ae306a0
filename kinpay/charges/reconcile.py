"""What is not known yet is asked of the provider, under the same key, until it is known; what is owed is tried again.

Source: providers.md §10 "Reconciler loop"; semantics.md "Charge".
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Final

from kinpay.charges.books import lock_charge, move_charge, read_debit, write_debit
from kinpay.charges.charge import ChargeEvent, ChargeState
from kinpay.charges.next_agreement import next_agreements
from kinpay.charges.refund import send_refund
from kinpay.charges.submit import book_debit, debit_request, drive, mark_unknown
from kinpay.charges.void import stop_debit
from kinpay.database.audit import record
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection, Sql
from kinpay.primitives.apart import apart
from kinpay.providers.contract import Adapters, Misconfigured, NotExecuted, NotKnown, ProviderDebit, UnknownOutcome

log = logging.getLogger(__name__)

WANTED_FOR: Final = timedelta(minutes=2)
"""How long a debit that never arrived is still worth sending when nothing was delivered: then the till has given up."""

# Claimed by moving the next check, so that two reconcilers do not ask at once; a dead one's claims come round again.
CLAIM_DEBITS = Sql("""
    UPDATE debit SET next_check_at = kinpay_now() + interval '60 seconds'
    WHERE (id, circle_id) IN (SELECT id, circle_id FROM debit WHERE next_check_at <= kinpay_now()
                              ORDER BY next_check_at LIMIT 100 FOR UPDATE SKIP LOCKED)
    RETURNING id
""")


async def reconcile_debits(db: Database, adapters: Adapters) -> int:
    """Asks the provider for every debit that is due; returns how many were looked at."""
    async with db.transaction() as conn:
        due = [row[0] for row in await CLAIM_DEBITS.rows(conn)]
    for debit_id in due:
        await apart(reconcile_debit(db, adapters, debit_id), debit_id)
    return len(due)


async def reconcile_debit(db: Database, adapters: Adapters, debit_id: str) -> None:
    """Asks for one debit; if it never arrived, sends it again under its key or closes it at the provider for good."""
    request, account_id = await debit_request(db, debit_id)
    seen: ProviderDebit | None = None
    try:
        provider = await adapters.adapter(account_id)
        seen = await provider.get_debit(request)
    except NotKnown:
        pass
    except (UnknownOutcome, NotExecuted, Misconfigured) as error:
        log.info("debit still not known", extra={"debit_id": debit_id, "error": type(error).__name__})
        await mark_unknown(db, debit_id)
        return
    if seen is not None:
        await drive(db, adapters, (await book_debit(db, debit_id, seen)).next_debit_id)
    elif await _still_wanted(db, debit_id):
        await drive(db, adapters, debit_id)
    elif provider.can.cancels_debits:
        await stop_debit(db, adapters, debit_id)
    else:
        await mark_unknown(db, debit_id)


async def _still_wanted(db: Database, debit_id: str) -> bool:
    async with db.transaction() as conn:
        debit = await read_debit(conn, debit_id)
        _, charge = await lock_charge(conn, debit.charge_ids[0])  # those of a day were all delivered
        now = await database_now(conn)
    if charge.void_requested or charge.state is not ChargeState.SUBMITTED:
        return False
    return charge.delivered or now - debit.created_at < WANTED_FOR


CLAIM_REFUNDS = Sql("""
    UPDATE refund SET next_check_at = kinpay_now() + interval '60 seconds'
    WHERE (id, circle_id) IN (SELECT id, circle_id FROM refund WHERE next_check_at <= kinpay_now()
                              ORDER BY next_check_at LIMIT 100 FOR UPDATE SKIP LOCKED)
    RETURNING id
""")


async def reconcile_refunds(db: Database, adapters: Adapters) -> int:
    """Sends or asks for every refund that is due; returns how many."""
    async with db.transaction() as conn:
        due = [row[0] for row in await CLAIM_REFUNDS.rows(conn)]
    for refund_id in due:
        await apart(send_refund(db, adapters, refund_id), refund_id)
    return len(due)


OWED = Sql("""
    SELECT id FROM charge WHERE retry_at <= kinpay_now() AND state = 'arrears' AND due_on IS NULL ORDER BY retry_at LIMIT 100
""")


async def retry_arrears(db: Database, adapters: Adapters) -> int:
    """Tries again what is owed and whose time has come; returns how many. Days are tried as days: `daily.retry_days`."""
    async with db.connection() as conn:
        due = [row[0] for row in await OWED.rows(conn)]
    for charge_id in due:
        await apart(retry_owed(db, adapters, charge_id), charge_id)
    return len(due)


async def retry_owed(db: Database, adapters: Adapters, charge_id: str) -> None:
    """One new debit for a charge in arrears, committed and sent. No-op if it is not owed any more."""
    async with db.transaction() as conn:
        debit_id = await commit_retry(conn, charge_id)
    await drive(db, adapters, debit_id)


async def commit_retry(conn: Connection, charge_id: str, *, actor_id: str | None = None) -> str | None:
    """Writes a new debit for a charge in arrears, on the next of the mandate's agreements; None if there is nothing to send.
    `actor_id`: the payer who asked for it; None for the schedule.

    Raises: NotFound.
    """
    circle, charge = await lock_charge(conn, charge_id)
    now = await database_now(conn)
    if charge.state is not ChargeState.ARREARS:
        return None
    following = (await next_agreements(conn, circle.id, [charge_id])).get(charge_id)
    if following is None:
        await PUT_OFF.run(conn, charge_id=charge_id)
        return None
    charge.agreement_id = following.agreement_id
    moved = await move_charge(conn, charge, ChargeEvent.RETRY, now=now, actor_id=actor_id)
    debit_id, sent = await write_debit(conn, [charge], kind="arrears", now=now)
    await record(conn, circle.id, moved, sent, now=now)
    return debit_id


PUT_OFF = Sql("UPDATE charge SET retry_at = kinpay_now() + interval '1 day' WHERE id = :charge_id AND state = 'arrears'")
