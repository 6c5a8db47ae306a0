"""A small campaign in every run; the large one is `make kill ARGS="--kills 50"`."""

from __future__ import annotations

from tests.simulation.kill import campaign


async def test_nothing_is_lost_or_doubled_when_the_server_is_killed() -> None:
    """Four kills under load, judged by the bank's own books."""
    outcome = await campaign(kills=4, seed=20261122)
    assert outcome.complaints == []
