"""Who may do what (A01), how often somebody is disturbed (A02), and what a stranger can find out (A03): nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date
from typing import Any

import pytest

from kinpay.database.pool import Database
from kinpay.registrations.registration import Rules
from tests.conftest import set_clock
from tests.registrations.house import TERMS, House, Somebody, Terminal, in_minutes


async def test_a01_nobody_but_the_payer_asked_can_answer_and_nobody_sees_a_foreign_registration(house: House) -> None:
    spender, payer, terminal = await house.person("spender"), await house.person("payer"), house.terminal()
    other_payer, stranger, other_terminal = (
        await house.person("other"),
        await house.person("stranger"),
        await house.second_terminal(),
    )
    made = await spender.requested("B", payer="payer", terminal=terminal)
    registration_id, number = made["registration_id"], made["match_number"]
    for asker in (spender, other_payer, stranger):
        answer = await asker.approve(registration_id, number=number)
        assert answer.status_code == 404, f"{asker.account} approves"
        assert (await asker.refuse(registration_id)).status_code == 404
    for asker in (terminal, other_terminal):
        body = {"new_circle": {"name": "x", "time_zone": "UTC"}, "terms": TERMS, "provider_account_id": "0" * 32,
                "match_number": number}  # fmt: skip
        answer = await asker.ask("POST", f"/v1/registrations/{registration_id}/approve", body)
        assert answer.status_code == 403
        refused = await asker.ask("POST", f"/v1/registrations/{registration_id}/refuse", {})
        assert refused.status_code == 403
    nobody = await house.client.post(f"/v1/registrations/{registration_id}/refuse", json={})
    assert nobody.status_code == 401
    for asker in (other_payer, stranger, other_terminal):
        assert (await asker.ask("GET", f"/v1/registrations/{registration_id}")).status_code == 404
        assert (await asker.ask("POST", f"/v1/registrations/{registration_id}/withdraw")).status_code == 404
    assert (await payer.ask("POST", f"/v1/registrations/{registration_id}/withdraw")).status_code == 404
    assert (await terminal.ask("POST", f"/v1/registrations/{registration_id}/withdraw")).status_code == 404
    path = f"/v1/terminal/captures/{made['capture']['capture_id']}"
    assert (await other_terminal.ask("POST", path, {"failed": "x"})).status_code == 404
    assert (await spender.ask("POST", path, {"failed": "x"})).status_code == 403
    session = {"x-terminal-session": terminal.id, "idempotency-key": "k"}
    by_session = await house.client.post(path, json={"failed": "x"}, headers=session)
    assert by_session.status_code == 401, "captures carry the terminal's own signature"
    card = f"/v1/terminal/registrations/{registration_id}/card"
    assert (await terminal.ask("POST", card, {"pin": "4711"})).status_code == 404, "the spender has a phone"
    assert await house.value("SELECT count(*) FROM mandate") == 0
    assert await house.value("SELECT state FROM registration") == "open"
    assert (await payer.look(registration_id))["seen_as"] == "payer"
    assert (await spender.look(registration_id))["seen_as"] == "spender"
    assert (await terminal.look(registration_id))["seen_as"] == "terminal"


async def test_the_requester_can_never_be_the_payer_of_a_proxy_registration(house: House) -> None:
    spender = await house.person("spender")
    made = await spender.requested("C", payer="spender")
    assert (await spender.approve(made["registration_id"], number=made["match_number"])).status_code == 404
    assert await house.value("SELECT payer_id FROM registration") is None


async def test_a_yes_without_the_spenders_number_is_refused_and_costs_the_proof(house: House) -> None:
    spender, payer = await house.person("spender"), await house.person("payer")
    made = await spender.requested("C", payer="payer")
    new = {"name": "Wang family", "time_zone": "Asia/Shanghai"}
    proof = await payer.proof(made["registration_id"], circle=new)
    wrong = made["match_number"] - 1
    refused = await payer.approve(made["registration_id"], number=wrong, proof=proof)
    assert refused.json()["code"] == "match-number-wrong"
    again = await payer.approve(made["registration_id"], number=made["match_number"], proof=proof)
    assert again.json()["code"] == "proof-invalid"
    assert "registration.match_number_wrong" in await house.events(made["registration_id"])
    assert await house.value("SELECT consented_at FROM registration") is None


@pytest.mark.parametrize("change", ["terms", "circle", "none"])
async def test_a_yes_is_bound_to_exactly_what_was_proven(house: House, change: str) -> None:
    spender, payer = await house.person("spender"), await house.person("payer")
    made = await spender.requested("C", payer="payer")
    new = {"name": "Wang family", "time_zone": "Asia/Shanghai"}
    proof = await payer.proof(made["registration_id"], circle=new)
    higher = {**TERMS, "limits": [{"metric": "amount", "window": "day", "at_most": 999_900, "filter": {}}]}
    body: dict[str, Any] = {
        "new_circle": {**new, "name": "Other"} if change == "circle" else new,
        "terms": higher if change == "terms" else TERMS,
        "provider_account_id": house.provider_account_id or "0" * 32,
        "match_number": made["match_number"],
        "proof": None if change == "none" else proof,
    }
    answer = await payer.ask("POST", f"/v1/registrations/{made['registration_id']}/approve", body)
    assert answer.json()["code"] == ("proof-required" if change == "none" else "proof-invalid")


async def test_a02_a_hundred_requests_to_one_payer_are_three_notices(house: House) -> None:
    payer = await house.person("payer")
    spenders = [await house.person(f"spender{number}") for number in range(20)]

    async def ask(spender: Somebody) -> list[int]:
        return [(await spender.request("C", payer="payer")).status_code for _ in range(5)]

    statuses = [status for some in await asyncio.gather(*(ask(spender) for spender in spenders)) for status in some]
    assert statuses == [201] * 100, "whoever asks cannot tell that the payer is not disturbed any more"
    assert len(await house.notices("registration_requested", to=payer.id)) == 3
    assert len((await payer.get("/v1/registrations?role=payer"))["registrations"]) == 3


async def test_withdrawing_and_asking_again_does_not_get_around_the_cap_of_a_day(house: House) -> None:
    payer = await house.person("payer")
    for number in range(6):
        spender = await house.person(f"spender{number}")
        for _ in range(5):
            made = await spender.requested("C", payer="payer")
            await spender.ask("POST", f"/v1/registrations/{made['registration_id']}/withdraw")
    assert len(await house.notices("registration_requested", to=payer.id)) == Rules().per_payer_per_day


async def test_a_spenders_own_cap_is_told_to_them_and_ends_by_itself(house: House) -> None:
    await house.person("payer")
    spender = await house.person("spender")
    for _ in range(Rules().per_spender_per_day):
        await spender.requested("C", payer="payer")
    refused = await spender.request("C", payer="payer")
    assert refused.status_code == 429
    assert 86_000 < int(refused.headers.get("retry-after", refused.json().get("retry_after_s", 0))) <= 86_401
    async with house.db.transaction() as conn:
        await set_clock(conn, await in_minutes(house, 24 * 60 + 1))
    assert (await spender.request("C", payer="payer")).status_code == 201


async def test_a_refused_spender_cools_down_and_a_blocked_one_never_comes_through_until_taken_back(house: House) -> None:
    payer, spender, rude = await house.person("payer"), await house.person("spender"), await house.person("rude")
    for who, block in ((spender, False), (rude, True)):
        made = await who.requested("C", payer="payer")
        assert (await payer.refuse(made["registration_id"], block=block)).json()["state"] == "refused"
        assert (await who.look(made["registration_id"]))["state"] == "refused"
    for who in (spender, rude):
        await who.requested("C", payer="payer")
    assert len(await house.notices("registration_requested", to=payer.id)) == 2
    async with house.db.transaction() as conn:
        await set_clock(conn, await in_minutes(house, 24 * 60 + 1))
    for who in (spender, rude):
        await who.requested("C", payer="payer")
    assert len(await house.notices("registration_requested", to=payer.id)) == 3
    (block,) = (await payer.get("/v1/registration-blocks"))["blocks"]
    assert block["spender_id"] == rude.id
    assert (await payer.ask("DELETE", f"/v1/registration-blocks/{rude.id}")).status_code == 204
    assert (await payer.ask("DELETE", f"/v1/registration-blocks/{rude.id}")).status_code == 404
    await rude.requested("C", payer="payer")
    assert len(await house.notices("registration_requested", to=payer.id)) == 4


Making = Callable[[House], Awaitable[None]]


async def _reachable(house: House) -> None:
    await house.person("payer")


async def _nobody(house: House) -> None:
    return None


async def _minor(house: House) -> None:
    await house.person("payer", born=date(2015, 1, 1))


async def _of_unknown_age(house: House) -> None:
    await house.person("payer", born=None)


async def _closed(house: House) -> None:
    payer = await house.person("payer")
    async with house.db.transaction() as conn:
        await conn.execute("UPDATE person SET state = 'closed' WHERE id = $1", payer.id)


async def _of_another_operator(house: House) -> None:
    payer = await house.person("payer")
    async with house.db.transaction() as conn:
        other = "0" * 31 + "1"
        await conn.execute("INSERT INTO operator VALUES ($1, 'Other', 'Asia/Shanghai', kinpay_now())", other)
        await conn.execute("UPDATE person SET operator_id = $2 WHERE id = $1", payer.id, other)


async def _busy(house: House) -> None:
    await house.person("payer")
    for number in range(3):
        await (await house.person(f"early{number}")).requested("C", payer="payer")


async def _blocking(house: House) -> None:
    payer, spender = await house.person("payer"), await house.person("early")
    made = await spender.requested("C", payer="payer")
    await payer.refuse(made["registration_id"], block=True)
    async with house.db.transaction() as conn:
        await conn.execute("UPDATE person SET account = 'spender', display_name = 'Spender' WHERE id = $1", spender.id)


SILENT: dict[str, Making] = {
    "nobody": _nobody, "minor": _minor, "unknown age": _of_unknown_age, "closed": _closed,
    "another operator": _of_another_operator, "busy": _busy, "blocking": _blocking,
}  # fmt: skip


def shape(value: Any) -> Any:
    """An answer with only its form left: which fields, of which types, in which states."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    return value if isinstance(value, bool | None) or (isinstance(value, str) and len(value) < 12) else type(value).__name__


async def watch(house: House) -> tuple[Any, ...]:
    """All that a spender can see of a request: answer, looks, list, withdrawal, and what each cost in statements."""
    rows = await house.rows("SELECT id FROM person WHERE account = 'spender'")
    spender = Somebody(house, rows[0]["id"], "spender") if rows else await house.person("spender")
    terminal = house.terminal()
    # The very first event of an operator opens its audit lane, which costs two statements more.
    await (await house.person("first")).requested("C", payer="somebody")
    seen: list[Any] = []
    for order in ("C", "B"):
        body: dict[str, Any] = {"binding_order": order, "payer_account": "payer"}
        if order == "B":
            body["registration_information"] = await spender.information(terminal)
        house.counted.taken()
        made = await spender.ask("POST", "/v1/registrations", body)
        seen.append((made.status_code, shape(made.json()), house.counted.taken()))
        path = f"/v1/registrations/{made.json()['registration_id']}"
        looked = await spender.ask("GET", path)
        seen.append((looked.status_code, shape(looked.json()), house.counted.taken()))
        withdrawn = await spender.ask("POST", path + "/withdraw")
        seen.append((withdrawn.status_code, shape(withdrawn.json()), house.counted.taken()))
    own = await house.rows(
        "SELECT body FROM outbox WHERE topic LIKE 'notice.%' AND body -> 'people' ? $1 ORDER BY id", spender.id
    )
    seen.append([shape({name: one for name, one in row["body"].items() if name != "people"}) for row in own][-3:])
    return tuple(seen)


@pytest.fixture(scope="session")
def reached() -> dict[str, Any]:
    """What a spender sees whose payer was reached; filled by the first test that needs it."""
    return {}


@pytest.mark.parametrize("case", SILENT)
async def test_a03_a_payer_who_is_not_told_looks_like_one_who_is_silent(
    house: House, db: Database, reached: dict[str, Any], case: str
) -> None:
    await SILENT[case](house)
    before = len(await house.notices("registration_requested"))
    seen = await watch(house)
    assert len(await house.notices("registration_requested")) == before, "the payer is not disturbed"
    reached.setdefault("silent", seen)
    assert seen == reached["silent"]


async def test_a03_and_so_does_one_who_was_told(house: House, reached: dict[str, Any]) -> None:
    await _reachable(house)
    seen = await watch(house)
    assert len(await house.notices("registration_requested")) == 2
    assert seen == reached.setdefault("silent", seen)


async def test_order_b_is_refused_for_minors_and_unknown_ages_unless_the_operator_allows_it(house: House) -> None:
    terminal = house.terminal()
    for account, born in (("child", date(2018, 1, 1)), ("unknown", None)):
        person = await house.person(account, born=born)
        information = await person.information(terminal)
        body = {"binding_order": "B", "payer_account": "payer", "registration_information": information}
        refused = await person.ask("POST", "/v1/registrations", body)
        assert refused.json()["code"] == "consent-first"
        taken = await person.ask("POST", "/v1/registrations", {**body, "binding_order": "A"})
        assert taken.status_code == 201, "the scan is still good for the other order"
        assert taken.json()["capture"] is None
    assisted = await terminal.request("B", birth_date=None)
    assert assisted.json()["code"] == "consent-first"
    assert await house.value("SELECT count(*) FROM capture") == 0


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"binding_order": "A", "payer_account": "payer"}, "registration_information_missing"),
        ({"binding_order": "B"}, "registration_information_missing"),
    ],
)
async def test_orders_with_a_capture_need_a_scan(house: House, body: dict[str, Any], reason: str) -> None:
    spender = await house.person("spender")
    answer = await spender.ask("POST", "/v1/registrations", body)
    assert (answer.status_code, answer.json()["reason"]) == (422, reason)


async def test_the_business_type_of_the_code_decides_who_pays(house: House) -> None:
    spender, terminal = await house.person("spender"), house.terminal()
    for business_type, payer in (("self", "payer"), ("proxy", None)):
        information = await spender.information(terminal, business_type)
        body = {"binding_order": "A", "payer_account": payer, "registration_information": information}
        answer = await spender.ask("POST", "/v1/registrations", body)
        assert answer.json()["reason"] == "payer_does_not_fit_business_type"


async def test_a_scan_is_used_once_by_who_made_it(house: House) -> None:
    spender, other, terminal = await house.person("spender"), await house.person("other"), house.terminal()
    information = await spender.information(terminal)
    body = {"binding_order": "A", "payer_account": "payer", "registration_information": information}
    assert (await other.ask("POST", "/v1/registrations", body)).status_code == 404
    answers = await asyncio.gather(*(spender.ask("POST", "/v1/registrations", body) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9
    assert await house.value("SELECT count(*) FROM registration") == 1


async def test_the_same_request_sent_twice_is_one(house: House) -> None:
    spender, terminal = await house.person("spender"), house.terminal()
    information = await spender.information(terminal)
    body = {"binding_order": "A", "payer_account": "payer", "registration_information": information}
    first = await spender.ask("POST", "/v1/registrations", body, key="same")
    second = await spender.ask("POST", "/v1/registrations", body, key="same")
    assert first.json() == second.json()
    assert second.headers["idempotency-replayed"] == "true"


async def test_a_terminal_may_not_have_too_many_open_requests(house: House) -> None:
    terminal = Terminal(house, house.place.terminal_id)
    statuses = [(await terminal.request("A")).status_code for _ in range(Rules().open_per_terminal + 1)]
    assert statuses == [201] * Rules().open_per_terminal + [429]
