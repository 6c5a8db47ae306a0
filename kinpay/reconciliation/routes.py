"""How staff look at what was reconciled, and look after its breaks."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request

from kinpay.database.pool import Database, database_now
from kinpay.operators.act import Act, ActKind
from kinpay.operators.two_people import privileged
from kinpay.primitives.actor import staff_of
from kinpay.primitives.fields import Closed, Day, Id, Note
from kinpay.reconciliation.breaks import Break, Resolution
from kinpay.reconciliation.resolve import assign_break, breaks_of, days_of, open_break, resolve_break, told

_STAFF = ("owner", "support")


class SideOut(Closed):
    """What one side says of it; amounts in minor units. `state`: only of ours; `number`: the statement's line."""

    amount_minor: int
    currency: str
    debit_key: str | None = None
    state: str | None = None
    finished_at: str | None = None
    number: int | None = None


class LineOut(Closed):
    """A line of a provider's statement of `day`; amounts in minor units."""

    day: date
    number: int
    amount_minor: int
    currency: str
    debit_key: str | None
    finished_at: datetime


class BreakOut(Closed):
    """A difference between a provider's statement and our books, its owner and its end.

    `lines`: those that it stands for, at most 20 of `lines_told`.
    """

    break_id: Id
    provider_account_id: Id
    day: date
    what: Literal["missing", "orphan", "differing", "doubled"]
    kind: Literal["debit", "refund"]
    key: str
    ours: SideOut | None
    theirs: SideOut | None
    lines: list[LineOut]
    lines_told: int
    state: Literal["open", "resolved"]
    owner_id: Id | None
    resolution: Resolution | None
    note: str | None
    found_at: datetime
    resolved_at: datetime | None
    resolved_by: Id | None

    @classmethod
    def of(cls, found: Break) -> BreakOut:
        """As it is answered."""
        same: dict[str, Any] = {
            name: getattr(found, name)
            for name in cls.model_fields
            if name not in ("break_id", "what", "ours", "theirs", "lines")
        }
        ours = None if found.ours is None else SideOut(**found.ours)
        theirs = None if found.theirs is None else SideOut(**found.theirs)
        lines = [LineOut.model_validate(line, strict=False) for line in found.lines]
        return cls(break_id=found.id, what=found.what.value, ours=ours, theirs=theirs, lines=lines, **same)


class BreaksOut(Closed):
    """A page, newest first; `after` of the next one, if there is one."""

    breaks: list[BreakOut]
    after: Id | None


class ReconciledDayOut(Closed):
    """A provider account's day: its lines, how many agree, how many breaks were found, how many of them are open."""

    provider_account_id: Id
    day: date
    fetched_at: datetime
    lines: int
    matched: int
    breaks: int
    open: int


class ReconciledDaysOut(Closed):
    """Newest first."""

    days: list[ReconciledDayOut]


class OwnerIn(Closed):
    """Who of the staff looks after it."""

    owner_id: Id


class ResolutionIn(Closed):
    """What was done about it, and why."""

    resolution: Literal["booked", "given_back", "provider_corrected", "written_off", "explained"]
    note: Note


def router(db: Database) -> APIRouter:
    """The routes of reconciliation, for owners and support."""
    routes = APIRouter(prefix="/v1/reconciliation", tags=["reconciliation"])

    @routes.get("/days")
    async def get_days(
        request: Request, before: Day | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 31
    ) -> ReconciledDaysOut:
        """The providers' days that were reconciled."""
        asker = staff_of(request.state, *_STAFF)
        async with db.connection() as conn:
            rows = await days_of(conn, asker.operator_id, before=before, limit=limit)
        return ReconciledDaysOut(days=[ReconciledDayOut(**row) for row in rows])

    @routes.get("/breaks")
    async def get_breaks(
        request: Request,
        state: Literal["open", "resolved"] | None = None,
        after: Id | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 50,
    ) -> BreaksOut:
        """The operator's breaks."""
        asker = staff_of(request.state, *_STAFF)
        async with db.connection() as conn:
            found = await breaks_of(conn, asker.operator_id, state=state, after=after, limit=limit)
        following = found[-1].id if len(found) == limit else None
        return BreaksOut(breaks=[BreakOut.of(one) for one in found], after=following)

    @routes.put("/breaks/{break_id}/owner")
    async def put_owner(request: Request, break_id: Id, body: OwnerIn) -> BreakOut:
        """Gives a break to somebody."""
        asker = staff_of(request.state, *_STAFF)
        async with db.transaction() as conn:
            found = await assign_break(
                conn,
                operator_id=asker.operator_id,
                break_id=break_id,
                owner_id=body.owner_id,
                actor_id=asker.id,
                now=await database_now(conn),
            )
        return BreakOut.of(found)

    @routes.post("/breaks/{break_id}/resolve")
    async def post_resolve(request: Request, break_id: Id, body: ResolutionIn) -> BreakOut:
        """Ends a break: says what was done, and why. That takes two people where the operator asks for them."""
        asker = staff_of(request.state, *_STAFF)
        async with db.connection() as conn:
            shown = await open_break(conn, break_id, operator_id=asker.operator_id)
        act = Act(ActKind.BREAK_END, {"break_id": break_id, **body.model_dump(mode="json"), **told(shown)})
        async with privileged(db, asker, act) as conn:
            found = await resolve_break(
                conn,
                shown=shown,
                operator_id=asker.operator_id,
                break_id=break_id,
                resolution=Resolution(body.resolution),
                note=body.note,
                actor_id=asker.id,
                now=await database_now(conn),
            )
        return BreakOut.of(found)

    return routes
