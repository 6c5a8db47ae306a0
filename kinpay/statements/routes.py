"""How a month's statement is asked for."""

from __future__ import annotations

from datetime import date, datetime

from fastapi import APIRouter, Request, Response

from kinpay.database.pool import Database
from kinpay.primitives.actor import person_of
from kinpay.primitives.fields import Closed, Id
from kinpay.statements.export import csv_text, export_for
from kinpay.statements.statement import Late, LateKind, Line, Part, Statement, Tally
from kinpay.statements.store import statement_for


class LineOut(Closed):
    """One row of a grouping; `key` is a person's or merchant's id, a category code or a date.

    `before_net_minor`: the net of the same line in the month before (of a day: always 0).
    """

    key: str
    name: str
    count: int
    gross_minor: int
    refunded_minor: int
    net_minor: int
    before_net_minor: int

    @classmethod
    def of(cls, line: Line) -> LineOut:
        """As it is answered."""
        return cls(**{name: getattr(line, name) for name in cls.model_fields})


class TotalOut(Closed):
    """All of the month in one currency; `before_net_minor`: the net of the month before."""

    count: int
    gross_minor: int
    refunded_minor: int
    net_minor: int
    before_net_minor: int


class LateOut(Closed):
    """Something that happened in this month to a charge of a month that was closed already; it is in the figures above."""

    kind: LateKind
    charge_id: Id
    month: str
    day: date
    amount_minor: int

    @classmethod
    def of(cls, late: Late) -> LateOut:
        """As it is answered."""
        return cls(**{name: getattr(late, name) for name in cls.model_fields})


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
    late: list[LateOut]

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
            "late": [LateOut.of(late) for late in part.late],
        }
        return cls.model_validate(shown)


class StatementOut(Closed):
    """What a month came to, from `start` until before `end`; `spender_id`: only what this one spent.

    `closed_at`: since then its figures are final, and `hash` (64 hexadecimal digits) is what the audit log holds of them; null
    while they may still change.
    """

    circle_id: Id
    circle_name: str
    month: str
    time_zone: str
    start: datetime
    end: datetime
    spender_id: Id | None
    closed_at: datetime | None
    hash: str | None
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
            closed_at=statement.closed_at,
            hash=statement.hash,
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

    @routes.get(
        "/circles/{circle_id}/statements/{month}/charges.csv",
        response_class=Response,
        responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "One line a charge."}},
    )
    async def get_charges_csv(circle_id: Id, month: str, request: Request) -> Response:
        """Every charge of the month `YYYY-MM`, and what happened late, one by one, as a spreadsheet reads it."""
        actor = person_of(request.state)
        async with db.transaction() as conn:
            lines = await export_for(conn, actor.id, circle_id=circle_id, month=month)
        name = f"kinpay-{month}.csv"
        head = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(csv_text(lines), media_type="text/csv; charset=utf-8", headers=head)

    return routes
