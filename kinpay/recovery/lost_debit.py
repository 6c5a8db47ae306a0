"""A debit that the provider has and a restored database does not know: booked from what the provider tells of it.

Its charge may be here, as it stood at the point that was restored, or may be lost with it. A lost one is made again under its
own id, at its own moment and in its own windows, but is not judged by limits: it is late truth.
Source: semantics.md "Charge" (late truth); reliability.md F26, §0.1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from kinpay.charges.books import move_charge, write_debit
from kinpay.charges.charge import ChargeEvent, ChargeState
from kinpay.charges.daily import freeze
from kinpay.charges.request import Charge
from kinpay.charges.rolled import unroll
from kinpay.charges.settle import settle_debit
from kinpay.charges.store import CHARGE_COLUMNS, charge_of, read_charges
from kinpay.charges.usage import change_usage, count_late
from kinpay.database.audit import Event, record
from kinpay.database.pool import database_now
from kinpay.database.sql import Connection, Record, Sql
from kinpay.people.lock import LockedCircle, lock_circle
from kinpay.primitives.ids import is_id, new_id
from kinpay.providers.contract import DebitState, KnownDebit
from kinpay.recovery.unknown_seller import Seller, seller_of

_DESCRIPTION = re.compile(r"kinpay (?:(?P<day>\d{4}-\d\d-\d\d)|(?P<charge>[0-9a-f]{32}) (?P<terminal>[0-9a-f]{8}))")
_BETWEEN: Final = timedelta(days=31)
"""How much earlier than its debit a charge may have been decided: the longest hold, and some arrears."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """What came of one. `objection`: why it cannot be booked; nothing was written then. `seller_known` False: of whom the goods
    were is not known, so the money stands with the merchant that stands for nobody.
    """

    objection: str | None = None
    charge_ids: tuple[str, ...] = ()
    seller_known: bool = True


AGREEMENT = Sql("""
    SELECT id, circle_id, operator_id, payer_id, currency FROM agreement
    WHERE provider_account_id = :account_id AND provider_ref = :provider_ref
""")
HAVE = Sql("SELECT EXISTS (SELECT FROM debit WHERE id = :key)")


async def book_lost_debit(conn: Connection, known: KnownDebit, *, account_id: str) -> Booked:
    """Writes the debit, and its charge if that is lost, too, and settles it by the one function for that.

    On a connection that may write while the database is closed.
    """
    key, amount = known.debit.key, known.debit.amount
    agreement = await AGREEMENT.row(conn, account_id=account_id, provider_ref=known.agreement_ref)
    if agreement is None:
        return Booked(objection="agreement_unknown")
    if not is_id(key) or agreement["currency"] != amount.currency or known.debit.state is not DebitState.SUCCEEDED:
        return Booked(objection="not_an_order_of_ours")
    circle = await lock_circle(conn, agreement["circle_id"])
    if await HAVE.value(conn, key=key):
        await settle_debit(conn, key, known.debit)
        return Booked()
    lost = _Lost(conn, circle, agreement, known, now=await database_now(conn))
    booked = await lost.book()
    if booked.objection is None:
        await settle_debit(conn, key, known.debit)
    return booked


DUE = Sql(f"""
    SELECT {CHARGE_COLUMNS} FROM charge
    WHERE circle_id = :circle_id AND agreement_id = :agreement_id AND due_on = :day AND state = 'due'
    ORDER BY decided_at, id FOR UPDATE
""")
INSERT_CHARGE = Sql("""
    INSERT INTO charge (id, circle_id, seq, operator_id, merchant_id, terminal_id, spender_id, mandate_id, mandate_version,
                        agreement_id, payer_id, method, mcc, currency, amount_minor, captured_minor, state, capture_at_once,
                        delivered, late, decided_at)
    VALUES (:id, :circle_id, :seq, :operator_id, :merchant_id, :terminal_id, :spender_id, :mandate_id, :mandate_version,
            :agreement_id, :payer_id, :method, :mcc, :currency, :amount_minor, :amount_minor, 'submitted', true, true, true,
            :decided_at)
""")
NEXT_SEQ = Sql("UPDATE audit_lane SET charge_seq = charge_seq + 1 WHERE id = :circle_id RETURNING charge_seq")
NOTE = Sql("""
    INSERT INTO recovered_charge (charge_id, circle_id, debit_id, mark, recovered_at)
    VALUES (:charge_id, :circle_id, :debit_id, :mark, :now)
""")
# The spender as the provider knows them; where it was told none, the only one whose mandate this agreement funds.
MANDATE = Sql("""
    WITH mine AS (
        SELECT m.id, m.version, m.spender_id, m.state <> 'ended' AS open, m.created_at,
               EXISTS (SELECT FROM settlement_rule s WHERE s.mandate_id = m.id AND :agreement_id::uuid = ANY(s.agreement_ids))
               AS funded
        FROM mandate m WHERE m.circle_id = :circle_id AND m.payer_id = :payer_id
    )
    SELECT id, version, spender_id FROM mine
    WHERE CASE WHEN :spender_id::uuid IS NULL THEN funded AND (SELECT count(DISTINCT spender_id) FROM mine WHERE funded) = 1
               ELSE spender_id = :spender_id END
    ORDER BY open DESC, funded DESC, created_at DESC LIMIT 1
""")


class _Lost:
    """One lost debit, under the lock of its circle."""

    def __init__(self, conn: Connection, circle: LockedCircle, agreement: Record, known: KnownDebit, *, now: datetime) -> None:
        self._conn = conn
        self._circle = circle
        self._agreement = agreement
        self._known = known
        self._now = now
        self._key, self._amount = known.debit.key, known.debit.amount

    async def book(self) -> Booked:
        """Finds the charge by what the provider was told, or makes it again."""
        said = _DESCRIPTION.fullmatch(self._known.description)
        if said is not None and said["day"]:
            return await self._day(date.fromisoformat(said["day"]))
        charge_id = said["charge"] if said is not None else new_id()
        found = (await read_charges(self._conn, [charge_id])).get(charge_id)
        if found is not None:
            return await self._attach(found)
        seller = await seller_of(
            self._conn, self._circle.operator_id, terminal_end=said["terminal"] if said is not None else None, now=self._now
        )
        charge = await self._make(charge_id, self._amount.minor, seller)
        if charge is None:
            return Booked(objection="mandate_unknown")
        await self._write([charge], kind="charge")
        return Booked(charge_ids=(charge.id,), seller_known=seller.known)

    async def _attach(self, charge: Charge) -> Booked:
        """The charge was made before the point that was restored; what became of it afterwards was lost."""
        if charge.circle_id != self._circle.id or charge.payer_id != self._agreement["payer_id"]:
            return Booked(objection="another_payer")
        was, held = charge.state, charge.taken
        fits = self._amount.minor == charge.debited_minor
        events: list[Event] = []
        charge.agreement_id = self._agreement["id"]
        if was is ChargeState.HELD and self._amount.minor <= charge.amount_minor:
            charge.captured_minor, charge.delivered = self._amount.minor, True
            if charge.taken != held:
                await change_usage(self._conn, charge, before=held, after=charge.taken)
            events.append(await move_charge(self._conn, charge, ChargeEvent.SUBMIT, now=self._now, recovered=True))
        elif was is ChargeState.ARREARS and fits:
            events.append(await move_charge(self._conn, charge, ChargeEvent.RETRY, now=self._now, recovered=True))
        elif was not in (ChargeState.SUBMITTED, ChargeState.SUCCEEDED) or not fits:
            return Booked(objection=f"charge_{was.value}")
        await record(self._conn, self._circle.id, *events, now=self._now)
        await self._write([charge], kind="arrears" if was is ChargeState.ARREARS else "charge")
        return Booked(charge_ids=(charge.id,))

    async def _day(self, day: date) -> Booked:
        """A day's debit: what was due here then, and one more charge for whatever of it was lost."""
        rows = await DUE.rows(self._conn, circle_id=self._circle.id, agreement_id=self._agreement["id"], day=day)
        due = _fitting([charge_of(row) for row in rows], self._amount.minor)
        if due is None:
            return Booked(objection="day_differs")
        rest_minor = self._amount.minor - sum(charge.debited_minor for charge in due)
        more: list[Charge] = []
        seller = await seller_of(self._conn, self._circle.operator_id, terminal_end=None, now=self._now) if rest_minor else None
        if seller is not None:
            made = await self._make(new_id(), rest_minor, seller)
            if made is None:
                return Booked(objection="mandate_unknown")
            more.append(made)
        await freeze(self._conn, due, day=day, now=self._now, more=more, debit_id=self._key)
        return Booked(charge_ids=tuple(charge.id for charge in [*due, *more]), seller_known=not more)

    async def _write(self, charges: Sequence[Charge], *, kind: str) -> None:
        _, sent = await write_debit(self._conn, charges, kind=kind, now=self._now, debit_id=self._key)
        await record(self._conn, self._circle.id, sent, now=self._now)

    async def _make(self, charge_id: str, amount_minor: int, seller: Seller) -> Charge | None:
        """Makes a lost charge again, submitted and counted in its own windows; None if nobody knows whose it was."""
        spender_id = self._known.spender_ref if is_id(self._known.spender_ref) else None
        mandate = await MANDATE.row(
            self._conn,
            circle_id=self._circle.id,
            payer_id=self._agreement["payer_id"],
            agreement_id=self._agreement["id"],
            spender_id=spender_id,
        )
        if mandate is None:
            return None
        named: dict[str, Any] = {
            "merchant_id": seller.merchant_id,
            "terminal_id": seller.terminal_id,
            "spender_id": mandate["spender_id"],
            "mandate_id": mandate["id"],
            "mandate_version": mandate["version"],
            "agreement_id": self._agreement["id"],
            "payer_id": self._agreement["payer_id"],
            "method": "pay_code",
            "mcc": seller.mcc,
            "currency": self._amount.currency,
            "amount_minor": amount_minor,
        }
        decided_at = _moment_of(charge_id, self._known.debit.finished_at, now=self._now)
        seq = await NEXT_SEQ.value(self._conn, circle_id=self._circle.id)
        about = {"circle_id": self._circle.id, "operator_id": self._circle.operator_id, "decided_at": decided_at}
        await INSERT_CHARGE.run(self._conn, id=charge_id, seq=seq, **about, **named)
        charge = (await read_charges(self._conn, [charge_id]))[charge_id]
        await count_late(self._conn, self._circle, charge, now=self._now)
        await unroll(self._conn, charge, now=self._now)
        kept = {"circle_id": self._circle.id, "debit_id": self._key, "mark": charge_id[-8:], "now": self._now}
        await NOTE.run(self._conn, charge_id=charge_id, **kept)
        state = {"state": "submitted", "captured_minor": amount_minor, "delivered": True, "late": True, "capture_at_once": True}
        body = {**named, **state, "decided_at": decided_at.isoformat(), "debit_id": self._key}
        await record(self._conn, self._circle.id, Event("charge.recovered", charge_id, body), now=self._now)
        return charge


def _fitting(due: list[Charge], amount_minor: int) -> list[Charge] | None:
    """The charges of a day that a debit of this amount is for, oldest first; None if no first so many come to it.

    Less than the amount in all is well: the rest was lost. A day above a provider's cap was cut in several debits.
    """
    if sum(charge.debited_minor for charge in due) <= amount_minor:
        return due
    chosen, total = [], 0
    for charge in due:
        chosen.append(charge)
        total += charge.debited_minor
        if total == amount_minor:
            return chosen
    return None


def _moment_of(charge_id: str, finished_at: datetime | None, *, now: datetime) -> datetime:
    """When the charge was decided: its id was made then, to the millisecond. Else when the provider was done."""
    latest = min(finished_at or now, now)
    made_at = datetime.fromtimestamp(int(charge_id[:12], 16) / 1000, UTC)
    return made_at if latest - _BETWEEN <= made_at <= latest else latest
