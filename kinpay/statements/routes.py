"""How a month's statement is asked for."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, Request

from kinpay.database.pool import Database
from kinpay.primitives.actor import person_of
from kinpay.primitives.fields import Closed, Id
from kinpay.statements.statement import Line, Part, Statement, Tally
from kinpay.statements.store import statement_for


class LineOut(Closed):
    """One row of a grouping; `key` is a person's or merchant's id, a category code or a date."""

    key: str
    name: str
    count: int
    gross_minor: int
    refunded_minor: int
    net_minor: int

    @classmethod
    def of(cls, line: Line) -> LineOut:
        """As it is answered."""
        return cls(**{name: getattr(line, name) for name in cls.model_fields})


class TotalOut(Closed):
    """All of the month in one currency."""

    count: int
    gross_minor: int
    refunded_minor: int
    net_minor: int


class TallyOut(Closed):
    """So many, and their sum."""

    count: int
    amount_minor: int

    @classmethod
    def of(cls, tally: Tally) -> TallyOut:
        """As it is answered."""
        return cls(count=tally.count, amount_minor=tally.amount_minor)


class PartOut(Closed):
    """The month in one currency; amounts in its minor units. Every grouping adds up to `total`."""

    currency: str
    total: TotalOut
    by_day: list[LineOut]
    by_spender: list[LineOut]
    by_payer: list[LineOut]
    by_merchant: list[LineOut]
    by_category: list[LineOut]
    refused: TallyOut
    declined: TallyOut
    owed: TallyOut
    pending: TallyOut

    @classmethod
    def of(cls, part: Part) -> PartOut:
        """As it is answered."""
        groups = ("by_day", "by_spender", "by_payer", "by_merchant", "by_category")
        tallies = ("refused", "declined", "owed", "pending")
        shown = {
            "currency": part.currency,
            "total": TotalOut(**{name: getattr(part.total, name) for name in TotalOut.model_fields}),
            **{group: [LineOut.of(line) for line in getattr(part, group)] for group in groups},
            **{name: TallyOut.of(getattr(part.unpaid, name)) for name in tallies},
        }
        return cls.model_validate(shown)


class StatementOut(Closed):
    """What a month came to, from `start` until before `end`; `spender_id`: only what this one spent."""

    circle_id: Id
    circle_name: str
    month: str
    time_zone: str
    start: datetime
    end: datetime
    spender_id: Id | None
    currencies: list[PartOut]

    @classmethod
    def of(cls, statement: Statement) -> StatementOut:
        """As it is answered."""
        return cls(
            circle_id=statement.circle_id,
            circle_name=statement.circle_name,
            month=statement.month,
            time_zone=statement.time_zone,
            start=statement.span.start,
            end=statement.span.end,
            spender_id=statement.spender_id,
            currencies=[PartOut.of(part) for part in statement.parts],
        )


def router(db: Database) -> APIRouter:
    """The route of statements."""
    routes = APIRouter(prefix="/v1", tags=["statements"])

    @routes.get("/circles/{circle_id}/statements/{month}")
    async def get_statement(circle_id: Id, month: str, request: Request) -> StatementOut:
        """What the month `YYYY-MM` came to, by the circle's clock; a spender sees what they spent themself."""
        actor = person_of(request.state)
        async with db.transaction() as conn:
            return StatementOut.of(await statement_for(conn, actor.id, circle_id=circle_id, month=month))

    return routes
