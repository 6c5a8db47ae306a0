"""How settlements are asked for: by the operator's staff, and by merchants' back offices with the scope for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection
from kinpay.operators.act import Act, ActKind
from kinpay.operators.operator import merchant_name
from kinpay.operators.two_people import privileged
from kinpay.primitives.actor import Scope, staff_of, staff_or_key_of
from kinpay.primitives.fields import Closed, Currency, Day, Id, Note
from kinpay.primitives.money import shown_amount
from kinpay.primitives.spreadsheet import part, top
from kinpay.settlements.settlement import Line, Settlement
from kinpay.settlements.store import lines_of, note_paid, require_merchant, settlements_of, unpaid_day


class SettlementOut(Closed):
    """A merchant's closed day in one currency; amounts in minor units. `paid_at` null: not paid yet."""

    day: date
    currency: str
    captures: int
    captured_minor: int
    refunds: int
    refunded_minor: int
    net_minor: int
    closed_at: datetime
    reference: str | None
    paid_at: datetime | None

    @classmethod
    def of(cls, settlement: Settlement) -> SettlementOut:
        """As it is answered."""
        return cls(**{name: getattr(settlement, name) for name in cls.model_fields})


class SettlementsOut(Closed):
    """Newest first."""

    settlements: list[SettlementOut]


class SettlementLineOut(Closed):
    """One entry of the ledger; `amount_minor` above zero is for the merchant, below against it."""

    entry_id: Id
    at: datetime
    kind: str
    charge_id: Id
    terminal_name: str
    reference: str | None
    amount_minor: int

    @classmethod
    def of(cls, line: Line) -> SettlementLineOut:
        """As it is answered."""
        return cls(**{name: getattr(line, name) for name in cls.model_fields})


class SettlementLinesOut(Closed):
    """A page, in order; `after` of the next one, if there is one."""

    lines: list[SettlementLineOut]
    after: Id | None


class PaidIn(Closed):
    """The transfer by which a day was paid, as the operator's bank knows it."""

    currency: Currency
    reference: Note


def router(db: Database, *, lines_at_once: int = 5_000) -> APIRouter:
    """The routes of settlements. `lines_at_once`: how much of a table is in memory."""
    routes = APIRouter(prefix="/v1/merchants/{merchant_id}/settlements", tags=["settlements"])

    @routes.get("")
    async def get_settlements(
        request: Request, merchant_id: Id, before: Day | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 31
    ) -> SettlementsOut:
        """A merchant's closed days."""
        asker = staff_or_key_of(request.state, Scope.SETTLEMENTS_READ, "owner", "support")
        async with db.connection() as conn:
            await require_merchant(conn, merchant_id, asker=asker)
            found = await settlements_of(conn, merchant_id, before=before, limit=limit)
        return SettlementsOut(settlements=[SettlementOut.of(one) for one in found])

    @routes.get("/{day}/lines")
    async def get_lines(
        request: Request,
        merchant_id: Id,
        day: Day,
        currency: Currency = "CNY",
        after: Id | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 100,
    ) -> SettlementLinesOut:
        """What a closed day is made of."""
        asker = staff_or_key_of(request.state, Scope.SETTLEMENTS_READ, "owner", "support")
        async with db.connection() as conn:
            await require_merchant(conn, merchant_id, asker=asker)
            found = await lines_of(conn, merchant_id, day=day, currency=currency, after=after, limit=limit)
        following = found[-1].entry_id if len(found) == limit else None
        return SettlementLinesOut(lines=[SettlementLineOut.of(one) for one in found], after=following)

    @routes.get(
        "/{day}/lines.csv",
        response_class=Response,
        responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "One line an entry."}},
    )
    async def get_lines_csv(request: Request, merchant_id: Id, day: Day, currency: Currency = "CNY") -> Response:
        """The same as a spreadsheet reads it, all of it, however much that is."""
        asker = staff_or_key_of(request.state, Scope.SETTLEMENTS_READ, "owner", "support")
        async with db.connection() as conn:
            await require_merchant(conn, merchant_id, asker=asker)
            first = await lines_of(conn, merchant_id, day=day, currency=currency, after=None, limit=lines_at_once)

        async def told() -> AsyncIterator[str]:
            # A closed day never changes, so that its pages fit together; no connection is held while the asker reads.
            yield top(_COLUMNS)
            page = first
            while page:
                yield _csv(page, currency)
                if len(page) < lines_at_once:
                    return
                async with db.connection() as conn:
                    after = page[-1].entry_id
                    page = await lines_of(conn, merchant_id, day=day, currency=currency, after=after, limit=lines_at_once)

        head = {"Content-Disposition": f'attachment; filename="settlement-{day}.csv"'}
        return StreamingResponse(told(), media_type="text/csv; charset=utf-8", headers=head)

    @routes.post("/{day}/paid")
    async def post_paid(request: Request, merchant_id: Id, day: Day, body: PaidIn) -> SettlementOut:
        """Notes that a closed day was paid to the merchant. Takes two people where the operator asks for them."""
        asker = staff_of(request.state, "owner")

        async def judged(conn: Connection) -> Act:
            merchant = await merchant_name(conn, asker.operator_id, merchant_id)
            owed = await unpaid_day(conn, merchant_id, day=day, currency=body.currency)
            about = {"merchant_id": merchant_id, "merchant": merchant, "day": day.isoformat(), "amount_minor": owed.net_minor}
            return Act(ActKind.SETTLEMENT_PAY, about | body.model_dump(mode="json"))

        async with privileged(db, asker, judged) as conn:
            await require_merchant(conn, merchant_id, asker=asker)
            paid = await note_paid(
                conn,
                merchant_id,
                operator_id=asker.operator_id,
                day=day,
                currency=body.currency,
                reference=body.reference,
                actor_id=asker.id,
                now=await database_now(conn),
            )
        return SettlementOut.of(paid)

    return routes


_COLUMNS = ("at", "kind", "charge_id", "terminal", "reference", "currency", "amount")


def _csv(lines: list[Line], currency: str) -> str:
    rows = (
        (
            line.at.isoformat(),
            line.kind,
            line.charge_id,
            line.terminal_name,
            line.reference or "",
            currency,
            shown_amount(line.amount_minor, currency),
        )
        for line in lines
    )
    return part(_COLUMNS, rows, foreign={"terminal", "reference"})
