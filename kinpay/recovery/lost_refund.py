"""A refund that the provider has and a restored database does not know: booked under its own key."""

from __future__ import annotations

from kinpay.charges.books import lock_charge
from kinpay.charges.charge import ChargeState
from kinpay.charges.refund import REFUNDABLE, KnownRefund, give_back, open_refund, settle_refund
from kinpay.database.audit import record
from kinpay.database.pool import database_now
from kinpay.database.sql import Connection, Sql
from kinpay.primitives.ids import is_id
from kinpay.providers.contract import DebitState, ProviderRefund

HAVE = Sql("SELECT EXISTS (SELECT FROM refund WHERE id = :key)")
# The charges of a debit with what may still go back of each; one that it gives back whole is the likeliest.
CHARGES = Sql("""
    SELECT cd.charge_id, cd.amount_minor - coalesce((SELECT sum(r.amount_minor) FROM refund r
                                                     WHERE r.debit_id = d.id AND r.charge_id = cd.charge_id
                                                       AND r.state <> 'failed'), 0)::bigint AS rest_minor
    FROM charge_debit cd JOIN debit d ON d.id = cd.debit_id AND d.circle_id = cd.circle_id
    WHERE d.id = :debit_id AND d.provider_account_id = :account_id AND d.state = 'succeeded'
    ORDER BY 2 = :amount_minor DESC, cd.charge_id
""")
# What was debited for a charge beyond what it captured, and is not on its way back yet.
SURPLUS = Sql("""
    SELECT coalesce(sum(cd.amount_minor), 0)::bigint - c.captured_minor + c.refunded_minor
           - coalesce((SELECT sum(r.amount_minor) FROM refund r WHERE r.charge_id = c.id AND r.state <> 'failed'), 0)::bigint
    FROM charge c JOIN charge_debit cd ON cd.charge_id = c.id AND cd.circle_id = c.circle_id
    JOIN debit d ON d.id = cd.debit_id AND d.state = 'succeeded'
    WHERE c.id = :charge_id GROUP BY c.id, c.captured_minor, c.refunded_minor
""")


async def book_lost_refund(conn: Connection, seen: ProviderRefund, *, account_id: str) -> str | None:
    """Writes the refund of a debit that is in our books, and settles it; returns why it cannot be booked, if so.

    On a connection that may write while the database is closed.
    """
    if not is_id(seen.key) or not is_id(seen.debit_key) or seen.state is not DebitState.SUCCEEDED:
        return "not_an_order_of_ours"
    if await HAVE.value(conn, key=seen.key):
        await settle_refund(conn, seen.key, seen)
        return None
    amount_minor = seen.amount.minor
    rows = await CHARGES.rows(conn, debit_id=seen.debit_key, account_id=account_id, amount_minor=amount_minor)
    if not rows:
        return "debit_unknown"
    charge_id = next((row["charge_id"] for row in rows if row["rest_minor"] >= amount_minor), None)
    if charge_id is None:
        return "more_than_is_left"
    circle, charge = await lock_charge(conn, charge_id)
    if charge.state is not ChargeState.SUCCEEDED:
        return f"charge_{charge.state.value}"
    now = await database_now(conn)
    if await SURPLUS.value(conn, charge_id=charge_id) >= amount_minor:
        debits = await REFUNDABLE.rows(conn, charge_id=charge_id)
        debit = next(row for row in debits if row["id"] == seen.debit_key)
        opened = await open_refund(
            conn, charge, debit, refund_id=seen.key, amount_minor=amount_minor, why="surplus", now=now
        )  # fmt: skip
        await record(conn, circle.id, opened, now=now)
    else:
        known = KnownRefund(seen.key, seen.debit_key)
        await give_back(conn, circle, charge, amount_minor=amount_minor, why="asked", actor_id=None, now=now, known=known)
    await settle_refund(conn, seen.key, seen)
    return None
