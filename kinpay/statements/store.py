"""Where a statement's rows come from: set-based sums over the month's charges, debits and refunds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta

from kinpay.database.sql import Connection, Sql
from kinpay.people.store import member_roles
from kinpay.primitives.clock import Span
from kinpay.primitives.errors import NotFound
from kinpay.statements.statement import Era, Paid, Statement, Tally, Unpaid, day_starts, parts_of, read_month

_LOOKING_ROLES = frozenset({"payer", "approver", "viewer"})

CIRCLE = Sql("SELECT name, time_zone FROM circle WHERE id = :circle_id")
ERAS = Sql("SELECT since, time_zone FROM circle_zone WHERE circle_id = :circle_id ORDER BY since")


async def statement_for(conn: Connection, person_id: str, *, circle_id: str, month: str) -> Statement:
    """The statement as far as the person may see it: payers, approvers and viewers all of it, a spender their own lines.

    Raises: NotFound for anybody else; Invalid for what is no month.
    """
    read_month(month)
    roles = await member_roles(conn, circle_id, person_id)
    if not roles:
        raise NotFound()
    return await statement_of(conn, circle_id, month=month, spender_id=None if roles & _LOOKING_ROLES else person_id)


async def statement_of(conn: Connection, circle_id: str, *, month: str, spender_id: str | None = None) -> Statement:
    """What the month `YYYY-MM` came to for the circle, or for one of its spenders, as the books stand now.

    Raises: NotFound if there is no such circle; Invalid for what is no month.
    """
    first = read_month(month)
    circle = await CIRCLE.row(conn, circle_id=circle_id)
    if circle is None:
        raise NotFound()
    eras = [Era(row["since"], row["time_zone"]) for row in await ERAS.rows(conn, circle_id=circle_id)]
    starts = day_starts(first, eras or [Era(datetime.min.replace(tzinfo=UTC), circle["time_zone"])])
    paid = await _paid(conn, circle_id, first=first, starts=starts, spender_id=spender_id)
    unpaid = await _unpaid(conn, circle_id, starts=starts, spender_id=spender_id)
    names = await _names(conn, paid)
    return Statement(
        circle_id=circle_id,
        circle_name=circle["name"],
        month=month,
        time_zone=circle["time_zone"],
        span=Span(starts[0], starts[-1]),
        spender_id=spender_id,
        parts=parts_of(paid, unpaid, names=names),
    )


# Who was really debited: each part of a succeeded debit counts for its own payer, also after a fallback to another one.
# A refund belongs to the part that it gives back; what the provider refused to give back does not count.
# The day is found by the instants at which days begin on the circle's wall, so that no second list of zones is asked.
PAID = Sql("""
    WITH month AS (
        SELECT id, spender_id, merchant_id, mcc, currency, width_bucket(decided_at, :starts::timestamptz[]) AS day
        FROM charge
        WHERE circle_id = :circle_id AND decided_at >= :start AND decided_at < :end
          AND (:spender_id::uuid IS NULL OR spender_id = :spender_id)
    ), back AS (
        SELECT r.charge_id, r.debit_id, sum(r.amount_minor) AS amount_minor
        FROM refund r JOIN month m ON m.id = r.charge_id
        WHERE r.circle_id = :circle_id AND r.state <> 'failed'
        GROUP BY r.charge_id, r.debit_id
    ), part AS (
        SELECT m.currency, m.day, m.spender_id, d.payer_id, m.merchant_id, m.mcc, cd.amount_minor,
               coalesce(b.amount_minor, 0) AS refunded_minor,
               row_number() OVER (PARTITION BY m.id ORDER BY d.created_at, d.id) AS nth
        FROM month m
        JOIN charge_debit cd ON cd.charge_id = m.id
        JOIN debit d ON d.id = cd.debit_id AND d.circle_id = :circle_id AND d.state = 'succeeded'
        LEFT JOIN back b ON b.charge_id = m.id AND b.debit_id = d.id
    )
    SELECT currency, day, spender_id, payer_id, merchant_id, mcc, count(*) FILTER (WHERE nth = 1) AS charges,
           count(*) AS debits, sum(amount_minor)::bigint AS gross_minor, sum(refunded_minor)::bigint AS refunded_minor
    FROM part GROUP BY currency, day, spender_id, payer_id, merchant_id, mcc
""")


async def _paid(
    conn: Connection, circle_id: str, *, first: date, starts: Sequence[datetime], spender_id: str | None
) -> list[Paid]:
    rows = await PAID.rows(
        conn, circle_id=circle_id, spender_id=spender_id, starts=list(starts), start=starts[0], end=starts[-1]
    )
    return [Paid(**{**row, "day": first + timedelta(days=row["day"] - 1)}) for row in rows]


# What is owed stays owed while it is tried again.
UNPAID = Sql("""
    WITH month AS (
        SELECT currency, coalesce(captured_minor, amount_minor) AS amount_minor,
               CASE WHEN state = 'refused' THEN 'refused'
                    WHEN state = 'declined' THEN 'declined'
                    WHEN owed_since IS NOT NULL THEN 'owed'
                    WHEN state IN ('held', 'submitted') THEN 'pending' END AS what
        FROM charge
        WHERE circle_id = :circle_id AND decided_at >= :start AND decided_at < :end
          AND (:spender_id::uuid IS NULL OR spender_id = :spender_id)
    )
    SELECT currency, what, count(*) AS count, sum(amount_minor)::bigint AS amount_minor
    FROM month WHERE what IS NOT NULL GROUP BY currency, what
""")


async def _unpaid(conn: Connection, circle_id: str, *, starts: Sequence[datetime], spender_id: str | None) -> list[Unpaid]:
    rows = await UNPAID.rows(conn, circle_id=circle_id, spender_id=spender_id, start=starts[0], end=starts[-1])
    found: dict[str, dict[str, Tally]] = {}
    for row in rows:
        found.setdefault(row["currency"], {})[row["what"]] = Tally(row["count"], row["amount_minor"])
    every = ("refused", "declined", "owed", "pending")
    return [
        Unpaid(currency=currency, **{what: tallies.get(what, Tally()) for what in every}) for currency, tallies in found.items()
    ]


NAMES = Sql("""
    SELECT id, display_name AS name FROM person WHERE id = ANY(:ids)
    UNION ALL SELECT id, name FROM merchant WHERE id = ANY(:ids)
""")


async def _names(conn: Connection, paid: Iterable[Paid]) -> dict[str, str]:
    ids = {ident for row in paid for ident in (row.spender_id, row.payer_id, row.merchant_id)}
    return {row["id"]: row["name"] for row in await NAMES.rows(conn, ids=sorted(ids))} if ids else {}
