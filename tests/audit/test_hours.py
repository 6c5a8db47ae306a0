"""Hours by the week and by school calendars: the program, the auditor and the oracle open at the same times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kinpay.audit.conditions import Charged, objections
from kinpay.charges.compile import bounds_of
from kinpay.charges.standing import Scope
from kinpay.mandates.terms import Terms
from kinpay.primitives.clock import zone
from tests.charges.campaign import campaign
from tests.charges.oracle import Asked, refused_by
from tests.charges.walls import ZONES
from tests.charges.worlds import hours, school_hours

CHARGED: Charged = {
    "spender_id": "", "merchant_id": "", "terminal_id": "", "method": "card", "mcc": "5812", "currency": "CNY",
    "credential_id": None, "items": None,
}  # fmt: skip
ASKED = Asked(1, "CNY", "", "5812", "", None)


@campaign(300)
@given(
    written=st.one_of(hours, school_hours, school_hours),
    time_zone=st.sampled_from(ZONES),
    minutes=st.integers(0, 600 * 24 * 60),
)
def test_all_three_open_at_the_same_times(written: dict[str, Any], time_zone: str, minutes: int) -> None:
    moment = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    terms = Terms.model_validate({"currency": "CNY", "conditions": [written]}).canonical()
    bounds = bounds_of(terms, scope=Scope.MANDATE, counters={}, anchor=moment.date(), time_zone=time_zone)
    (compiled,) = bounds.conditions.hours
    is_open = compiled.is_open(moment.astimezone(zone(time_zone)))
    assert (list(objections(CHARGED, terms, moment, time_zone)) == []) is is_open
    assert (list(refused_by(terms["conditions"][0], ASKED, moment, time_zone)) == []) is is_open
