"""What the bank's own books say of a campaign, against ours and against what tills asked for and were told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from kinpay.cli.demo.world import World
from tests.simulation.till import OVER, Asked, Card

TWICE = """
    SELECT right(id::text, 8) AS mark, count(*) AS charges FROM charge
    WHERE state IN ('due', 'submitted', 'succeeded', 'arrears') GROUP BY 1 HAVING count(*) > 1
"""
# A refund that was pending while its till repeated cannot be taken back: somebody is told to look.
LOOKED_AT = """
    SELECT refund.charge_id FROM refund JOIN recon_break b ON b.kind = 'refund' AND b.key = replace(refund.id::text, '-', '')
    WHERE b.state = 'open' AND b.note LIKE '%given back twice%'
"""


async def compare(conn: Any, world: World, asked: Sequence[Asked], cards: Sequence[Card] = ()) -> list[str]:
    """The bank's own debits and refunds against ours, and what tills were told against both."""
    return [
        *await _both_sides(conn, world),
        *await _told(conn, asked),
        *await _given_back(conn, asked),
        *await taken_too_much(conn, world, asked, cards),
    ]


async def _both_sides(conn: Any, world: World) -> list[str]:
    complaints = []
    for kind, theirs in (
        ("debit", await world.control.debits(world.bank_client_id)),
        ("refund", await world.control.refunds(world.bank_client_id)),
    ):
        bank = {one["key"]: one["amount_minor"] for one in theirs if one["state"] == "succeeded"}
        rows = await conn.fetch(f"SELECT id, amount_minor FROM {kind} WHERE state = 'succeeded'")
        ours = {row["id"]: row["amount_minor"] for row in rows}
        complaints += [f"{kind} {key} is only at the bank" for key in bank.keys() - ours.keys()]
        complaints += [f"{kind} {key} is only here" for key in ours.keys() - bank.keys()]
        complaints += [f"{kind} {key} differs" for key in ours.keys() & bank.keys() if ours[key] != bank[key]]
    return complaints


async def _told(conn: Any, asked: Sequence[Asked]) -> list[str]:
    complaints = []
    states = {row["id"]: row["state"] for row in await conn.fetch("SELECT id, state FROM charge")}
    told: dict[str, set[str]] = {}
    for one in asked:
        if one.problem == "no answer":
            complaints.append(f"no answer to a {one.what} under {one.key}")
        if one.charge_id is None or one.what == "hold":
            continue  # A hold that came after the point was lost, and nobody was debited for it.
        if one.state == "succeeded" and states.get(one.charge_id) != "succeeded":
            complaints.append(f"charge {one.charge_id}, told succeeded, is {states.get(one.charge_id)}")
        if one.what == "charge" and states.get(one.charge_id, "voided") not in OVER:
            told.setdefault(one.key, set()).add(one.charge_id)
    complaints += [f"request {key} made {len(charges)} charges" for key, charges in told.items() if len(charges) > 1]
    complaints += [f"{row['charges']} charges bear the mark {row['mark']}" for row in await conn.fetch(TWICE)]
    return complaints


async def _given_back(conn: Any, asked: Sequence[Asked]) -> list[str]:
    given = await conn.fetch(
        "SELECT charge_id, sum(amount_minor) AS minor FROM refund WHERE reason = 'asked' AND state = 'succeeded' GROUP BY 1"
    )
    looked_at = {row["charge_id"] for row in await conn.fetch(LOOKED_AT)}
    wanted: dict[str, int] = {}
    for one in {one.key: one for one in asked if one.what == "refund"}.values():
        wanted[one.subject] = wanted.get(one.subject, 0) + one.amount
    return [
        f"charge {row['charge_id']} gave back {row['minor']} instead of {wanted[row['charge_id']]}"
        for row in given
        if row["charge_id"] in wanted and row["minor"] > wanted[row["charge_id"]] and row["charge_id"] not in looked_at
    ]


async def taken_too_much(conn: Any, world: World, asked: Sequence[Asked], cards: Sequence[Card]) -> list[str]:
    """By the bank's books: no family's payers gave more in all than what tills wanted of its card, each request once."""
    over = {row["id"] for row in await conn.fetch("SELECT id FROM charge WHERE state = ANY($1)", OVER)}
    debits = [one for one in await world.control.debits(world.bank_client_id) if one["state"] == "succeeded"]
    logins = {one["key"]: one["login"] for one in debits}
    net: dict[str, int] = {}
    for one in debits:
        net[one["login"]] = net.get(one["login"], 0) + one["amount_minor"]
    for one in await world.control.refunds(world.bank_client_id):
        if one["state"] == "succeeded":
            net[logins[one["debit_key"]]] -= one["amount_minor"]
    complaints = []
    for card in cards:
        wanted = sum(_wanted(asked, card.code, over).values())
        taken = sum(net.get(payer, 0) for payer in card.payers)
        if taken > wanted:
            complaints.append(f"{taken} were debited for {', '.join(card.payers)}, and {wanted} wanted")
    return complaints


def _wanted(asked: Sequence[Asked], holder: str, over: set[str]) -> dict[str, int]:
    """The amount of each request that may have been debited, less what the tills gave back of it, by key."""
    wanted: dict[str, int] = {}
    for one in asked:
        if one.holder != holder or one.what == "hold":
            continue
        if one.what == "refund":
            if one.state is not None:
                wanted[one.key] = -one.amount
        elif one.charge_id is None or one.charge_id not in over:
            wanted[one.key] = one.amount
    return wanted


async def lost_at_bank(world: World, point: datetime) -> set[str]:
    """The debits that the bank carried out after the point, by key."""
    return {
        one["key"]
        for one in await world.control.debits(world.bank_client_id)
        if one["state"] == "succeeded" and datetime.fromisoformat(one["finished_at"]) > point
    }
