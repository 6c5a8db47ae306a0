"""Circles: who belongs, who may let others in, who may stop everything."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kinpay.database.pool import database_now
from kinpay.people import store
from kinpay.people.lock import lock_circle
from kinpay.primitives.ids import new_id
from tests.people.house import House, Somebody


async def enter(house: House, circle_id: str, somebody: Somebody, role: str) -> None:
    """Makes somebody a member as a registration does."""
    async with house.db.transaction() as conn:
        await lock_circle(conn, circle_id)
        await store.add_member(conn, circle_id, somebody.id, role, await database_now(conn))


async def version(house: House, circle_id: str) -> int:
    return int(await house.value("SELECT version FROM circle WHERE id = $1", circle_id))


async def test_whoever_opens_a_circle_pays_in_it(house: House) -> None:
    wang, li = await house.person("wang"), await house.person("lily")
    circle_id = await wang.circle()
    seen = (await wang.ask("GET", f"/v1/circles/{circle_id}")).json()
    assert seen["members"] == [{"person_id": wang.id, "display_name": "Wang", "roles": ["payer"]}]
    assert (seen["time_zone"], seen["state"]) == ("Asia/Shanghai", "active")
    assert await house.value("SELECT time_zone FROM circle_zone WHERE circle_id = $1", circle_id) == "Asia/Shanghai"
    foreign = await li.ask("GET", f"/v1/circles/{circle_id}")
    absent = await li.ask("GET", f"/v1/circles/{new_id()}")
    assert foreign.status_code == absent.status_code == 404
    assert foreign.json() == absent.json()


async def test_a_circle_asked_for_twice_under_one_key_is_one_circle(house: House) -> None:
    wang = await house.person("wang")
    body = {"name": "Family", "time_zone": "Asia/Shanghai"}
    first = await wang.ask("POST", "/v1/circles", body, key="one")
    again = await wang.ask("POST", "/v1/circles", body, key="one")
    other = await wang.ask("POST", "/v1/circles", body | {"name": "Team"}, key="one")
    assert first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert other.status_code in (409, 422)
    assert await house.value("SELECT count(*) FROM circle") == 1


async def test_circles_are_listed_page_by_page(house: House) -> None:
    wang = await house.person("wang")
    made = [await wang.circle(f"Circle {number}") for number in range(5)]
    first = (await wang.ask("GET", "/v1/circles?limit=2")).json()
    second = (await wang.ask("GET", f"/v1/circles?limit=2&after={first['next']}")).json()
    third = (await wang.ask("GET", f"/v1/circles?limit=2&after={second['next']}")).json()
    ids = [circle["id"] for page in (first, second, third) for circle in page["circles"]]
    assert ids == sorted(made)
    assert third["next"] is None
    assert (await wang.ask("GET", "/v1/circles?limit=101")).status_code == 422


async def test_a_zone_that_does_not_exist_is_refused(house: House) -> None:
    wang = await house.person("wang")
    answer = await wang.ask("POST", "/v1/circles", {"name": "X", "time_zone": "Asia/Atlantis"})
    assert 400 <= answer.status_code < 500
    assert await house.value("SELECT count(*) FROM circle") == 0


async def test_an_invitation_waits_for_the_yes(house: House) -> None:
    wang, li = await house.person("wang"), await house.person("lily")
    circle_id = await wang.circle()
    before = await version(house, circle_id)
    assert (await wang.invite(circle_id, "lily", "approver")).status_code == 202
    assert len((await wang.ask("GET", f"/v1/circles/{circle_id}")).json()["members"]) == 1
    assert await version(house, circle_id) == before
    assert [notice["people"] for notice in await house.notices("circle_invited")] == [[li.id]]
    waiting = (await li.ask("GET", "/v1/me/invitations")).json()["invitations"]
    assert [(one["circle_id"], one["role"], one["invited_by"]) for one in waiting] == [(circle_id, "approver", wang.id)]
    assert (await li.ask("POST", f"/v1/circles/{circle_id}/join", {"role": "payer"})).status_code == 404
    joined = await li.ask("POST", f"/v1/circles/{circle_id}/join", {"role": "approver"})
    assert joined.status_code == 200
    assert [member["roles"] for member in joined.json()["members"]] == [["payer"], ["approver"]]
    assert (await li.ask("POST", f"/v1/circles/{circle_id}/join", {"role": "approver"})).status_code == 200
    assert await version(house, circle_id) == before + 1
    assert (await li.ask("GET", "/v1/me/invitations")).json()["invitations"] == []
    assert [set(notice["people"]) for notice in await house.notices("circle_joined")] == [{wang.id, li.id}]


async def test_inviting_nobody_looks_like_inviting_somebody(house: House) -> None:
    wang, li = await house.person("wang"), await house.person("lily")
    circle_id = await wang.circle()
    bodies = []
    costs = []
    for account in ("lily", "nobody"):
        given = await wang.proof("circle.invite", circle_id, {"account": account, "role": "viewer"})
        house.counted.taken()
        body = {"account": account, "role": "viewer", "proof": given}
        answer = await wang.ask("POST", f"/v1/circles/{circle_id}/members", body)
        costs.append(house.counted.taken())
        bodies.append((answer.status_code, answer.json()))
    assert bodies[0] == bodies[1] == (202, {"status": "accepted"})
    assert costs[0] == costs[1] > 0
    assert len((await li.ask("GET", "/v1/me/invitations")).json()["invitations"]) == 1


async def test_an_invitation_needs_a_proof_of_a_payer_bound_to_it(house: House) -> None:
    wang, li = await house.person("wang"), await house.person("lily")
    circle_id = await wang.circle()
    path = f"/v1/circles/{circle_id}/members"
    body: dict[str, Any] = {"account": "lily", "role": "viewer"}
    assert (await wang.ask("POST", path, body)).json()["code"] == "proof-required"
    given = await wang.proof("circle.invite", circle_id, {"account": "lily", "role": "viewer"})
    assert (await wang.ask("POST", path, body | {"role": "payer", "proof": given})).json()["code"] == "proof-invalid"
    assert (await li.ask("POST", path, body | {"proof": given})).status_code == 404
    await enter(house, circle_id, li, "approver")
    assert (await li.ask("POST", path, body | {"proof": given})).status_code == 403
    assert (await wang.ask("POST", path, body | {"role": "spender", "proof": given})).status_code == 422
    first = await wang.ask("POST", path, body | {"proof": given}, key="mine")
    again = await wang.ask("POST", path, body | {"proof": given}, key="mine")
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.headers["idempotency-replayed"] == "true"
    assert (await wang.ask("POST", path, body | {"proof": given}, key="other")).json()["code"] == "proof-invalid"


async def test_an_invitation_ends_by_time_and_when_the_inviter_pays_no_longer(house: House) -> None:
    wang, li, zhao = [await house.person(name) for name in ("wang", "lily", "zhao")]
    circle_id = await wang.circle()
    await enter(house, circle_id, zhao, "payer")
    assert (await zhao.invite(circle_id, "lily", "payer")).status_code == 202
    assert (await wang.ask("DELETE", f"/v1/circles/{circle_id}/members/{zhao.id}")).status_code == 204
    assert (await li.ask("POST", f"/v1/circles/{circle_id}/join", {"role": "payer"})).status_code == 404
    await enter(house, circle_id, zhao, "payer")
    assert (await li.ask("POST", f"/v1/circles/{circle_id}/join", {"role": "payer"})).status_code == 200


async def test_a_removed_member_cannot_come_back_on_an_old_invitation(house: House) -> None:
    wang, li = await house.person("wang"), await house.person("lily")
    circle_id = await wang.circle()
    await wang.invite(circle_id, "lily", "viewer")
    await wang.invite(circle_id, "lily", "approver")
    await li.ask("POST", f"/v1/circles/{circle_id}/join", {"role": "viewer"})
    assert (await wang.ask("DELETE", f"/v1/circles/{circle_id}/members/{li.id}")).status_code == 204
    for role in ("viewer", "approver"):
        assert (await li.ask("POST", f"/v1/circles/{circle_id}/join", {"role": role})).status_code == 404
    assert [set(notice["people"]) for notice in await house.notices("circle_removed")] == [{wang.id, li.id}]


async def test_who_may_remove_whom(house: House) -> None:
    wang, li, zhao = [await house.person(name) for name in ("wang", "lily", "zhao")]
    circle_id = await wang.circle()
    await enter(house, circle_id, li, "approver")
    path = f"/v1/circles/{circle_id}/members"
    assert (await zhao.ask("DELETE", f"{path}/{li.id}")).status_code == 404
    assert (await wang.ask("DELETE", f"{path}/{zhao.id}")).status_code == 404
    assert (await li.ask("DELETE", f"{path}/{wang.id}")).status_code == 403
    before = await version(house, circle_id)
    assert (await li.ask("DELETE", f"{path}/{li.id}")).status_code == 204
    assert await version(house, circle_id) == before + 1
    assert (await li.ask("GET", f"/v1/circles/{circle_id}")).status_code == 404
    assert len(await house.notices("circle_left")) == 1


@pytest.mark.books_broken
async def test_nobody_goes_while_a_mandate_rests_on_them(house: House) -> None:
    wang, kid = await house.person("wang"), await house.person("kid")
    circle_id = await wang.circle()
    await enter(house, circle_id, kid, "spender")
    await house.value(
        "INSERT INTO mandate (id, circle_id, payer_id, spender_id, state, version, created_at)"
        " VALUES ($1, $2, $3, $4, 'suspended', 1, now())",
        new_id(), circle_id, wang.id, kid.id,
    )  # fmt: skip
    path = f"/v1/circles/{circle_id}/members"
    assert (await wang.ask("DELETE", f"{path}/{wang.id}")).status_code == 409
    assert (await wang.ask("DELETE", f"{path}/{kid.id}")).status_code == 409
    await house.value("UPDATE mandate SET state = 'ended'")
    assert (await kid.ask("DELETE", f"{path}/{kid.id}")).status_code == 204
    assert (await wang.ask("DELETE", f"{path}/{wang.id}")).status_code == 204


async def test_payers_and_spenders_freeze_and_only_payers_unfreeze(house: House) -> None:
    wang, kid, aunt, stranger = [await house.person(name) for name in ("wang", "kid", "aunt", "stranger")]
    circle_id = await wang.circle()
    await enter(house, circle_id, kid, "spender")
    await enter(house, circle_id, aunt, "approver")
    path = f"/v1/circles/{circle_id}"
    before = await version(house, circle_id)
    assert (await stranger.ask("POST", f"{path}/freeze")).status_code == 404
    assert (await aunt.ask("POST", f"{path}/freeze")).status_code == 403
    assert (await kid.ask("POST", f"{path}/freeze")).json() == {"state": "frozen"}
    assert (await wang.ask("POST", f"{path}/freeze")).json() == {"state": "frozen"}
    assert await version(house, circle_id) == before + 1
    given = await kid.proof("circle.unfreeze", circle_id, {})
    assert (await kid.ask("POST", f"{path}/unfreeze", {"proof": given})).status_code == 403
    assert (await aunt.ask("POST", f"{path}/unfreeze", {"proof": given})).status_code == 403
    assert (await stranger.ask("POST", f"{path}/unfreeze", {"proof": given})).status_code == 404
    assert (await wang.ask("POST", f"{path}/unfreeze", {"proof": given})).json()["code"] == "proof-invalid"
    assert (await wang.ask("POST", f"{path}/unfreeze", {})).json()["code"] == "proof-required"
    given = await wang.proof("circle.unfreeze", circle_id, {})
    first = await wang.ask("POST", f"{path}/unfreeze", {"proof": given}, key="thaw")
    again = await wang.ask("POST", f"{path}/unfreeze", {"proof": given}, key="thaw")
    assert first.json() == again.json() == {"state": "active"}
    assert await version(house, circle_id) == before + 2
    everybody = {wang.id, kid.id, aunt.id}
    told = [set(notice["people"]) for kind in ("frozen", "unfrozen") for notice in await house.notices(f"circle_{kind}")]
    assert told == [everybody, everybody]


async def test_unfreezing_what_is_not_frozen_leaves_the_proof_good(house: House) -> None:
    wang = await house.person("wang")
    circle_id = await wang.circle()
    given = await wang.proof("circle.unfreeze", circle_id, {})
    path = f"/v1/circles/{circle_id}"
    assert (await wang.ask("POST", f"{path}/unfreeze", {"proof": given})).status_code == 409
    await wang.ask("POST", f"{path}/freeze")
    assert (await wang.ask("POST", f"{path}/unfreeze", {"proof": given})).status_code == 200


async def test_many_freezers_at_once_freeze_once(house: House) -> None:
    wang = await house.person("wang")
    circle_id = await wang.circle()
    answers = await asyncio.gather(*(wang.ask("POST", f"/v1/circles/{circle_id}/freeze") for _ in range(10)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(await house.notices("circle_frozen")) == 1


async def test_reads_that_other_packages_lean_on(house: House) -> None:
    wang, kid = await house.person("wang"), await house.person("kid")
    circle_id = await wang.circle()
    await enter(house, circle_id, kid, "spender")
    await enter(house, circle_id, wang, "viewer")
    async with house.db.connection() as conn:
        assert await store.member_roles(conn, circle_id, wang.id) == {"payer", "viewer"}
        assert await store.member_roles(conn, new_id(), wang.id) == frozenset()
        assert await store.people_of(conn, circle_id) == sorted([wang.id, kid.id])
        assert await store.people_of(conn, circle_id, "spender", "approver") == [kid.id]
        found = await store.find_by_account(conn, house.operator_id, "ＷANG")
        assert found is not None
        assert found.id == wang.id
        assert await store.find_by_account(conn, house.operator_id, "\ud800") is None
        assert await store.person_row(conn, new_id()) is None
