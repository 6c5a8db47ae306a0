"""The function code: whoever alters, copies, delays or borrows one gets nowhere, and the business type is chosen once."""

from __future__ import annotations

import asyncio
import base64
import random
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from kinpay.database.pool import Database, database_now
from kinpay.primitives.actor import Actor, ActorKind
from kinpay.primitives.errors import CheckCodeAltered, CheckCodeExpired, CheckCodeOtherTerminal, CheckCodeUsed, NotFound
from kinpay.primitives.ids import new_id
from kinpay.primitives.server_keys import ServerKeys
from kinpay.terminals.codes import Codes, FunctionCode, RegistrationInformation
from kinpay.terminals.function_code import bare_code, issue_function_code
from kinpay.terminals.scan import Chosen, UsedScan, choose_business_type, scan_function_code, use_scan
from kinpay_client import Problem, Terminal
from tests.terminals.house import PUBLIC_URL, House, another_operator


async def scan(house: House, asker: Actor, code: str) -> httpx.Response:
    async with house.as_person(asker) as http:
        return await http.post("/v1/scans", json={"code": code})


async def shown(terminal: Terminal) -> str:
    code: str = (await terminal.function_code())["code"]
    return code


def actor_of(house: House, terminal: Terminal) -> Actor:
    return Actor(ActorKind.TERMINAL, terminal.terminal_id, house.operator_id)


def code_of(answer: httpx.Response) -> str:
    code: str = answer.json()["code"]
    return code


async def test_a_person_scans_chooses_and_gets_the_information_signed(house: House) -> None:
    terminal, person = await house.terminal(), await house.person()
    made = (await scan(house, person, await shown(terminal))).json()
    assert made["terminal"] == {
        "id": terminal.terminal_id, "name": "Till 1", "merchant": "North canteen", "site": "Hall 1",
    }  # fmt: skip
    assert made["business_types"] == ["self", "proxy"]
    async with house.as_person(person) as http:
        url = f"/v1/scans/{made['scan_id']}/business-type"
        chosen = (await http.post(url, json={"business_type": "proxy"})).json()
        again = (await http.post(url, json={"business_type": "proxy"})).json()
        other = await http.post(url, json={"business_type": "self"})
    assert chosen == again
    assert (chosen["terminal_id"], chosen["business_type"]) == (terminal.terminal_id, "proxy")
    assert (other.status_code, code_of(other)) == (409, "wrong-state")
    read = house.codes.read(chosen["registration_information"], RegistrationInformation)
    assert (read.scan_id, read.terminal_id, read.business_type) == (made["scan_id"], terminal.terminal_id, "proxy")


async def test_the_address_and_the_bare_code_are_both_understood_but_no_other_address(house: House) -> None:
    terminal, person = await house.terminal(), await house.person()
    url = await shown(terminal)
    bare = url.rsplit("/", 1)[-1]
    assert bare_code(url, PUBLIC_URL) == bare_code(bare, PUBLIC_URL + "/") == bare
    elsewhere = await scan(house, person, f"https://evil.example/s/{bare}")
    assert (elsewhere.status_code, code_of(elsewhere)) == (409, "check-code-altered")
    assert (await scan(house, person, bare)).status_code == 201


async def test_a_code_is_used_once(house: House) -> None:
    terminal, person = await house.terminal(), await house.person()
    code = await shown(terminal)
    assert (await scan(house, person, code)).status_code == 201
    for asker in (person, await house.person()):
        assert code_of(await scan(house, asker, code)) == "check-code-used"


async def test_of_fifty_scanners_at_once_one_has_the_code(house: House) -> None:
    code = await shown(await house.terminal())
    people = [await house.person() for _ in range(50)]
    answers = await asyncio.gather(*(scan(house, person, code) for person in people))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 49
    assert {code_of(answer) for answer in answers if answer.status_code == 409} == {"check-code-used"}


@pytest.mark.parametrize(("seconds", "good"), [(59, True), (61, False), (3600, False)])
async def test_a_code_lives_a_minute(db: Database, house: House, seconds: int, good: bool) -> None:
    terminal, person = await house.terminal(), await house.person()
    async with db.transaction() as conn:
        now = (await database_now(conn)).replace(microsecond=0)
        text = bare_code(
            issue_function_code(house.codes, PUBLIC_URL, terminal_id=terminal.terminal_id, now=now).url, PUBLIC_URL
        )
        later = now + timedelta(seconds=seconds)
        if good:
            await scan_function_code(conn, house.codes, text=text, asker=person, now=later)
        else:
            with pytest.raises(CheckCodeExpired):
                await scan_function_code(conn, house.codes, text=text, asker=person, now=later)


def test_of_a_thousand_bit_flips_none_is_read(keys: ServerKeys) -> None:
    codes, chance = Codes(keys), random.Random(20190111)
    code = codes.write(FunctionCode(new_id(), new_id(), 1_900_000_000))
    head, _, encoded = code.partition(".")
    sealed = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    for _ in range(1000):
        flipped = bytearray(sealed)
        flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
        with pytest.raises(CheckCodeAltered):
            codes.read(f"{head}.{base64.urlsafe_b64encode(flipped).decode().rstrip('=')}", FunctionCode)
    for _ in range(1000):
        text = bytearray(code.encode())
        text[chance.randrange(len(text))] ^= 1 << chance.randrange(8)
        with pytest.raises(CheckCodeAltered):
            codes.read(text.decode("latin-1"), FunctionCode)


def test_a_code_under_another_servers_key_or_of_another_kind_is_not_ours(keys: ServerKeys) -> None:
    foreign = Codes(ServerKeys.of([bytes(32)])).write(FunctionCode(new_id(), new_id(), 1_900_000_000))
    mine = Codes(keys).write(RegistrationInformation(new_id(), new_id(), "self", 1_900_000_000))
    for text in (foreign, mine, "K1F" + mine[3:], "", "K1F.", "K1F.====", "K2F.AAAA"):
        with pytest.raises(CheckCodeAltered):
            Codes(keys).read(text, FunctionCode)


async def test_a_code_of_a_revoked_terminal_is_expired(house: House) -> None:
    terminal, person = await house.terminal(), await house.person()
    code = await shown(terminal)
    await house.revoke(terminal.terminal_id)
    assert code_of(await scan(house, person, code)) == "check-code-expired"


async def test_a_code_of_another_operators_terminal_is_not_found_and_not_burnt(db: Database, house: House) -> None:
    terminal = await house.terminal()
    operator_id, _, _ = await another_operator(db)
    code = await shown(terminal)
    assert (await scan(house, await house.person(operator_id), code)).status_code == 404
    assert (await scan(house, await house.person(), code)).status_code == 201


async def test_a_terminal_stands_for_a_person_without_a_phone_with_its_own_code_only(house: House) -> None:
    terminal, other = await house.terminal(), await house.terminal()
    with pytest.raises(Problem, match="check-code-other-terminal"):
        await terminal.scan(await shown(other))
    made = await terminal.scan(await shown(terminal))
    with pytest.raises(Problem, match="404"):
        await other.choose(made["scan_id"], "proxy")
    chosen = await terminal.choose(made["scan_id"], "proxy")
    assert chosen["terminal_id"] == terminal.terminal_id


async def test_nobody_but_the_scanner_chooses(house: House) -> None:
    terminal, person, other = await house.terminal(), await house.person(), await house.person()
    made = (await scan(house, person, await shown(terminal))).json()
    async with house.as_person(other) as http:
        answer = await http.post(f"/v1/scans/{made['scan_id']}/business-type", json={"business_type": "self"})
    assert answer.status_code == 404
    with pytest.raises(Problem, match="404"):
        await terminal.choose(made["scan_id"], "self")


@pytest.mark.parametrize(
    "body", [{}, {"code": 5}, {"code": "x"}, {"code": "K1F.\u0000abcdef"}, {"code": "K1F.ab", "type": "self"}]
)
async def test_a_malformed_scan_is_refused_by_its_form(house: House, body: dict[str, Any]) -> None:
    async with house.as_person(await house.person()) as http:
        assert (await http.post("/v1/scans", json=body)).status_code == 422


# ------------------------------------------------------------------------------------------- using a scan


async def chosen_scan(house: House, asker: Actor, terminal_id: str) -> tuple[Chosen, datetime]:
    async with house.db.transaction() as conn:
        now = await database_now(conn)
        shown_code = issue_function_code(house.codes, PUBLIC_URL, terminal_id=terminal_id, now=now)
        text = bare_code(shown_code.url, PUBLIC_URL)
        made = await scan_function_code(conn, house.codes, text=text, asker=asker, now=now)
        chosen = await choose_business_type(
            conn, house.codes, scan_id=made.scan_id, business_type="proxy", asker=asker, now=now
        )
    return chosen, now


async def use(house: House, chosen: Chosen | str, asker: Actor, now: datetime) -> UsedScan:
    information = chosen if isinstance(chosen, str) else chosen.information
    async with house.db.transaction() as conn:
        return await use_scan(conn, house.codes, information=information, asker=asker, now=now)


async def test_a_registration_uses_a_scan_once(house: House) -> None:
    terminal, person = await house.terminal(), await house.person()
    chosen, now = await chosen_scan(house, person, terminal.terminal_id)
    results = await asyncio.gather(*(use(house, chosen, person, now) for _ in range(10)), return_exceptions=True)
    (used,) = (result for result in results if isinstance(result, UsedScan))
    assert sum(isinstance(result, CheckCodeUsed) for result in results) == 9
    assert (used.terminal_id, used.operator_id) == (terminal.terminal_id, house.operator_id)
    assert (used.business_type, used.person_id) == ("proxy", person.id)


async def test_a_scan_is_used_by_its_scanner_in_time_and_as_chosen(house: House) -> None:
    terminal, other, person = await house.terminal(), await house.terminal(), await house.person()
    chosen, now = await chosen_scan(house, person, terminal.terminal_id)
    with pytest.raises(NotFound):
        await use(house, chosen, await house.person(), now)
    with pytest.raises(NotFound):
        await use(house, chosen, actor_of(house, terminal), now)
    with pytest.raises(CheckCodeExpired):
        await use(house, chosen, person, now + timedelta(minutes=10, seconds=1))
    read = house.codes.read(chosen.information, RegistrationInformation)
    forged = RegistrationInformation(read.scan_id, read.terminal_id, "self", read.expires_s)
    with pytest.raises(CheckCodeAltered):
        await use(house, house.codes.write(forged), person, now)
    by_terminal, now = await chosen_scan(house, actor_of(house, terminal), terminal.terminal_id)
    with pytest.raises(CheckCodeOtherTerminal):
        await use(house, by_terminal, actor_of(house, other), now)
    assert (await use(house, by_terminal, actor_of(house, terminal), now)).person_id is None


async def test_a_scan_is_not_used_after_its_terminal_was_revoked(house: House) -> None:
    terminal, person = await house.terminal(), await house.person()
    chosen, now = await chosen_scan(house, person, terminal.terminal_id)
    await house.revoke(terminal.terminal_id)
    with pytest.raises(CheckCodeExpired):
        await use(house, chosen, person, now)
