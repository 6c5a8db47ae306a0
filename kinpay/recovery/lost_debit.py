"""A debit that the provider has and a restored database does not know: booked from what the provider tells of it.

Its charge may be here, as it stood at the point that was restored, or may be lost with it.
Source: semantics.md "Charge" (late truth); reliability.md F26, §0.1.
"""

from __future__ import annotations

from kinpay.charges.books import write_debit
from kinpay.charges.charge import ChargeState
from kinpay.charges.description import Said, SaidPart, read_description
from kinpay.charges.settle import settle_debit
from kinpay.charges.store import read_charges
from kinpay.database.audit import record
from kinpay.database.pool import database_now
from kinpay.database.sql import Connection, Sql
from kinpay.people.lock import lock_circle
from kinpay.primitives.ids import is_id, new_id
from kinpay.providers.contract import DebitState, KnownDebit
from kinpay.recovery.known_charge import take_known
from kinpay.recovery.lost import Booked, LostDebit, Objection
from kinpay.recovery.lost_charge import find_charge, make_again
from kinpay.recovery.lost_day import book_day
from kinpay.recovery.unknown_seller import seller_of

AGREEMENT = Sql("""
    SELECT id, circle_id, operator_id, payer_id, currency FROM agreement
    WHERE provider_account_id = :account_id AND provider_ref = :provider_ref
""")
HAVE = Sql("SELECT EXISTS (SELECT FROM debit WHERE id = :key)")


async def book_lost_debit(conn: Connection, known: KnownDebit, *, account_id: str) -> Booked:
    """Writes the debit, and its charges if those are lost, too, and settles it by the one function for that.

    On a connection that may write while the database is closed. Raises: Objection if it cannot be booked.
    """
    key, amount = known.debit.key, known.debit.amount
    said = read_description(known.description)
    agreement = await AGREEMENT.row(conn, account_id=account_id, provider_ref=known.agreement_ref)
    if agreement is None:
        raise Objection("agreement_unknown", await _circles_of(conn, said))
    if not is_id(key) or agreement["currency"] != amount.currency or known.debit.state is not DebitState.SUCCEEDED:
        raise Objection("not_an_order_of_ours", frozenset({agreement["circle_id"]}))
    circle = await lock_circle(conn, agreement["circle_id"])
    if await HAVE.value(conn, key=key):
        await settle_debit(conn, key, known.debit)
        return Booked()
    lost = LostDebit(conn, circle, agreement, known, await database_now(conn))
    if said is not None and said.day is not None:
        booked = await book_day(lost, said, said.day)
    else:
        booked = await _book_one(lost, said)
    await settle_debit(conn, key, known.debit)
    return booked


async def _circles_of(conn: Connection, said: Said | None) -> frozenset[str] | None:
    """Whose money a debit on an agreement that is not here may be: of the charges that it names and that are here.

    Such an agreement was signed after the restored point. One of a charge that is not here either concerns nobody here.
    """
    if said is None or said.parts is None or any(part.charge_id is None for part in said.parts):
        return None
    charges = await read_charges(conn, [part.charge_id for part in said.parts if part.charge_id is not None])
    return frozenset(charge.circle_id for charge in charges.values())


async def _book_one(lost: LostDebit, said: Said | None) -> Booked:
    """The debit of one purchase: on its charge, if that is here, or on the one that its till made since by asking again."""
    amount_minor = lost.known.debit.amount.minor
    if said is not None and said.parts:
        part = said.parts[0]
    else:
        unknown = new_id()
        part = SaidPart(mark=unknown[-8:], charge_id=unknown)
    charge, doubt = await find_charge(lost, part), None
    kind = "charge"
    if charge is not None:
        kind = "arrears" if charge.state is ChargeState.ARREARS else "charge"
        await take_known(lost, charge, amount_minor=amount_minor, day=None)
    else:
        seller = await seller_of(lost.conn, lost.circle.operator_id, terminal_end=part.terminal_end, now=lost.now)
        charge = await make_again(lost, part, seller, amount_minor=amount_minor, day=None)
        doubt = None if seller.known else "seller not known"
    _, sent = await write_debit(
        lost.conn, [charge], kind=kind, now=lost.now, debit_id=lost.key, agreement_id=lost.agreement["id"]
    )
    await record(lost.conn, lost.circle.id, sent, now=lost.now)
    return Booked(charge_ids=(charge.id,), doubt=doubt)
