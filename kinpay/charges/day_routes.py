"""How daily debits are asked for."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request

from kinpay.charges.day_list import DayCharge, DayDebit, days_of_circle
from kinpay.database.pool import Database
from kinpay.primitives.actor import person_of
from kinpay.primitives.fields import Closed, Id


class DayChargeOut(Closed):
    """One charge of a day's debit; `fare_minor`: what a ride would have cost by itself."""

    charge_id: Id
    decided_at: datetime
    spender_id: Id
    merchant_id: Id
    merchant_name: str
    amount_minor: int
    fare_minor: int | None

    @classmethod
    def of(cls, charge: DayCharge) -> DayChargeOut:
        """As it is answered."""
        return cls(**{name: getattr(charge, name) for name in cls.model_fields})


class DayDebitOut(Closed):
    """One try to debit a day (`kind` arrears: once more), whole or a part below the provider's cap."""

    debit_id: Id
    day: date
    kind: Literal["daily", "arrears"]
    payer_id: Id
    agreement_id: Id
    currency: str
    amount_minor: int
    state: Literal["submitted", "succeeded", "failed"]
    created_at: datetime
    finished_at: datetime | None
    charges: list[DayChargeOut]

    @classmethod
    def of(cls, debit: DayDebit) -> DayDebitOut:
        """As it is answered."""
        same = {name: getattr(debit, name) for name in cls.model_fields if name not in ("debit_id", "charges")}
        return cls(debit_id=debit.id, charges=[DayChargeOut.of(one) for one in debit.charges], **same)


class DayDebitsOut(Closed):
    """A page, newest first; `after` of the next page, if there is one."""

    debits: list[DayDebitOut]
    after: Id | None


def router(db: Database) -> APIRouter:
    """The route of daily debits."""
    routes = APIRouter(prefix="/v1", tags=["charges"])

    @routes.get("/circles/{circle_id}/daily-debits")
    async def get_daily_debits(
        circle_id: Id, request: Request, after: Id | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 31
    ) -> DayDebitsOut:
        """What whole days were debited, each with its charges; to the circle's payers, approvers and viewers."""
        actor = person_of(request.state)
        async with db.connection() as conn:
            found = await days_of_circle(conn, circle_id, actor.id, after=after, limit=limit)
        following = found[-1].id if len(found) == limit else None
        return DayDebitsOut(debits=[DayDebitOut.of(one) for one in found], after=following)

    return routes
