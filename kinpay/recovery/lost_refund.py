"""A refund that the provider has and a restored database does not know: booked under its own key."""

from __future__ import annotations

from kinpay.charges.books import lock_charge
from kinpay.charges.charge import ChargeState
from kinpay.charges.refund import REFUNDABLE, KnownRefund, give_back, open_refund, settle_refund
from kinpay.database.audit import record
from kinpay.database.pool import database_now
from kinpay.database.sql import Connection, Record, Sql
from kinpay.people.lock import lock_circle
from kinpay.primitives.ids import is_id, is_under
from kinpay.providers.contract import DebitState, ProviderRefund
from kinpay.recovery.lost import Booked, Objection

HAVE = Sql("SELECT EXISTS (SELECT FROM refund WHERE id = :key)")
CIRCLE = Sql("""
    SELECT circle_id FROM debit WHERE id = :debit_id AND provider_account_id = :account_id AND state = 'succeeded'
""")
# The charges of a debit with what may still go back of each; one that it gives back whole is the likeliest.
CHARGES = Sql("""
    SELECT cd.charge_id, cd.amount_minor - coalesce((SELECT sum(r.amount_minor) FROM refund r
                                                     WHERE r.debit_id = cd.debit_id AND r.charge_id = cd.charge_id
                                                       AND r.state <> 'failed'), 0)::bigint AS rest_minor
    FROM charge_debit cd WHERE cd.debit_id = :debit_id AND cd.circle_id = :circle_id
    ORDER BY 2 = :amount_minor DESC, cd.charge_id
""")
# Asked for by the same request, which was repeated while the lost one had no end at the provider yet.
REPEATED = Sql("""
    SELECT EXISTS (SELECT FROM refund WHERE debit_id = :debit_id AND right(id::text, 8) = right(:key::text, 8)
                   AND id <> :key::text::uuid AND state <> 'failed')
""")
# What was debited for a charge beyond what it captured, and is not on its way back yet.
SURPLUS = Sql("""
    SELECT coalesce(sum(cd.amount_minor), 0)::bigint - c.captured_minor + c.refunded_minor
           - coalesce((SELECT sum(r.amount_minor) FROM refund r WHERE r.charge_id = c.id AND r.state <> 'failed'), 0)::bigint
    FROM charge c JOIN charge_debit cd ON cd.charge_id = c.id AND cd.circle_id = c.circle_id
    JOIN debit d ON d.id = cd.debit_id AND d.state = 'succeeded'
    WHERE c.id = :charge_id GROUP BY c.id, c.captured_minor, c.refunded_minor
""")


async def book_lost_refund(conn: Connection, seen: ProviderRefund, *, account_id: str) -> Booked:
    """Writes the refund of a debit that is in our books, and settles it.

    On a connection that may write while the database is closed. Raises: Objection if it cannot be booked.
    """
    if not is_id(seen.key) or not is_id(seen.debit_key) or seen.state is not DebitState.SUCCEEDED:
        raise Objection("not_an_order_of_ours", frozenset())
    circle_id = await CIRCLE.value(conn, debit_id=seen.debit_key, account_id=account_id)
    if circle_id is None:
        raise Objection("debit_unknown", frozenset())
    await lock_circle(conn, circle_id)
    if await HAVE.value(conn, key=seen.key):
        await settle_refund(conn, seen.key, seen)
        return Booked()
    rows = await CHARGES.rows(conn, debit_id=seen.debit_key, circle_id=circle_id, amount_minor=seen.amount.minor)
    charge_id, doubt = _charge_of(rows, seen, circle_id)
    if await REPEATED.value(conn, debit_id=seen.debit_key, key=seen.key):
        doubt = "given back twice for one request"
    await _book(conn, charge_id, seen)
    await settle_refund(conn, seen.key, seen)
    return Booked(charge_ids=(charge_id,), doubt=doubt)


def _charge_of(rows: list[Record], seen: ProviderRefund, circle_id: str) -> tuple[str, str | None]:
    """Of which of a debit's charges it is: its id shows it. Where it does not, a guess, and the doubt about it."""
    shown = [row for row in rows if is_under(seen.key, row["charge_id"])]
    likely = rows if len(rows) == 1 else shown
    doubt = None if len(likely) == 1 else "of which charge is not known"
    for row in likely or rows:
        if row["rest_minor"] >= seen.amount.minor:
            return row["charge_id"], doubt
    raise Objection("more_than_is_left", frozenset({circle_id}))


async def _book(conn: Connection, charge_id: str, seen: ProviderRefund) -> None:
    circle, charge = await lock_charge(conn, charge_id)
    if charge.state is not ChargeState.SUCCEEDED:
        raise Objection(f"charge_{charge.state.value}", frozenset({circle.id}))
    now, amount_minor = await database_now(conn), seen.amount.minor
    if await SURPLUS.value(conn, charge_id=charge_id) >= amount_minor:
        debits = await REFUNDABLE.rows(conn, charge_id=charge_id)
        debit = next(row for row in debits if row["id"] == seen.debit_key)
        opened = await open_refund(
            conn, charge, debit, refund_id=seen.key, amount_minor=amount_minor, why="surplus", now=now
        )  # fmt: skip
        await record(conn, circle.id, opened, now=now)
        return
    if charge.debited_minor - charge.refunded_minor < amount_minor:
        raise Objection("more_than_is_left", frozenset({circle.id}))
    known = KnownRefund(seen.key, seen.debit_key)
    await give_back(conn, circle, charge, amount_minor=amount_minor, why="asked", actor_id=None, now=now, known=known)
