"""Whose goods a lost charge paid for; and the merchant that stands for nobody, where the terminal was lost, too."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from kinpay.database.audit import Event, record
from kinpay.database.sql import Connection, Sql
from kinpay.primitives.ids import new_id

NAME: Final = "Recovered, seller not known"
_MCC: Final = "0000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seller:
    """A terminal and its merchant; `known` False: they only stand for whoever it was."""

    merchant_id: str
    terminal_id: str
    mcc: str
    known: bool


BY_END = Sql("""
    SELECT t.id, t.merchant_id, m.mcc FROM terminal t JOIN merchant m ON m.id = t.merchant_id
    WHERE t.operator_id = :operator_id AND right(t.id::text, 8) = :terminal_end AND t.public_key IS NOT NULL
    LIMIT 2
""")
STAND_IN = Sql("""
    SELECT t.id, t.merchant_id, m.mcc FROM terminal t JOIN merchant m ON m.id = t.merchant_id
    WHERE m.operator_id = :operator_id AND m.name = :name AND m.mcc = :mcc ORDER BY m.created_at LIMIT 1
""")
MAKE_MERCHANT = Sql(
    "INSERT INTO merchant (id, operator_id, name, mcc, created_at) VALUES (:id, :operator_id, :name, :mcc, :now)"
)
MAKE_SITE = Sql("INSERT INTO site (id, merchant_id, name, created_at) VALUES (:id, :merchant_id, :name, :now)")
# Expected for ever, and without a code to install it: no device is it.
MAKE_TERMINAL = Sql("""
    INSERT INTO terminal (id, operator_id, merchant_id, site_id, name, kind, state, created_at)
    VALUES (:id, :operator_id, :merchant_id, :site_id, :name, 'till', 'expected', :now)
""")


async def seller_of(conn: Connection, operator_id: str, *, terminal_end: str | None, now: datetime) -> Seller:
    """The terminal whose id ends so, if there is just one; else the stand-in, which is made when it is first needed."""
    if terminal_end is not None:
        found = await BY_END.rows(conn, operator_id=operator_id, terminal_end=terminal_end)
        if len(found) == 1:
            return Seller(merchant_id=found[0]["merchant_id"], terminal_id=found[0]["id"], mcc=found[0]["mcc"], known=True)
    row = await STAND_IN.row(conn, operator_id=operator_id, name=NAME, mcc=_MCC)
    if row is not None:
        return Seller(merchant_id=row["merchant_id"], terminal_id=row["id"], mcc=row["mcc"], known=False)
    merchant_id, site_id, terminal_id = new_id(), new_id(), new_id()
    await MAKE_MERCHANT.run(conn, id=merchant_id, operator_id=operator_id, name=NAME, mcc=_MCC, now=now)
    await MAKE_SITE.run(conn, id=site_id, merchant_id=merchant_id, name=NAME, now=now)
    await MAKE_TERMINAL.run(
        conn, id=terminal_id, operator_id=operator_id, merchant_id=merchant_id, site_id=site_id, name=NAME, now=now
    )
    await record(conn, operator_id, Event("merchant.created", merchant_id, {"stands_for": "recovered"}), now=now)
    return Seller(merchant_id=merchant_id, terminal_id=terminal_id, mcc=_MCC, known=False)
