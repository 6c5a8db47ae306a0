"""The three orders of binding, self-registration and the assisted elder, with the real bank, over HTTP."""

from __future__ import annotations

import base64
from datetime import UTC, date, datetime
from typing import Any

import pytest

from kinpay.biometrics import enrol
from kinpay.database.pool import database_now
from kinpay.mandates.credential import card_terms, issue_card, revoke_card
from kinpay.mandates.sign_agreement import learn_agreement, refresh_agreement
from kinpay.providers.contract import Inbound, ProviderAgreement
from kinpay.registrations.authorize import agreement_learned, carry_agreement
from tests.biometrics.test_templates import dump
from tests.registrations.house import PUBLIC_URL, TERMS, House, Somebody
from tests.sandbox.asking import Ear, until


async def returned(house: House, agreement_id: str) -> None:
    """The payer's browser comes back from the bank: what the return page does."""
    await refresh_agreement(house.db, house.providers, agreement_id, public_url=PUBLIC_URL)
    await carry_agreement(house.db, house.keyring, agreement_id=agreement_id)


async def called_back(house: House, ear: Ear) -> None:
    """The bank's callback comes: what the callback door does once it has stored it."""
    await until(lambda: bool(ear.heard))
    first, headers, body = ear.heard.pop()
    provider = await house.providers.adapter(house.provider_account_id)
    path, received_at = first.split()[1], datetime.now(UTC)
    seen = provider.receive(Inbound(method="POST", path=path, headers=headers, body=body, received_at=received_at)).seen
    assert isinstance(seen, ProviderAgreement)
    async with house.db.transaction() as conn:
        now = await database_now(conn)
        await learn_agreement(conn, seen.key, seen=seen, now=now)
        erased = await agreement_learned(conn, seen.key, now=now)
    await enrol.finish(house.keyring, erased)


async def test_order_a_consent_and_agreement_first_then_capture_then_bound(banked: House, ear: Ear) -> None:
    child, mother, terminal = await banked.person("xiaoyu"), await banked.person("mother", at_bank=True), banked.terminal()
    made = await child.requested("A", payer="mother", terminal=terminal)
    assert made["waiting_for"] == ["consent", "agreement", "enrolment"]
    assert made["capture"] is None
    assert [body["spender_name"] for body in await banked.notices("registration_requested", to=mother.id)] == ["Xiaoyu"]
    (listed,) = (await mother.get("/v1/registrations?role=payer"))["registrations"]
    assert "match_number" not in listed
    yes = await mother.approved(listed["registration_id"], number=made["match_number"])
    assert yes["waiting_for"] == ["agreement", "enrolment"]
    assert yes["agreement"]["state"] == "pending"
    assert await terminal.commands() == []
    await mother.sign(yes["agreement"]["sign_url"])
    await called_back(banked, ear)
    (told,) = [command for command in await terminal.commands() if command["kind"] == "capture"]
    assert set(told["guidance"]) == {"terminal", "spender"}
    assert len(await banked.notices("capture_guidance", to=child.id)) == 1
    seen = await child.look(made["registration_id"])
    assert seen["waiting_for"] == ["enrolment"]
    assert seen["capture"]["capture_id"] == told["capture_id"]
    taken = await terminal.capture(told["capture_id"])
    assert taken.json()["registration"]["state"] == "bound"
    await assert_bound(banked, made["registration_id"], child, mother, with_template=True)


async def assert_bound(
    house: House, registration_id: str, spender: Somebody, payer: Somebody, *, with_template: bool
) -> dict[str, Any]:
    """Everything that a binding is."""
    row = (await house.rows("SELECT * FROM registration WHERE id = $1", registration_id))[0]
    assert row["state"] == "bound"
    assert await house.value("SELECT state FROM mandate WHERE id = $1", row["mandate_id"]) == "active"
    query = "SELECT role FROM circle_member WHERE circle_id = $1 AND person_id = $2 AND ended_at IS NULL"
    roles = await house.rows(query, row["circle_id"], spender.id)
    assert "spender" in {found["role"] for found in roles}
    query = "SELECT kind FROM credential WHERE circle_id = $1 AND person_id = $2 AND state = 'active'"
    assert await house.value(query, row["circle_id"], spender.id) == "phone"
    for person in {spender.id, payer.id}:
        told = await house.notices("registration_bound", to=person)
        assert len([body for body in told if body["registration_id"] == registration_id]) == 1
    assert "registration.bound" in await house.events(registration_id)
    templates = await house.rows("SELECT id, key_id, provisional_until FROM template WHERE person_id = $1", spender.id)
    assert len(templates) == (1 if with_template else 0)
    for template in templates:
        assert template["provisional_until"] is None
        kinds = await house.events(template["id"])
        assert {"template.bound_to_payer", "template.bound_to_spender_and_payer", "template.confirmed"} <= set(kinds)
        assert template["key_id"] in await house.keyring.key_ids()
    return dict(row)


async def test_order_b_capture_at_once_and_bound_by_itself_when_the_payer_signs(banked: House) -> None:
    colleague, boss, terminal = await banked.person("colleague"), await banked.person("boss", at_bank=True), banked.terminal()
    made = await colleague.requested("B", payer="boss", terminal=terminal)
    assert made["capture"]["state"] == "asked"
    taken = await terminal.capture(made["capture"]["capture_id"])
    assert taken.json()["registration"]["waiting_for"] == ["consent", "agreement"]
    assert await banked.value("SELECT provisional_until > kinpay_now() FROM template") is True
    yes = await boss.approved(made["registration_id"], number=made["match_number"])
    assert await banked.value("SELECT provisional_until > kinpay_now() FROM template") is True
    await boss.sign(yes["agreement"]["sign_url"])
    await returned(banked, yes["agreement"]["agreement_id"])
    await assert_bound(banked, made["registration_id"], colleague, boss, with_template=True)


async def test_order_c_from_the_app_without_a_terminal_and_the_agreement_is_used_again(banked: House) -> None:
    first, second = await banked.person("first"), await banked.person("second")
    father = await banked.person("father", at_bank=True)
    made = await first.requested("C", payer="father")
    assert made["terminal"] is None
    assert made["checklist"] == {"consented": False, "agreement_active": False, "enrolled": None}
    yes = await father.approved(made["registration_id"], number=made["match_number"])
    await father.sign(yes["agreement"]["sign_url"])
    await returned(banked, yes["agreement"]["agreement_id"])
    bound = await assert_bound(banked, made["registration_id"], first, father, with_template=False)
    # 24a: the second spender needs no second signature; the bank only records them under the same agreement (claim 5).
    again = await second.requested("C", payer="father")
    done = await father.approved(again["registration_id"], number=again["match_number"], circle_id=bound["circle_id"])
    assert done["state"] == "bound"
    assert done["agreement"] == {"agreement_id": bound["agreement_id"], "state": "active", "sign_url": None}
    states = await banked.rows("SELECT spender_id, state FROM agreement_spender WHERE agreement_id = $1", bound["agreement_id"])
    assert {row["spender_id"]: row["state"] for row in states} == {first.id: "bound", second.id: "bound"}
    await assert_bound(banked, again["registration_id"], second, father, with_template=False)


async def test_who_registers_themself_is_their_own_payer(banked: House) -> None:
    person, terminal = await banked.person("li", at_bank=True), banked.terminal()
    made = await person.requested("A", payer=None, terminal=terminal)
    assert made["business_type"] == "self"
    yes = await person.approved(made["registration_id"], number=made["match_number"])
    await person.sign(yes["agreement"]["sign_url"])
    await returned(banked, yes["agreement"]["agreement_id"])
    (capture,) = [command for command in await terminal.commands() if command["kind"] == "capture"]
    assert (await terminal.capture(capture["capture_id"])).status_code == 200
    await assert_bound(banked, made["registration_id"], person, person, with_template=True)


async def test_a_minor_cannot_be_their_own_payer(house: House) -> None:
    child = await house.person("child", born=date(2015, 1, 1))
    answer = await child.request("C", payer=None)
    assert answer.status_code == 403


async def test_a_refusal_at_the_bank_takes_the_consent_back_and_the_payer_may_choose_again(banked: House) -> None:
    child, mother = await banked.person("child"), await banked.person("mother", at_bank=True)
    made = await child.requested("C", payer="mother")
    yes = await mother.approved(made["registration_id"], number=made["match_number"])
    await mother.refuse_at_bank(yes["agreement"]["sign_url"])
    await returned(banked, yes["agreement"]["agreement_id"])
    seen = await mother.look(made["registration_id"])
    assert seen["state"] == "open"
    assert seen["waiting_for"] == ["consent", "agreement"]
    assert len(await banked.notices("registration_unsigned", to=mother.id)) == 1
    again = await mother.approved(made["registration_id"], number=made["match_number"], circle_id=yes["circle_id"])
    await mother.sign(again["agreement"]["sign_url"])
    await returned(banked, again["agreement"]["agreement_id"])
    await assert_bound(banked, made["registration_id"], child, mother, with_template=False)


async def test_choosing_again_with_a_new_circle_leaves_the_circle_chosen_before_as_it_is(banked: House) -> None:
    child, mother = await banked.person("child"), await banked.person("mother", at_bank=True)
    opened = await mother.ask("POST", "/v1/circles", {"name": "Colleagues", "time_zone": "Europe/Paris"})
    before = opened.json()["id"]
    made = await child.requested("C", payer="mother")
    yes = await mother.approved(made["registration_id"], number=made["match_number"], circle_id=before)
    await mother.refuse_at_bank(yes["agreement"]["sign_url"])
    await returned(banked, yes["agreement"]["agreement_id"])
    again = await mother.approved(made["registration_id"], number=made["match_number"])
    assert again["circle_id"] != before
    kept = (await banked.rows("SELECT name, time_zone FROM circle WHERE id = $1", before))[0]
    assert (kept["name"], kept["time_zone"]) == ("Colleagues", "Europe/Paris")
    assert await banked.value("SELECT state FROM mandate WHERE circle_id = $1", before) == "ended", "nothing waits there"
    await mother.sign(again["agreement"]["sign_url"])
    await returned(banked, again["agreement"]["agreement_id"])
    await assert_bound(banked, made["registration_id"], child, mother, with_template=False)


async def test_the_bank_away_the_yes_counts_and_the_agreement_is_asked_for_later(banked: House) -> None:
    assert banked.control is not None
    child, mother = await banked.person("child"), await banked.person("mother", at_bank=True)
    made = await child.requested("C", payer="mother")
    await banked.control.misbehave("agreement", "drop_after_commit")
    answer = await mother.approve(made["registration_id"], number=made["match_number"], key="once")
    assert answer.status_code == 200
    assert answer.json()["agreement"] == {
        "agreement_id": answer.json()["agreement"]["agreement_id"], "state": "created", "sign_url": None,
    }  # fmt: skip
    await returned(banked, answer.json()["agreement"]["agreement_id"])
    seen = await mother.look(made["registration_id"])
    await mother.sign(seen["agreement"]["sign_url"])
    await returned(banked, answer.json()["agreement"]["agreement_id"])
    await assert_bound(banked, made["registration_id"], child, mother, with_template=False)


async def test_the_same_yes_sent_twice_is_one_and_hears_what_is_so_now(banked: House) -> None:
    child, mother = await banked.person("child"), await banked.person("mother", at_bank=True)
    made = await child.requested("C", payer="mother")
    new = {"name": "Wang family", "time_zone": "Asia/Shanghai"}
    proof = await mother.proof(made["registration_id"], circle=new)
    number = made["match_number"]
    first = await mother.approve(made["registration_id"], number=number, key="same", proof=proof)
    await mother.sign(first.json()["agreement"]["sign_url"])
    await returned(banked, first.json()["agreement"]["agreement_id"])
    second = await mother.approve(made["registration_id"], number=number, key="same", proof=proof)
    assert second.headers["idempotency-replayed"] == "true"
    assert (first.json()["state"], second.json()["state"]) == ("open", "bound")
    assert await banked.value("SELECT count(*) FROM circle") == 1
    assert await banked.value("SELECT count(*) FROM agreement") == 1


async def test_an_elder_without_a_phone_is_registered_by_the_terminal_and_gets_a_card_at_once(banked: House) -> None:
    daughter, terminal = await banked.person("daughter", at_bank=True), banked.terminal()
    made = (await terminal.request("B")).json()
    assert (made["spender_name"], made["waiting_for"]) == ("Chen", ["consent", "agreement", "enrolment"])
    registration_id = made["registration_id"]
    assert (await terminal.capture(made["capture"]["capture_id"])).status_code == 200
    printed = await terminal.ask("POST", f"/v1/terminal/registrations/{registration_id}/card", {"pin": "4711"})
    assert printed.status_code == 201, printed.text
    assert printed.json()["qr_svg"].startswith("<svg")
    yes = await daughter.approved(registration_id, number=made["match_number"])
    await daughter.sign(yes["agreement"]["sign_url"])
    await returned(banked, yes["agreement"]["agreement_id"])
    row = (await banked.rows("SELECT * FROM registration WHERE id = $1", registration_id))[0]
    assert row["state"] == "bound"
    assert await banked.value("SELECT name FROM circle WHERE id = $1", row["circle_id"]) == "Wang family"
    credentials = await banked.rows("SELECT id, circle_id, kind, state FROM credential")
    assert [(found["id"], found["circle_id"], found["kind"], found["state"]) for found in credentials] == [
        (printed.json()["credential_id"], row["circle_id"], "card", "active")
    ], "the card printed before the consent is the one that pays now"
    shown = [command["message"] for command in await terminal.commands() if command["kind"] == "show"]
    assert shown == ["registration_approved", "registration_bound"]
    assert await banked.notices("registration_bound") == await banked.notices("registration_bound", to=daughter.id)
    again = await terminal.ask("POST", f"/v1/terminal/registrations/{registration_id}/card", {"pin": "0000"})
    assert again.status_code == 409, "a terminal does not replace a card that pays"
    async with banked.db.transaction() as conn:
        await revoke_card(conn, credential_id=printed.json()["credential_id"], person_id=daughter.id)
    again = await terminal.ask("POST", f"/v1/terminal/registrations/{registration_id}/card", {"pin": "0000"})
    assert again.status_code == 409, "nor one that the payer has revoked"


async def test_a_payer_who_has_a_circle_takes_the_elder_in_and_the_card_is_printed_anew(banked: House) -> None:
    daughter, terminal = await banked.person("daughter", at_bank=True), banked.terminal()
    opened = await daughter.ask("POST", "/v1/circles", {"name": "Home", "time_zone": "Asia/Shanghai"})
    circle_id = opened.json()["id"]
    made = (await terminal.request("B")).json()
    registration_id = made["registration_id"]
    path = f"/v1/terminal/registrations/{registration_id}/card"
    old = (await terminal.ask("POST", path, {"pin": "4711"})).json()
    await terminal.capture(made["capture"]["capture_id"])
    yes = await daughter.approved(registration_id, number=made["match_number"], circle_id=circle_id)
    assert await banked.value("SELECT state FROM credential WHERE id = $1", old["credential_id"]) == "revoked"
    await daughter.sign(yes["agreement"]["sign_url"])
    await returned(banked, yes["agreement"]["agreement_id"])
    assert (await terminal.look(registration_id))["state"] == "bound"
    new = await terminal.ask("POST", path, {"pin": "4711"})
    assert new.status_code == 201
    assert await banked.value("SELECT circle_id FROM credential WHERE id = $1", new.json()["credential_id"]) == circle_id
    query = "SELECT count(*) FROM circle_member WHERE circle_id <> $1"
    assert await banked.value(query, circle_id) == 0, "nobody is in the circle that was left behind"


async def test_the_payer_may_be_named_by_a_printed_card(banked: House) -> None:
    daughter, terminal = await banked.person("daughter"), banked.terminal()
    circle_id = (await daughter.ask("POST", "/v1/circles", {"name": "Home", "time_zone": "Asia/Shanghai"})).json()["id"]
    async with banked.db.transaction() as conn:
        made = await issue_card(
            conn, banked.codes, keys=banked.keys, circle_id=circle_id, person_id=daughter.id, terms=card_terms("CNY"),
            pin=None, now=await database_now(conn),
        )  # fmt: skip
    asked = await terminal.request("B", payer=None, payer_card=made.code)
    assert asked.status_code == 201, asked.text
    assert asked.json()["payer_account"] is None, "a card does not spell out whose it is"
    assert len(await banked.notices("registration_requested", to=daughter.id)) == 1
    flipped = made.code[:-3] + ("AAA" if made.code[-3:] != "AAA" else "BBB")
    assert (await terminal.request("B", payer=None, payer_card=flipped)).status_code == 422
    both = await terminal.request("B", payer="daughter", payer_card=made.code)
    assert both.status_code == 422


@pytest.mark.parametrize("circle", ["of nobody", "of another"])
async def test_a_yes_in_a_circle_that_is_not_the_payers_is_not_found(banked: House, circle: str) -> None:
    child, mother, stranger = await banked.person("child"), await banked.person("mother"), await banked.person("stranger")
    made = await child.requested("C", payer="mother")
    other = (await stranger.ask("POST", "/v1/circles", {"name": "Theirs", "time_zone": "Asia/Shanghai"})).json()["id"]
    circle_id = other if circle == "of another" else "0" * 32
    answer = await mother.approve(made["registration_id"], number=made["match_number"], circle_id=circle_id)
    assert answer.status_code == 404
    assert await banked.value("SELECT count(*) FROM mandate") == 0


async def test_no_template_is_in_the_clear_in_any_table_or_answer(banked: House, database_url: str) -> None:
    colleague, _, terminal = await banked.person("colleague"), await banked.person("boss"), banked.terminal()
    made = await colleague.requested("B", payer="boss", terminal=terminal)
    answer = await terminal.capture(made["capture"]["capture_id"])
    everything = await dump(database_url)
    for hidden in (b"canary-of-a-face", base64.b64encode(b"canary-of-a-face"), b"canary-of-a-face".hex().encode()):
        assert hidden not in everything
        assert hidden not in answer.content
    assert TERMS["currency"] == "CNY"
