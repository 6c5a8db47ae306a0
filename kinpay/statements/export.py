"""A month's charges one by one, as a spreadsheet reads them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final

from kinpay.database.pool import database_now
from kinpay.database.sql import Connection, Sql
from kinpay.primitives.clock import zone
from kinpay.primitives.errors import Invalid
from kinpay.primitives.money import shown_amount
from kinpay.primitives.spreadsheet import table
from kinpay.statements.statement import read_month
from kinpay.statements.store import CIRCLE, days_of, eras_of, seen_by
from kinpay.statements.sums import Day, late_between

MOST: Final = 50_000
"""Charges of one file; a circle with more in a month is asked for by its spenders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvLine:
    """A charge, or something late. `at`: the circle's wall clock; amounts in major units of `currency`."""

    at: str
    kind: str
    charge_id: str
    spender: str
    payer: str
    merchant: str
    category: str
    method: str
    state: str
    currency: str
    asked: str
    gross: str
    refunded: str
    net: str
    reference: str
    of_month: str


CLOSED_AT = Sql("SELECT closed_at FROM statement_month WHERE circle_id = :circle_id AND month = :month")
CHARGES = Sql("""
    SELECT c.decided_at AS at, c.id AS charge_id, s.display_name AS spender, coalesce(p.display_name, '') AS payer,
           m.name AS merchant, c.mcc, c.method, c.state, c.currency, c.amount_minor, coalesce(c.reference, '') AS reference,
           coalesce(d.gross_minor, 0)::bigint AS gross_minor, coalesce(r.refunded_minor, 0)::bigint AS refunded_minor
    FROM charge c
    JOIN person s ON s.id = c.spender_id LEFT JOIN person p ON p.id = c.payer_id JOIN merchant m ON m.id = c.merchant_id
    LEFT JOIN LATERAL (SELECT sum(cd.amount_minor) AS gross_minor FROM charge_debit cd JOIN debit x ON x.id = cd.debit_id
                       WHERE cd.charge_id = c.id AND x.state = 'succeeded' AND x.finished_at <= :as_of) d ON true
    LEFT JOIN LATERAL (SELECT sum(x.amount_minor) AS refunded_minor FROM refund x
                       WHERE x.charge_id = c.id AND x.created_at <= :as_of
                         AND NOT (x.state = 'failed' AND x.finished_at <= :as_of)) r ON true
    WHERE c.circle_id = :circle_id AND c.decided_at >= :starts AND c.decided_at < :ends
      AND (:spender_id::uuid IS NULL OR c.spender_id = :spender_id)
    ORDER BY c.decided_at, c.id LIMIT :most
""")
NAMED = Sql("""
    SELECT c.id, c.decided_at, c.method, c.state, coalesce(c.reference, '') AS reference, s.display_name AS spender,
           m.name AS merchant
    FROM charge c JOIN person s ON s.id = c.spender_id JOIN merchant m ON m.id = c.merchant_id
    WHERE c.circle_id = :circle_id AND c.id = ANY(:ids)
""")
PAYERS = Sql("SELECT id, display_name FROM person WHERE id = ANY(:ids)")


async def export_for(conn: Connection, person_id: str, *, circle_id: str, month: str) -> list[CsvLine]:
    """The month's charges as the person may see them, oldest first, and then what happened late.

    Amounts as they are now or, once the month was closed, as they were then: the same as in its statement.

    Raises: NotFound for a stranger; Invalid for what is no month, or too many charges for one file.
    """
    spender_id = await seen_by(conn, person_id, circle_id, month=month)
    circle = await CIRCLE.row(conn, circle_id=circle_id)
    assert circle is not None, "whoever is in a circle has one"
    time_zone = circle["time_zone"]
    first = read_month(month)
    as_of = await CLOSED_AT.value(conn, circle_id=circle_id, month=first)
    days = days_of(first, await eras_of(conn, circle_id, time_zone=time_zone))
    rows = await CHARGES.rows(
        conn,
        circle_id=circle_id,
        spender_id=spender_id,
        starts=days[0].starts,
        ends=days[-1].ends,
        as_of=as_of or await database_now(conn),
        most=MOST + 1,
    )
    if len(rows) > MOST:
        raise Invalid("too_many_charges", field="month", most=MOST)
    lines = [
        CsvLine(
            at=_wall(row["at"], time_zone),
            kind="charge",
            charge_id=row["charge_id"],
            spender=row["spender"],
            payer=row["payer"],
            merchant=row["merchant"],
            category=row["mcc"],
            method=row["method"],
            state=row["state"],
            currency=row["currency"],
            asked=shown_amount(row["amount_minor"], row["currency"]),
            gross=shown_amount(row["gross_minor"], row["currency"]),
            refunded=shown_amount(row["refunded_minor"], row["currency"]),
            net=shown_amount(row["gross_minor"] - row["refunded_minor"], row["currency"]),
            reference=row["reference"],
            of_month=month,
        )
        for row in rows
    ]
    return lines + await _late(conn, circle_id, days, spender_id=spender_id)


async def _late(conn: Connection, circle_id: str, days: list[Day], *, spender_id: str | None) -> list[CsvLine]:
    found = [late for late in await late_between(conn, circle_id, days) if spender_id in (None, late.spender_id)]
    named = {row["id"]: row for row in await NAMED.rows(conn, circle_id=circle_id, ids=[late.charge_id for late in found])}
    payers = {row["id"]: row["display_name"] for row in await PAYERS.rows(conn, ids=[late.payer_id for late in found])}
    lines = []
    for late in found:
        paid, charge = late.paid(), named[late.charge_id]
        lines.append(
            CsvLine(
                at=late.day.isoformat(),
                kind=late.kind.value,
                charge_id=late.charge_id,
                spender=charge["spender"],
                payer=payers[late.payer_id],
                merchant=charge["merchant"],
                category=late.mcc,
                method=charge["method"],
                state=charge["state"],
                currency=late.currency,
                asked="",
                gross=shown_amount(paid.gross_minor, late.currency),
                refunded=shown_amount(paid.refunded_minor, late.currency),
                net=shown_amount(paid.gross_minor - paid.refunded_minor, late.currency),
                reference=charge["reference"],
                of_month=late.month,
            )
        )
    return lines


def _wall(moment: datetime, time_zone: str) -> str:
    return moment.astimezone(zone(time_zone)).strftime("%Y-%m-%d %H:%M:%S")


_TEXT: Final = frozenset({"spender", "payer", "merchant", "reference"})
"""Cells that hold what somebody else wrote."""


def csv_text(lines: Iterable[CsvLine]) -> str:
    """As a spreadsheet reads it."""
    names = [one.name for one in fields(CsvLine)]
    return table(names, ([getattr(line, name) for name in names] for line in lines), foreign=_TEXT)
