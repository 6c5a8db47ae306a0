"""A terminal is announced by staff, installs itself with a code and its own key, and can be ended at any moment."""

from __future__ import annotations

import stat
import time
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from kinpay.database.pool import Database, database_now
from kinpay.primitives.errors import NotFound, Unauthenticated
from kinpay.primitives.ids import new_id
from kinpay.primitives.server_keys import ServerKeys
from kinpay.terminals import store
from kinpay.terminals.install import expect_terminal, install_terminal
from kinpay.terminals.signature import read_point
from kinpay.terminals.terminal import TERMINAL_LIFE, TerminalKind, TerminalState
from kinpay_client import Problem, Terminal
from kinpay_client.signing import OwnKeySigner, TerminalKey, sign_request
from tests.terminals.house import BASE_URL, House, another_operator


def test_every_state_of_a_terminal_is_reachable() -> None:
    assert TERMINAL_LIFE.reachable() == frozenset(TerminalState)


async def test_staff_announce_a_terminal_which_installs_itself_and_signs_requests(house: House) -> None:
    async with house.as_person(house.owner) as staff:
        body = {"site_id": house.site_id, "name": "Till 2", "kind": "till", "hold_s": 90}
        announced = (await staff.post("/v1/terminals", json=body)).json()
        terminal = await Terminal.install(BASE_URL, announced["install_code"], http=house.http())
        assert terminal.terminal_id == announced["terminal_id"]
        assert (await terminal.function_code())["code"].startswith("https://pay.example/s/K1F.")
        (shown,) = (await staff.get("/v1/terminals")).json()["terminals"]
    assert (shown["id"], shown["state"], shown["merchant"], shown["site"], shown["hold_s"]) == (
        terminal.terminal_id, "active", "North canteen", "Hall 1", 90,
    )  # fmt: skip


async def test_a_terminal_is_announced_once_for_a_key_and_its_code_is_not_readable_in_the_books(
    house: House, db: Database
) -> None:
    body = {"site_id": house.site_id, "name": "Till 2", "kind": "till", "hold_s": 90}
    async with house.as_person(house.owner) as staff:
        asked = [await staff.post("/v1/terminals", json=body, headers={"idempotency-key": "order-7"}) for _ in range(2)]
        assert asked[0].json() == asked[1].json(), "an answer that was lost is heard the second time"
        assert len((await staff.get("/v1/terminals")).json()["terminals"]) == 1
        assert (await staff.post("/v1/terminals", json=body)).json()["terminal_id"] != asked[0].json()["terminal_id"]
    async with db.connection() as conn:
        kept = await conn.fetchval("SELECT answer FROM request_key")
    assert asked[0].json()["install_code"].partition(".")[2] not in kept
    terminal = await Terminal.install(BASE_URL, asked[1].json()["install_code"], http=house.http())
    assert terminal.terminal_id == asked[0].json()["terminal_id"]


async def test_a_terminal_goes_on_after_a_restart_with_the_key_it_kept(house: House, tmp_path: Path) -> None:
    file = tmp_path / "terminal.json"
    (await house.terminal()).save(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "code" in (await Terminal.load(file, http=house.http()).function_code()).body


async def test_an_install_code_installs_one_device_only(house: House) -> None:
    code = await house.install_code()
    await Terminal.install(BASE_URL, code, http=house.http())
    with pytest.raises(Problem, match="401 unauthenticated"):
        await Terminal.install(BASE_URL, code, http=house.http())


async def test_the_same_device_may_repeat_an_install_whose_answer_was_lost(db: Database, house: House) -> None:
    code, point = await house.install_code(), read_point(TerminalKey.new().public_point(), "public_key")
    for _ in range(2):
        async with db.transaction() as conn:
            found = await install_terminal(conn, house.keys, code=code, public_key=point, now=await database_now(conn))
        assert found.is_active


async def test_an_install_code_lapses_and_can_be_renewed(db: Database, house: House) -> None:
    code, point = await house.install_code(), read_point(TerminalKey.new().public_point(), "public_key")
    async with db.transaction() as conn:
        late = await database_now(conn) + timedelta(minutes=31)
        with pytest.raises(Unauthenticated):
            await install_terminal(conn, house.keys, code=code, public_key=point, now=late)
    async with house.as_person(house.owner) as staff:
        renewed = (await staff.post(f"/v1/terminals/{code[:32]}/install-code")).json()["install_code"]
    with pytest.raises(Problem, match="401"):
        await Terminal.install(BASE_URL, code, http=house.http())
    await Terminal.install(BASE_URL, renewed, http=house.http())


async def test_a_device_that_does_not_hold_the_key_it_names_is_refused(house: House) -> None:
    code, mine, named = await house.install_code(), TerminalKey.new(), TerminalKey.new()
    async with house.http() as http:
        body = {"install_code": code, "public_key": named.public_point()}
        request = http.build_request("POST", "/v1/terminals/install", json=body)
        sign_request(request, OwnKeySigner(code[:32], mine), now_s=time.time())
        answer = await http.send(request)
        unsigned = await http.post("/v1/terminals/install", json=body)
    assert (answer.status_code, answer.json()["code"]) == (401, "signature-invalid")
    assert unsigned.status_code == 401


async def test_a_key_serves_one_terminal_only(house: House) -> None:
    key = TerminalKey.new()
    answers: list[httpx.Response] = []
    for code in (await house.install_code(), await house.install_code()):
        async with house.http() as http:
            body = {"install_code": code, "public_key": key.public_point()}
            request = http.build_request("POST", "/v1/terminals/install", json=body)
            sign_request(request, OwnKeySigner(code[:32], key), now_s=time.time())
            answers.append(await http.send(request))
    assert [answer.status_code for answer in answers] == [201, 409]


@pytest.mark.parametrize("point", ["A" * 87, "BA" + "A" * 85, "=" * 87, "ä" * 87])
async def test_a_public_key_off_the_curve_is_refused(house: House, point: str) -> None:
    async with house.http() as http:
        body = {"install_code": await house.install_code(), "public_key": point}
        answer = await http.post("/v1/terminals/install", json=body)
    assert answer.status_code in {409, 422}


async def test_a_revoked_terminal_is_refused_at_once_with_either_key(house: House) -> None:
    terminal = await house.terminal()
    await terminal.function_code()
    assert (await house.revoke(terminal.terminal_id)).status_code == 204
    with pytest.raises(Problem, match="401"):
        await terminal.function_code()
    with pytest.raises(Problem, match="401 unauthenticated"):
        await terminal.session()
    assert (await house.revoke(terminal.terminal_id)).status_code == 204


async def test_revoking_a_terminal_that_is_only_expected_withdraws_its_code(db: Database, house: House) -> None:
    code = await house.install_code()
    assert (await house.revoke(code[:32])).status_code == 204
    with pytest.raises(Problem, match="401"):
        await Terminal.install(BASE_URL, code, http=house.http())
    async with db.connection() as conn:
        assert await store.find_terminal(conn, code[:32]) is None


async def test_only_staff_of_the_operator_may_install_and_revoke(db: Database, house: House, keys: ServerKeys) -> None:
    terminal, stranger = await house.terminal(), await house.person()
    operator_id, _, site_id = await another_operator(db)
    body = {"site_id": site_id, "name": "Till", "kind": "till"}
    async with house.as_person(stranger) as person, house.as_person(house.owner) as staff:
        assert (await person.post("/v1/terminals", json=body)).status_code == 403
        assert (await person.post(f"/v1/terminals/{terminal.terminal_id}/revoke")).status_code == 403
        assert (await staff.post("/v1/terminals", json=body)).status_code == 404  # another operator's site
        assert (await staff.post(f"/v1/terminals/{new_id()}/revoke")).status_code == 404
    with pytest.raises(Problem, match="403"):
        await terminal.request("GET", "/v1/terminals")
    with pytest.raises(NotFound):
        async with db.transaction() as conn:
            await expect_terminal(
                conn, keys, operator_id=operator_id, site_id=house.site_id, name="x", kind=TerminalKind.TILL, hold_s=60,
                now=await database_now(conn), actor_id=None,
            )  # fmt: skip


async def test_the_list_of_terminals_is_read_page_by_page(house: House) -> None:
    expected = sorted([(await house.install_code())[:32] for _ in range(5)])
    seen: list[str] = []
    async with house.as_person(house.owner) as staff:
        page = (await staff.get("/v1/terminals?limit=2")).json()
        while True:
            seen += [item["id"] for item in page["terminals"]]
            if page["next"] is None:
                break
            page = (await staff.get(f"/v1/terminals?limit=2&after={page['next']}")).json()
    assert seen == expected
