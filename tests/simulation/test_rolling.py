"""Upgrading a running house: a small run, judged by the bank's own books."""

from __future__ import annotations

from tests.simulation.rolling import campaign


async def test_servers_are_upgraded_one_by_one_and_no_till_notices() -> None:
    outcome = await campaign(pause_s=1.5, seed=20261123)
    assert outcome.complaints == []
    assert not outcome.wrong, "every answer is about the request, none about the upgrade"
    assert outcome.answers["succeeded"] > 50
    assert outcome.longest_s < 10
    assert outcome.red, "the check is blind"
