"""What a month came to, read: closed months as they were kept, other days from their sums or, without these, summed now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from kinpay.database.sql import Connection, Sql
from kinpay.people.store import member_roles
from kinpay.primitives.clock import Span
from kinpay.primitives.errors import NotFound
from kinpay.statements.kept import read_late, read_paid, read_unpaid
from kinpay.statements.statement import Era, Paid, Rows, Statement, day_starts, following, parts_of, preceding, read_month
from kinpay.statements.sums import Day, late_between, sum_days

_LOOKING_ROLES = frozenset({"payer", "approver", "viewer"})

CIRCLE = Sql("SELECT name, time_zone FROM circle WHERE id = :circle_id")
ERAS = Sql("SELECT since, time_zone FROM circle_zone WHERE circle_id = :circle_id ORDER BY since")


async def statement_for(conn: Connection, person_id: str, *, circle_id: str, month: str) -> Statement:
    """The statement as far as the person may see it: payers, approvers and viewers all of it, a spender their own lines.

    Raises: NotFound for anybody else; Invalid for what is no month.
    """
    return await statement_of(conn, circle_id, month=month, spender_id=await seen_by(conn, person_id, circle_id, month=month))


async def seen_by(conn: Connection, person_id: str, circle_id: str, *, month: str) -> str | None:
    """Whose lines of a circle's month the person may see: None for everybody's, else their own.

    Raises: NotFound for a stranger; Invalid for what is no month.
    """
    read_month(month)
    roles = await member_roles(conn, circle_id, person_id)
    if not roles:
        raise NotFound()
    return None if roles & _LOOKING_ROLES else person_id


async def statement_of(conn: Connection, circle_id: str, *, month: str, spender_id: str | None = None) -> Statement:
    """What the month `YYYY-MM` came to for the circle, or for one of its spenders, beside the month before.

    Raises: NotFound if there is no such circle; Invalid for what is no month.
    """
    first = read_month(month)
    circle = await CIRCLE.row(conn, circle_id=circle_id)
    if circle is None:
        raise NotFound()
    eras = await eras_of(conn, circle_id, time_zone=circle["time_zone"])
    now = await month_rows(conn, circle_id, first, eras=eras)
    before = await month_rows(conn, circle_id, preceding(first), eras=eras)
    rows, earlier = now.rows.of_spender(spender_id), before.rows.of_spender(spender_id)
    names = {**await _names(conn, [*rows.moved, *earlier.moved]), **now.names}
    return Statement(
        circle_id=circle_id,
        circle_name=names.get(circle_id, circle["name"]),
        month=month,
        time_zone=now.time_zone or circle["time_zone"],
        span=now.span,
        spender_id=spender_id,
        parts=parts_of(rows, earlier, names=names),
        closed_at=now.closed_at,
        hash=now.hash,
    )


async def eras_of(conn: Connection, circle_id: str, *, time_zone: str) -> list[Era]:
    """The time zones that the circle has had, in order; `time_zone` if nothing else is known."""
    eras = [Era(row["since"], row["time_zone"]) for row in await ERAS.rows(conn, circle_id=circle_id)]
    return eras or [Era(datetime.min.replace(tzinfo=UTC), time_zone)]


@dataclass(frozen=True, slots=True)
class Month:
    """A month's rows; `closed_at` and `hash` if they are final.

    A closed one keeps what is shown beside its figures, too: names by id, the wall's zone, and the states of charges that had
    neither succeeded nor been refused.
    """

    span: Span
    rows: Rows
    closed_at: datetime | None = None
    hash: str | None = None
    time_zone: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)


CLOSED = Sql("""
    SELECT starts, ends, closed_at, paid, unpaid, late, hash, time_zone, coalesce(names, '{}') AS names,
           coalesce(states, '{}') AS states
    FROM statement_month
    WHERE circle_id = :circle_id AND month = :month
""")


async def month_rows(conn: Connection, circle_id: str, first: date, *, eras: Sequence[Era]) -> Month:
    """The rows of the month that begins with `first`."""
    row = await CLOSED.row(conn, circle_id=circle_id, month=first)
    if row is not None:
        rows = Rows(read_paid(row["paid"]), read_unpaid(row["unpaid"]), read_late(row["late"]))
        return Month(
            span=Span(row["starts"], row["ends"]),
            rows=rows,
            closed_at=row["closed_at"],
            hash=row["hash"].hex(),
            time_zone=row["time_zone"],
            names=row["names"],
            states=row["states"],
        )
    days = days_of(first, eras)
    rows = await _open_rows(conn, circle_id, days)
    return Month(Span(days[0].starts, days[-1].ends), rows)


def days_of(first: date, eras: Sequence[Era]) -> list[Day]:
    """The days of a month on the circle's wall, each with its first instant and that of the next."""
    starts = day_starts(first, eras)
    return [Day(first + timedelta(days=at), starts[at], starts[at + 1]) for at in range((following(first) - first).days)]


ROLLED = Sql("""
    SELECT day, starts, ends, paid, unpaid FROM rolled_day
    WHERE circle_id = :circle_id AND day >= :first AND day <= :last ORDER BY day
""")


async def _open_rows(conn: Connection, circle_id: str, days: Sequence[Day]) -> Rows:
    """Days that were summed up are read, as long as the wall has not been changed under them; the others are summed now."""
    rows, summed = Rows(), set()
    for row in await ROLLED.rows(conn, circle_id=circle_id, first=days[0].day, last=days[-1].day):
        day = Day(row["day"], row["starts"], row["ends"])
        if day in days:
            summed.add(day)
            rows += Rows(read_paid(row["paid"]), read_unpaid(row["unpaid"]))
    rows += await sum_days(conn, circle_id, [day for day in days if day not in summed])
    return rows + Rows(late=tuple(await late_between(conn, circle_id, days)))


NAMES = Sql("""
    SELECT id, display_name AS name FROM person WHERE id = ANY(:ids)
    UNION ALL SELECT id, name FROM merchant WHERE id = ANY(:ids)
""")


async def _names(conn: Connection, told: Sequence[Paid]) -> dict[str, str]:
    ids = {ident for row in told for ident in (row.spender_id, row.payer_id, row.merchant_id)}
    return {row["id"]: row["name"] for row in await NAMES.rows(conn, ids=sorted(ids))} if ids else {}
