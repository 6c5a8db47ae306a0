"""Every life cycle in the code: no state is unreachable, finals stay, and the database names the same states."""

from __future__ import annotations

import importlib
import pkgutil
import re
from enum import StrEnum
from typing import Any, get_args

import pytest

import kinpay
from kinpay.charges.charge import CHARGE, COUNTING, ChargeEvent, ChargeState, Method
from kinpay.charges.debit import DEBIT, REFUND, DebitStatus, RefundStatus
from kinpay.charges.refund import Why
from kinpay.database.pool import Database
from kinpay.primitives.errors import WrongState
from kinpay.primitives.lifecycle import Lifecycle

LATE_TRUTH = {
    ("charge", "declined", "late_success"),
    ("charge", "voided", "late_success"),
    ("debit", "failed", "late_success"),
}
"""The only ways out of an end (semantics.md, "Late truth")."""
FINALS = {
    "charge": {"succeeded", "refused", "voided", "declined"},
    "debit": {"succeeded", "failed"},
    "refund": {"succeeded", "failed"},
    "agreement": {"ended", "refused"},
    "mandate": {"ended"},
}


def _found() -> dict[str, Lifecycle[Any, Any]]:
    found: dict[str, Lifecycle[Any, Any]] = {}
    for module in pkgutil.walk_packages(kinpay.__path__, "kinpay."):
        if module.name.endswith("__main__"):
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, Lifecycle):
                found[value.name] = value
    return found


CYCLES = _found()


def test_none_is_missed() -> None:
    assert {"charge", "debit", "refund", "agreement", "mandate"} <= set(CYCLES)


@pytest.mark.parametrize("name", sorted(CYCLES))
def test_every_state_is_reachable(name: str) -> None:
    cycle = CYCLES[name]
    states = set(type(cycle.start))
    reached = set(cycle.reachable())
    if name == "charge":  # Two ways to begin: `decide` also says refused, and a later issue asks a person.
        reached |= {ChargeState.REFUSED, ChargeState.ASKING}
    assert reached == states


@pytest.mark.parametrize("name", sorted(CYCLES))
def test_every_event_happens_somewhere(name: str) -> None:
    cycle = CYCLES[name]
    events = {event for _, event in cycle.table}
    assert events == set(type(next(iter(events))))


@pytest.mark.parametrize("name", sorted(CYCLES))
def test_ends_are_left_by_late_truth_alone(name: str) -> None:
    left = {
        (name, str(state), str(event)) for (state, event), _ in CYCLES[name].table.items() if str(state) in FINALS.get(name, ())
    }
    assert left <= LATE_TRUTH
    stuck = {str(state) for state in type(CYCLES[name].start)} - {str(state) for state, _ in CYCLES[name].table}
    if name in FINALS:
        assert stuck <= FINALS[name]


@pytest.mark.parametrize("name", sorted(CYCLES))
def test_whatever_the_table_does_not_allow_is_refused(name: str) -> None:
    cycle = CYCLES[name]
    for state in type(cycle.start):
        for event in {event for _, event in cycle.table}:
            if cycle.allows(state, event):
                assert cycle.after(state, event) in set(type(cycle.start))
            else:
                with pytest.raises(WrongState):
                    cycle.after(state, event)


def test_what_a_counting_charge_may_become() -> None:
    """A charge that counts no more was voided or declined, and nothing else."""
    left = {event for (state, event), to in CHARGE.table.items() if state in COUNTING and to not in COUNTING}
    assert left == {ChargeEvent.VOID, ChargeEvent.DECLINE}


CHECKS = """
    SELECT t.relname || '.' || a.attname AS col, pg_get_constraintdef(c.oid) AS def
    FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
    JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = c.conkey[1]
    WHERE c.contype = 'c' AND array_length(c.conkey, 1) = 1
"""


def _named(enum: type[StrEnum]) -> set[str]:
    return {member.value for member in enum}


async def test_the_database_names_the_same_states(db: Database) -> None:
    async with db.connection() as conn:
        rows = await conn.fetch(CHECKS)
    listed = {row["col"]: set(re.findall(r"'([a-z_]+)'::text", row["def"])) for row in rows if "ANY" in row["def"]}
    expected = {
        "charge.state": _named(ChargeState),
        "charge.method": _named(Method),
        "debit.state": _named(DebitStatus),
        "refund.state": _named(RefundStatus),
    }
    for name, cycle in CYCLES.items():
        if f"{name}.state" in listed:
            expected[f"{name}.state"] = _named(type(cycle.start))
    for column, values in expected.items():
        assert listed[column] == values, column
    assert listed["refund.reason"] == set(get_args(Why))
    assert CHARGE.start is ChargeState.HELD
    assert DEBIT.start is DebitStatus.FROZEN
    assert REFUND.start is RefundStatus.SUBMITTED
