"""A small campaign in every run; the large one is `make restore ARGS="--seconds 60"`."""

from __future__ import annotations

from tests.simulation.restore import campaign


async def test_what_a_restored_database_lost_is_booked_again_and_nobody_is_debited_twice() -> None:
    """A base backup under load, the kept log, a restore to a point before the end; judged by the bank's own books."""
    outcome = await campaign(before_s=2, lost_s=2, seed=20261123)
    assert outcome.complaints == []
    assert outcome.blind == [], "the check is blind, or says what is not"
