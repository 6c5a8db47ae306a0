"""`decide` against a naive second opinion: random limits, pools, cards and pasts, around every odd day of six zones."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from kinpay.charges.decide import Approve, Refuse, decide
from kinpay.charges.reason import Reason
from kinpay.charges.standing import Moment
from tests.charges.campaign import campaign
from tests.charges.oracle import (
    Allowed,
    Asked,
    Funding,
    Says,
    World,
    again_at,
    against,
    barred,
    fund,
    passes,
    possible_now,
)
from tests.charges.walls import ZONES, jumps
from tests.charges.worlds import MCCS, MERCHANTS, PAYERS, SPENDERS, Compiled, openings, order_of, orders, worlds


def _comparable(reason: Reason | Says) -> Says:
    bare = Says(int(reason.rank), reason.code, reason.at_most, reason.at_least, reason.used, reason.remaining, reason.resets_at)
    if reason.code.endswith("TIME"):
        return replace(bare, resets_at=None)  # When it opens is a matter of `again_at`.
    return replace(bare, at_most=None) if reason.code == "PROVIDER" else bare


@campaign(150)
@given(worlds(), orders(spender=SPENDERS[0]), st.booleans())
def test_it_agrees_with_a_sum_over_history(known: tuple[World, datetime], asked: Asked, fallen_back: bool) -> None:
    world, now = known
    compiled = Compiled(world)
    every = [agreement.id for mandate in world.mandates for agreement in mandate.agreements]
    spent = frozenset(every[:1]) if fallen_back else frozenset()
    note(f"{now=} {asked=} {world=}")
    said = decide(order_of(asked), compiled.standing, compiled.usage, Moment(now, world.zone), spent_agreements=spent)
    mandate = passes(world, asked, now, spent)
    if mandate is not None:
        assert isinstance(said, Approve), said
        assert said.mandate.id == mandate.id
        assert said.agreement.id == fund(mandate, asked, spent).id
        used = [(counter.id, span.start, span.end) for counter, span in said.uses]
        assert len(used) == len(set(used))
        assert set(used) == compiled.uses(asked, mandate, now)
        return
    assert isinstance(said, Refuse), said
    expected = barred(world, asked) or against(world, asked, world.mandates_of(asked.spender)[0], now, spent)
    assert set(map(_comparable, said.reasons)) == set(map(_comparable, expected))
    assert [reason.rank for reason in said.reasons] == sorted(reason.rank for reason in said.reasons)
    assert said.possible_now_minor == possible_now(world, asked, now, spent)
    assert said.again_at == again_at(world, asked, now, spent)


@st.composite
def _curfews(draw: st.DrawFn) -> tuple[World, datetime]:
    """Only hours, and a moment within half a day of a jump of the clock."""
    zone = draw(st.sampled_from(ZONES[1:]))
    now = draw(st.sampled_from(jumps(zone)[2:6])) + timedelta(minutes=draw(st.integers(-720, 720)))
    hours = {"kind": "hours", "open": draw(st.lists(openings(), min_size=1, max_size=2))}
    terms = {"currency": "CNY", "limits": [], "conditions": [hours]}
    mandate = Allowed("1" * 32, PAYERS[0], SPENDERS[0], "active", False, terms, [Funding("2" * 32, True, "CNY", None)])
    return World(zone, spender_active={SPENDERS[0]: True}, mandates=[mandate]), now


@campaign(120)
@given(_curfews())
def test_openings_across_jumps_of_the_clock(known: tuple[World, datetime]) -> None:
    """Skipped openings, and those that the wall shows twice."""
    world, now = known
    asked = Asked(1, "CNY", MERCHANTS[0], MCCS[0], SPENDERS[0], None)
    said = decide(order_of(asked), Compiled(world).standing, {}, Moment(now, world.zone))
    if passes(world, asked, now):
        assert isinstance(said, Approve)
    else:
        assert isinstance(said, Refuse)
        assert said.again_at == again_at(world, asked, now)


@pytest.mark.parametrize("coinciding", [True, False])
def test_hours_that_hardly_coincide_are_not_searched_for_step_by_step(coinciding: bool) -> None:
    """A payer may write two sets of hours that are never open together; a refusal must not keep everybody waiting for it."""
    early = [{"opens": f"{hour:02}:00", "closes": f"{hour:02}:20", "weekdays": [*range(1, 8)]} for hour in range(21)]
    late = [{"opens": f"{hour:02}:20", "closes": f"{hour:02}:40", "weekdays": [*range(1, 8)]} for hour in range(20)]
    if coinciding:
        late.append({"opens": "20:10", "closes": "20:40", "weekdays": [2]})
    terms = {"currency": "CNY", "limits": [], "conditions": [{"kind": "hours", "open": opens} for opens in (early, late)]}
    mandate = Allowed("1" * 32, PAYERS[0], SPENDERS[0], "active", False, terms, [Funding("2" * 32, True, "CNY", None)])
    world = World("Asia/Shanghai", spender_active={SPENDERS[0]: True}, mandates=[mandate])
    asked = order_of(Asked(1, "CNY", MERCHANTS[0], MCCS[0], SPENDERS[0], None))
    now = datetime(2026, 3, 4, 4, tzinfo=UTC)  # a Wednesday
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        said = decide(asked, Compiled(world).standing, {}, Moment(now, world.zone))
    finally:
        sys.setprofile(None)
    assert isinstance(said, Refuse)
    assert said.again_at == (datetime(2026, 3, 10, 12, 10, tzinfo=UTC) if coinciding else None)
    assert calls < 20_000
