"""Statements told by hand, to a home whose clock goes along."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date, datetime

from kinpay.database.pool import database_now
from kinpay.primitives.money import Money
from kinpay.providers.contract import StatementLine
from kinpay.reconciliation.breaks import Break, Resolution
from kinpay.reconciliation.days import ready_at
from kinpay.reconciliation.reconcile_day import Reconciled, take_statement
from kinpay.reconciliation.resolve import breaks_of, resolve_break
from tests.statements.conftest import Home


def line(key: str, amount_minor: int, at: datetime) -> StatementLine:
    """A debit as a provider tells it."""
    return StatementLine(kind="debit", key=key, debit_key=None, amount=Money(amount_minor, "CNY"), finished_at=at)


async def told(*lines: StatementLine) -> AsyncIterator[StatementLine]:
    """A statement."""
    for one in lines:
        yield one


async def take(home: Home, day: date, *lines: StatementLine) -> Reconciled:
    """The statement of a day, when it can be had at the earliest."""
    if await home.value("SELECT kinpay_now()") < ready_at(day):
        await home.till.at(ready_at(day))
    return await take_statement(home.db, told(*lines), provider_account_id=home.till.shop.provider_account_id, day=day)


async def breaks(home: Home, state: str | None = "open") -> list[Break]:
    """The operator's breaks."""
    async with home.db.connection() as conn:
        return await breaks_of(conn, home.till.shop.operator_id, state=state, after=None, limit=1000)


async def pay(home: Home, at: str, amount_minor: int = 700) -> str:
    """A purchase at a moment of the family's wall, debited at once; the debit's key."""
    await home.at(at)
    charge = await home.till.pay(home.family, amount_minor)
    key: str = await home.value("SELECT debit_id FROM charge_debit WHERE charge_id = $1", charge.id)
    return key


async def resolve(home: Home, found: Break, resolution: Resolution) -> Break:
    """A person ends a break."""
    async with home.db.transaction() as conn:
        return await resolve_break(
            conn,
            operator_id=home.till.shop.operator_id,
            break_id=found.id,
            resolution=resolution,
            note="as they said",
            actor_id=home.family.payer_id,
            now=await database_now(conn),
        )
