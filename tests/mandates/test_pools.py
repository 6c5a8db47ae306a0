"""A payer's pool over several spenders: made and lowered at once, raised and ended with a proof."""

from __future__ import annotations

import pytest

from tests.mandates.scene import Family, limit, terms

POOL = {"name": "Everybody", "terms": terms(limit(500000, "month"))}


async def _make(family: Family, **changed: object) -> str:
    made = await family.payer.ask("POST", f"/v1/circles/{family.circle_id}/pools", {**POOL, **changed})
    assert made.status_code == 201, made.text
    return str(made.json()["pool_id"])


@pytest.mark.books_broken  # charges without their entries stand for history
async def test_a_pool_counts_what_its_spenders_used_before_it_was_made(family: Family) -> None:
    sister = await family.another("sister")
    for person, amount in ((family.spender, 290000), (sister, 64000)):
        await family.spent(None, amount, spender_id=person.id)
    await _make(family)
    await _make(family, spender_ids=[sister.id])
    (whole, part) = (await family.payer.ask("GET", f"/v1/circles/{family.circle_id}/pools")).json()["pools"]
    assert (whole["limits"][0]["used"], whole["limits"][0]["remaining"]) == (354000, 146000)
    assert part["limits"][0]["used"] == 64000


@pytest.mark.books_broken
async def test_taking_in_a_spender_acts_at_once_leaving_one_out_needs_a_proof(family: Family) -> None:
    sister = await family.another("sister")
    await family.spent(None, 64000, spender_id=sister.id)
    pool_id = await _make(family, spender_ids=[family.spender.id])
    both = {**POOL, "spender_ids": [family.spender.id, sister.id], "if_version": 1}
    changed = await family.payer.ask("PUT", f"/v1/pools/{pool_id}", both)
    assert changed.json() == {"pool_id": pool_id, "version": 2}, changed.text
    (shown,) = (await family.payer.ask("GET", f"/v1/circles/{family.circle_id}/pools")).json()["pools"]
    assert shown["limits"][0]["used"] == 64000, "its history is that of its spenders now"
    without = {**POOL, "spender_ids": [family.spender.id]}
    bare = await family.payer.ask("PUT", f"/v1/pools/{pool_id}", without)
    assert bare.json()["code"] == "proof-required"


async def test_raising_and_ending_need_a_proof(family: Family) -> None:
    pool_id = await _make(family)
    raised = terms(limit(500001, "month"))
    bare = await family.payer.ask("PUT", f"/v1/pools/{pool_id}", {**POOL, "terms": raised})
    assert bare.json()["code"] == "proof-required"
    canonical = {"currency": "CNY", "limits": [{**raised["limits"][0], "filter": {}}], "conditions": []}
    content = {"terms": canonical, "spender_ids": None}
    proof = await family.payer.proof("pool.change", pool_id, content)
    done = await family.payer.ask("PUT", f"/v1/pools/{pool_id}", {**POOL, "terms": raised, "proof": proof})
    assert done.json()["version"] == 2, done.text
    assert (await family.payer.ask("DELETE", f"/v1/pools/{pool_id}", {})).json()["code"] == "proof-required"
    proof = await family.payer.proof("pool.end", pool_id, {})
    ended = await family.payer.ask("DELETE", f"/v1/pools/{pool_id}", {"proof": proof})
    assert ended.json() == {"done": True}
    assert (await family.payer.ask("GET", f"/v1/circles/{family.circle_id}/pools")).json() == {"pools": []}
    assert (await family.payer.ask("PUT", f"/v1/pools/{pool_id}", POOL)).json()["code"] == "wrong-state"


async def test_a_pool_is_its_payers_own(family: Family) -> None:
    pool_id = await _make(family)
    path = f"/v1/circles/{family.circle_id}/pools"
    stranger = await family.house.person("stranger")
    assert (await stranger.ask("POST", path, POOL)).status_code == 404
    assert (await family.spender.ask("POST", path, POOL)).status_code == 403
    assert (await family.spender.ask("PUT", f"/v1/pools/{pool_id}", POOL)).status_code == 404
    assert (await family.spender.ask("GET", path)).json() == {"pools": []}
    foreign = await family.payer.ask("POST", path, {**POOL, "spender_ids": [stranger.id]})
    assert foreign.json()["code"] == "invalid-request"


@pytest.mark.parametrize(
    "wrong",
    [
        terms(),
        terms(limit(100, "per_payment")),
        terms(limit(100, "day"), conditions=[{"kind": "mccs", "deny": ["5814"]}]),
        terms({"metric": "amount", "window": "day"}),
        {**terms(limit(100, "day")), "valid_to": "2026-12-31"},
        {**terms(limit(100, "day")), "cooling": {"hours": 24, "limits": []}},
    ],
)
async def test_a_pool_has_ceilings_over_time_only(family: Family, wrong: dict[str, object]) -> None:
    answer = await family.payer.ask("POST", f"/v1/circles/{family.circle_id}/pools", {**POOL, "terms": wrong})
    assert answer.status_code in (400, 422)
