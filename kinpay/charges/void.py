"""Giving a charge up: at the till's word, or because its hold ran out and nobody reported anything.

Source: semantics.md "Charge"; product.md S2.2.
"""

from __future__ import annotations

from kinpay.charges.books import lock_charge, rewrite_charge
from kinpay.charges.charge import ChargeState
from kinpay.charges.submit import book_debit, debit_request, drive, mark_unknown, void_held
from kinpay.database.audit import record
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection, Sql
from kinpay.primitives.apart import apart
from kinpay.primitives.errors import WrongState
from kinpay.providers.contract import Adapters, Misconfigured, NotExecuted, UnknownOutcome

OPEN_DEBIT = Sql("""
    SELECT d.id FROM charge_debit cd JOIN debit d ON d.id = cd.debit_id
    WHERE cd.charge_id = :charge_id AND d.state = 'submitted' ORDER BY d.created_at DESC LIMIT 1
""")


async def ask_void(conn: Connection, charge_id: str, *, actor_id: str) -> str | None:
    """Voids a held charge, or notes on a submitted one that it is not wanted; returns the debit to be stopped.

    Twice is as good as once, also when the debit succeeded in between and its money is on the way back.

    Raises: NotFound; WrongState once it has ended otherwise.
    """
    circle, charge = await lock_charge(conn, charge_id)
    now = await database_now(conn)
    if charge.state is ChargeState.HELD:
        await void_held(conn, circle, charge, reason="asked", now=now, actor_id=actor_id)
        return None
    if charge.state is ChargeState.SUBMITTED and not charge.delivered:
        if not charge.void_requested:
            charge.void_requested = True
            wished = await rewrite_charge(conn, charge, "void_asked", now=now, actor_id=actor_id)
            await record(conn, circle.id, wished, now=now)
        found: str | None = await OPEN_DEBIT.value(conn, charge_id=charge_id)
        return found
    if charge.state is not ChargeState.VOIDED and not charge.void_requested:
        raise WrongState("charge", state=charge.state.value, event="voided")
    return None


async def stop_debit(db: Database, adapters: Adapters, debit_id: str) -> None:
    """Closes the order at the provider, which makes its answer final, and books that answer."""
    request, account_id = await debit_request(db, debit_id)
    try:
        provider = await adapters.adapter(account_id)
        if not provider.can.cancels_debits:
            await mark_unknown(db, debit_id)
            return
        seen = await provider.cancel_debit(request)
    except (UnknownOutcome, NotExecuted, Misconfigured):
        await mark_unknown(db, debit_id)
        return
    await drive(db, adapters, (await book_debit(db, debit_id, seen)).next_debit_id)


RUN_OUT = Sql(
    "SELECT id FROM charge WHERE state = 'held' AND hold_expires_at < kinpay_now() ORDER BY hold_expires_at LIMIT 200"
)


async def void_run_out(db: Database) -> int:
    """Voids charges whose hold ran out: a machine that reported nothing keeps nothing. Returns how many."""
    async with db.connection() as conn:
        ids = [row[0] for row in await RUN_OUT.rows(conn)]
    for charge_id in ids:
        await apart(_void_if_run_out(db, charge_id), charge_id)
    return len(ids)


async def _void_if_run_out(db: Database, charge_id: str) -> None:
    async with db.transaction() as conn:
        circle, charge = await lock_charge(conn, charge_id)
        now = await database_now(conn)
        if charge.state is ChargeState.HELD and charge.hold_expires_at is not None and charge.hold_expires_at < now:
            await void_held(conn, circle, charge, reason="hold_ran_out", now=now)
