"""A till in a test: charges decided by the real batch, debits settled by the real functions, the bank's word given by hand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kinpay.charges.batch import Batcher
from kinpay.charges.books import lock_charge
from kinpay.charges.charge import ChargeState
from kinpay.charges.refund import refund_charge, settle_refund
from kinpay.charges.request import Charge
from kinpay.charges.settle import Settlement, settle_debit
from kinpay.charges.store import read_charges
from kinpay.charges.submit import commit_debit, void_held
from kinpay.database.pool import Database, database_now
from kinpay.primitives.ids import new_id
from kinpay.primitives.money import Money
from kinpay.providers.contract import DebitState, Failure, FailureCause, ProviderDebit, ProviderRefund
from tests.charges.seeds import Family, Shop, asking
from tests.conftest import set_clock


@dataclass(frozen=True, slots=True)
class Till:
    """One terminal of `shop`, and the bank behind it."""

    db: Database
    batcher: Batcher
    shop: Shop

    async def at(self, moment: datetime) -> None:
        """Moves the clock."""
        async with self.db.connection() as conn:
            await set_clock(conn, moment)

    async def ask(self, family: Family, amount_minor: int, **changed: Any) -> Charge:
        """Authorises; approved or refused."""
        request = asking(self.shop, family, amount_minor=amount_minor, **changed)
        return (await self.batcher.authorize(request)).charge

    async def capture(self, charge: Charge, *, amount_minor: int | None = None, delivered: bool = False) -> str | None:
        """Commits the debit; its id, or None if the right to pay was gone."""
        async with self.db.transaction() as conn:
            return await commit_debit(
                conn, charge.id, amount_minor=amount_minor, delivered=delivered, actor_id=self.shop.terminal_id
            )

    async def says(self, debit_id: str, *, failure: FailureCause | None = None) -> Settlement:
        """The bank's final word about a debit."""
        async with self.db.transaction() as conn:
            row = await conn.fetchrow("SELECT amount_minor, currency FROM debit WHERE id = $1", debit_id)
            seen = ProviderDebit(
                key=debit_id,
                provider_ref=f"bank-{debit_id[-6:]}",
                state=DebitState.SUCCEEDED if failure is None else DebitState.FAILED,
                amount=Money(row["amount_minor"], row["currency"]),
                failure=None if failure is None else Failure(cause=failure, code=f"bank.{failure.value}"),
                finished_at=None,
            )
            return await settle_debit(conn, debit_id, seen)

    async def void(self, charge: Charge, *, reason: str) -> None:
        """Gives a held charge up."""
        async with self.db.transaction() as conn:
            circle, locked = await lock_charge(conn, charge.id)
            await void_held(conn, circle, locked, reason=reason, now=await database_now(conn))

    async def pay(self, family: Family, amount_minor: int, **changed: Any) -> Charge:
        """Asks and, if approved, captures at once and hears yes."""
        charge = await self.ask(family, amount_minor, capture=True, **changed)
        if charge.state is ChargeState.HELD:
            debit_id = await self.capture(charge)
            assert debit_id is not None
            await self.says(debit_id)
        async with self.db.connection() as conn:
            return (await read_charges(conn, [charge.id]))[charge.id]

    async def refund(self, charge: Charge, amount_minor: int, *, succeeded: bool = True) -> None:
        """Gives back, and hears yes or no."""
        async with self.db.transaction() as conn:
            refunds = await refund_charge(conn, charge.id, amount_minor=amount_minor, actor_id=self.shop.terminal_id)
        for refund_id in refunds:
            await self.says_of_refund(refund_id, succeeded=succeeded)

    async def says_of_refund(self, refund_id: str, *, succeeded: bool = True) -> None:
        """The bank's final word about a refund."""
        async with self.db.transaction() as conn:
            row = await conn.fetchrow("SELECT debit_id, amount_minor, currency FROM refund WHERE id = $1", refund_id)
            seen = ProviderRefund(
                key=refund_id,
                debit_key=row["debit_id"],
                provider_ref=f"bank-{refund_id[-6:]}",
                state=DebitState.SUCCEEDED if succeeded else DebitState.FAILED,
                amount=Money(row["amount_minor"], row["currency"]),
                failure=None if succeeded else Failure(cause=FailureCause.OTHER, code="bank.other"),
            )
            await settle_refund(conn, refund_id, seen)


async def add_person(conn: Any, shop: Shop, now: datetime, *, name: str, locale: str = "en", **changed: Any) -> str:
    """Writes a person; returns their id."""
    known = {"state": "active", "assisted": False, **changed}
    person_id = new_id()
    await conn.execute(
        "INSERT INTO person (id, operator_id, account, display_name, locale, birth_date, assisted, state, created_at)"
        " VALUES ($1, $2, 'p' || $1::uuid, $3, $4, '1980-01-01', $5, $6, $7)",
        person_id, shop.operator_id, name, locale, known["assisted"], known["state"], now,
    )  # fmt: skip
    return person_id


async def add_member(conn: Any, family: Family, person_id: str, role: str, now: datetime) -> None:
    """Writes a membership."""
    await conn.execute("INSERT INTO circle_member VALUES ($1, $2, $3, $4)", family.circle_id, person_id, role, now)
