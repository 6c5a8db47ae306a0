"""What must hold of a family at any moment: sums, ledger and what the provider did; each by naive means."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from kinpay.charges.charge import ChargeState
from kinpay.charges.request import Charge
from kinpay.database.pool import Database
from kinpay.providers.contract import DebitState
from tests.charges.household import Household, net_of
from tests.charges.oracle import Bound, World, selects, used, used_at
from tests.charges.scripted import ScriptedBank
from tests.charges.walls import Per, per, window_of


async def sums_are_right(db: Database, home: Household, world: World, pool_id: str) -> None:
    """Every usage row is the naive sum over the charges of its window, and no window is missing."""
    async with db.connection() as conn:
        rows = await conn.fetch(
            "SELECT c.scope, c.scope_id, c.period, c.refunds, c.filter, u.window_start, u.window_end, u.amount_minor, u.count,"
            " c.id FROM counter c JOIN usage u ON u.counter_id = c.id WHERE c.circle_id = $1",
            home.circle_id,
        )
    there = set()
    for row in rows:
        window, _, seconds = row["period"].partition("@")
        limit = {"window": window, "trailing_s": int(seconds or 0), "filter": row["filter"], "refunds": row["refunds"]}
        around = window_of(row["window_start"], per(limit, world.anchor), world.zone)
        assert around == (row["window_start"], row["window_end"])
        bound = Bound(row["scope"], row["scope_id"], {})
        at = row["window_start"]
        sums = used(world, bound, limit, at) if window != "trailing" else used_at(world, bound, limit, at)
        assert (row["amount_minor"], row["count"]) == sums, dict(row)
        there.add((row["scope_id"], row["period"], row["window_start"], str(row["filter"])))
    for made in world.history:
        for scope_id in (made.mandate, pool_id):
            assert (scope_id, "month", window_of(made.at, Per("month"), world.zone)[0], "{}") in there
        if selects({"mccs": ["7995"]}, made.asked):
            assert (made.mandate, "week", window_of(made.at, Per("week"), world.zone)[0], "{'mccs': ['7995']}") in there


async def ledger_is_right(db: Database, home: Household, charges: Sequence[Charge]) -> None:
    """Entries balance; merchants are owed what was sold, and clearing holds what came less what went back."""
    async with db.connection() as conn:
        rows = await conn.fetch(
            "SELECT e.id, e.charge_id, a.kind, p.amount_minor FROM entry e JOIN posting p ON p.entry_id = e.id"
            " JOIN ledger_account a ON a.id = p.account_id WHERE e.circle_id = $1",
            home.circle_id,
        )
        debited = await conn.fetch(
            "SELECT cd.charge_id, sum(d.amount_minor)::bigint FROM charge_debit cd JOIN debit d ON d.id = cd.debit_id"
            " WHERE d.circle_id = $1 AND d.state = 'succeeded' GROUP BY 1",
            home.circle_id,
        )
        returned = await conn.fetch(
            "SELECT charge_id, sum(amount_minor)::bigint FROM refund WHERE circle_id = $1 AND state = 'succeeded' GROUP BY 1",
            home.circle_id,
        )
    entries: Counter[str] = Counter()
    accounts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        entries[row["id"]] += row["amount_minor"]
        accounts[row["charge_id"]][row["kind"]] += row["amount_minor"]
    assert not any(entries.values())
    came, went = dict(map(tuple, debited)), dict(map(tuple, returned))
    for charge in charges:
        sold = charge.state in (ChargeState.SUCCEEDED, ChargeState.ARREARS) or charge.owed_since is not None
        assert -accounts[charge.id]["merchant"] == (net_of(charge) if sold else 0), charge
        assert accounts[charge.id]["clearing"] == came.get(charge.id, 0) - went.get(charge.id, 0), charge


async def provider_was_believed(db: Database, home: Household, bank: ScriptedBank) -> None:
    """What we say ended, ended so at the provider; no charge has two debits on their way."""
    async with db.connection() as conn:
        debits = await conn.fetch("SELECT id, state, amount_minor FROM debit WHERE circle_id = $1", home.circle_id)
        refunds = await conn.fetch("SELECT id, state FROM refund WHERE circle_id = $1", home.circle_id)
        open_twice = await conn.fetchval(
            "SELECT count(*) FROM (SELECT 1 FROM charge_debit cd JOIN debit d ON d.id = cd.debit_id WHERE d.circle_id = $1"
            " AND d.state = 'submitted' GROUP BY cd.charge_id HAVING count(*) > 1) twice",
            home.circle_id,
        )
    assert open_twice == 0, "two debits of one charge are on their way"
    for row in debits:
        order = bank.debits.get(row["id"])
        if row["state"] == "submitted":
            continue
        assert order is not None, "an end that nobody said"
        assert order.minor == row["amount_minor"]
        assert row["state"] != "succeeded" or order.state is DebitState.SUCCEEDED
        assert row["state"] != "failed" or order.state is not DebitState.PENDING
    for row in refunds:
        if row["state"] != "submitted":
            assert (row["state"] == "succeeded") is (bank.refunds[row["id"]].state is DebitState.SUCCEEDED)
