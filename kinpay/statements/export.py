"""A month's charges one by one, as a spreadsheet reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Final

from kinpay.database.pool import database_now
from kinpay.database.sql import Connection, Record, Sql
from kinpay.primitives.clock import zone
from kinpay.primitives.errors import Invalid
from kinpay.primitives.money import shown_amount
from kinpay.primitives.spreadsheet import table
from kinpay.statements.statement import Era, read_month, time_zone_at
from kinpay.statements.store import CIRCLE, Month, eras_of, month_rows, seen_by

MOST: Final = 50_000
"""Charges of one file; a circle with more in a month is asked for by its spenders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvLine:
    """A charge, or something late. `at`: the circle's wall clock, which was ahead of UTC by `utc_offset` then; of what is late,
    the day. Amounts in major units of `currency`.
    """

    at: str
    utc_offset: str
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


CHARGES = Sql("""
    SELECT c.decided_at AS at, c.id AS charge_id, c.spender_id, s.display_name AS spender, c.payer_id,
           coalesce(p.display_name, '') AS payer, c.merchant_id, m.name AS merchant, c.mcc, c.method, c.state, c.currency,
           c.amount_minor, coalesce(c.reference, '') AS reference, coalesce(d.gross_minor, 0)::bigint AS gross_minor,
           coalesce(r.refunded_minor, 0)::bigint AS refunded_minor
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
    SELECT c.id, c.method, c.state, coalesce(c.reference, '') AS reference, c.spender_id, s.display_name AS spender,
           c.merchant_id, m.name AS merchant
    FROM charge c JOIN person s ON s.id = c.spender_id JOIN merchant m ON m.id = c.merchant_id
    WHERE c.circle_id = :circle_id AND c.id = ANY(:ids)
""")
PAYERS = Sql("SELECT id, display_name FROM person WHERE id = ANY(:ids)")


async def export_for(conn: Connection, person_id: str, *, circle_id: str, month: str) -> list[CsvLine]:
    """The month's charges as the person may see them, oldest first, and then what happened late.

    Amounts, states and names as they are now or, once the month was closed, as they were then: the same as in its statement.
    (States of what came late are as of now.)

    Raises: NotFound for a stranger; Invalid for what is no month, or too many charges for one file.
    """
    spender_id = await seen_by(conn, person_id, circle_id, month=month)
    circle = await CIRCLE.row(conn, circle_id=circle_id)
    assert circle is not None, "whoever is in a circle has one"
    first = read_month(month)
    eras = await eras_of(conn, circle_id, time_zone=circle["time_zone"])
    kept = await month_rows(conn, circle_id, first, eras=eras)
    rows = await CHARGES.rows(
        conn,
        circle_id=circle_id,
        spender_id=spender_id,
        starts=kept.span.start,
        ends=kept.span.end,
        as_of=kept.closed_at or await database_now(conn),
        most=MOST + 1,
    )
    if len(rows) > MOST:
        raise Invalid("too_many_charges", field="month", most=MOST)
    lines = [_line(row, kept, month, eras) for row in rows]
    return lines + await _late(conn, circle_id, kept, spender_id=spender_id)


def _line(row: Record, kept: Month, month: str, eras: Sequence[Era]) -> CsvLine:
    wall = row["at"].astimezone(zone(time_zone_at(row["at"], eras)))
    currency = row["currency"]
    return CsvLine(
        at=f"{wall:%Y-%m-%d %H:%M:%S}",
        utc_offset=wall.isoformat(timespec="seconds")[19:],
        kind="charge",
        charge_id=row["charge_id"],
        spender=kept.names.get(row["spender_id"], row["spender"]),
        payer=kept.names.get(row["payer_id"], row["payer"]),
        merchant=kept.names.get(row["merchant_id"], row["merchant"]),
        category=row["mcc"],
        method=row["method"],
        state=_state(row, kept),
        currency=currency,
        asked=shown_amount(row["amount_minor"], currency),
        gross=shown_amount(row["gross_minor"], currency),
        refunded=shown_amount(row["refunded_minor"], currency),
        net=shown_amount(row["gross_minor"] - row["refunded_minor"], currency),
        reference=row["reference"],
        of_month=month,
    )


def _state(row: Record, kept: Month) -> str:
    """As it is; of a closed month, as it was: whatever had neither succeeded nor been refused is kept there."""
    return kept.states.get(row["charge_id"], row["state"])


async def _late(conn: Connection, circle_id: str, kept: Month, *, spender_id: str | None) -> list[CsvLine]:
    found = kept.rows.of_spender(spender_id).late
    named = {row["id"]: row for row in await NAMED.rows(conn, circle_id=circle_id, ids=[late.charge_id for late in found])}
    payers = {row["id"]: row["display_name"] for row in await PAYERS.rows(conn, ids=[late.payer_id for late in found])}
    lines = []
    for late in found:
        paid, charge = late.paid(), named[late.charge_id]
        lines.append(
            CsvLine(
                at=late.day.isoformat(),
                utc_offset="",
                kind=late.kind.value,
                charge_id=late.charge_id,
                spender=kept.names.get(late.spender_id, charge["spender"]),
                payer=kept.names.get(late.payer_id, payers[late.payer_id]),
                merchant=kept.names.get(late.merchant_id, charge["merchant"]),
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


_TEXT: Final = frozenset({"spender", "payer", "merchant", "reference"})
"""Cells that hold what somebody else wrote."""


def csv_text(lines: Iterable[CsvLine]) -> str:
    """As a spreadsheet reads it."""
    names = [one.name for one in fields(CsvLine)]
    return table(names, ([getattr(line, name) for name in names] for line in lines), foreign=_TEXT)
