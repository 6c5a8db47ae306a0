"""Nobody answers, somebody refuses, a capture fails: everything provisional is destroyed in time, both sides are told (A12)."""

from __future__ import annotations

import pytest

from kinpay.biometrics import enrol
from kinpay.mandates.end_mandate import end_mandate
from kinpay.registrations.expire import expire_provisional, expire_registrations
from tests.conftest import set_clock
from tests.registrations.house import House, in_minutes
from tests.registrations.test_orders import returned


async def later(house: House, minutes: float) -> None:
    """Turns the clock on."""
    moment = await in_minutes(house, minutes)
    async with house.db.transaction() as conn:
        await set_clock(conn, moment)


async def assert_nothing_is_kept(house: House) -> None:
    """No ciphertext and no key of any template."""
    assert await house.value("SELECT count(*) FROM template WHERE ciphertext IS NOT NULL") == 0
    assert await house.keyring.key_ids() == []


async def test_nobody_answers_the_request_expires_and_both_are_told(house: House) -> None:
    spender, payer, terminal = await house.person("spender"), await house.person("payer"), house.terminal()
    made = await spender.requested("A", payer="payer", terminal=terminal)
    assert await expire_registrations(house.db, house.keyring) == 0
    await later(house, 24 * 60 + 1)
    refused = await payer.approve(made["registration_id"], number=made["match_number"])
    assert refused.json()["code"] == "wrong-state", "too late even before the sweep"
    assert await expire_registrations(house.db, house.keyring) == 1
    assert await expire_registrations(house.db, house.keyring) == 0
    assert (await spender.look(made["registration_id"]))["state"] == "expired"
    for person in (spender, payer):
        assert len(await house.notices("registration_expired", to=person.id)) == 1
    assert (await payer.refuse(made["registration_id"])).json()["code"] == "wrong-state"


async def test_a12_a_provisional_template_is_gone_after_its_minutes_though_the_request_is_open(house: House) -> None:
    spender, payer, terminal = await house.person("spender"), await house.person("payer"), house.terminal()
    made = await spender.requested("B", payer="payer", terminal=terminal)
    assert (await terminal.capture(made["capture"]["capture_id"])).status_code == 200
    await later(house, 14)
    assert await expire_provisional(house.db, house.keyring) == 0
    assert len(await house.keyring.key_ids()) == 1
    await later(house, 1.1)
    assert await expire_provisional(house.db, house.keyring) == 1
    await assert_nothing_is_kept(house)
    seen = await spender.look(made["registration_id"])
    assert (seen["state"], seen["waiting_for"]) == ("open", ["consent", "agreement", "enrolment"])
    assert len(await house.notices("capture_lapsed", to=spender.id)) == 1
    assert not await house.notices("capture_lapsed", to=payer.id)


@pytest.mark.parametrize("swept", [True, False])
async def test_when_the_payer_agrees_after_the_minutes_a_new_capture_is_asked_for(banked: House, swept: bool) -> None:
    spender, payer, terminal = await banked.person("spender"), await banked.person("payer", at_bank=True), banked.terminal()
    made = await spender.requested("B", payer="payer", terminal=terminal)
    await terminal.capture(made["capture"]["capture_id"])
    await later(banked, 16)
    if swept:
        await expire_provisional(banked.db, banked.keyring)
    yes = await payer.approved(made["registration_id"], number=made["match_number"])
    assert yes["waiting_for"] == ["agreement", "enrolment"]
    await assert_nothing_is_kept(banked)
    again = (await spender.look(made["registration_id"]))["capture"]
    assert again["state"] == "asked"
    assert again["capture_id"] != made["capture"]["capture_id"]
    assert (await terminal.capture(again["capture_id"])).status_code == 200


@pytest.mark.parametrize("who", ["payer refuses", "spender withdraws", "nobody answers"])
async def test_a12_an_end_destroys_what_was_captured_at_once_with_a_receipt(house: House, who: str) -> None:
    spender, payer, terminal = await house.person("spender"), await house.person("payer"), house.terminal()
    made = await spender.requested("B", payer="payer", terminal=terminal)
    await terminal.capture(made["capture"]["capture_id"])
    template_id = await house.value("SELECT id FROM template")
    path = f"/v1/registrations/{made['registration_id']}/withdraw"
    if who == "payer refuses":
        assert (await payer.refuse(made["registration_id"])).status_code == 200
        assert (await payer.refuse(made["registration_id"])).status_code == 200, "twice is as good as once"
    elif who == "spender withdraws":
        assert (await spender.ask("POST", path)).json()["state"] == "withdrawn"
        assert (await spender.ask("POST", path)).json()["state"] == "withdrawn"
    else:
        await later(house, 24 * 60 + 1)
        await expire_registrations(house.db, house.keyring)
    await assert_nothing_is_kept(house)
    tasks = await house.rows("SELECT subject_id, body FROM outbox WHERE topic = $1", enrol.KEY_TASK)
    assert [row["subject_id"] for row in tasks] == [template_id]
    await enrol.destroy_key(house.db, house.keyring, template_id=template_id, **tasks[0]["body"])
    assert await house.events(template_id) == ["template.enrolled", "template.destroyed", "template.key_destroyed"]


async def test_an_unfinished_capture_is_taken_back_when_the_request_ends(house: House) -> None:
    spender, payer, terminal = await house.person("spender"), await house.person("payer"), house.terminal()
    made = await spender.requested("B", payer="payer", terminal=terminal)
    await payer.refuse(made["registration_id"])
    kinds = [(command["kind"], command["done"]) for command in await terminal.commands()]
    assert kinds == [("capture", True), ("cancel_capture", False)]
    late = await terminal.capture(made["capture"]["capture_id"])
    assert late.json()["code"] == "wrong-state"
    await assert_nothing_is_kept(house)


async def test_a_failed_capture_is_told_and_resumed_at_another_terminal_of_the_operator(house: House) -> None:
    spender, terminal, other = await house.person("spender"), house.terminal(), await house.second_terminal()
    await house.person("payer")
    made = await spender.requested("B", payer="payer", terminal=terminal)
    first = made["capture"]["capture_id"]
    failed = await terminal.capture(first, failed="too dark")
    assert failed.json()["state"] == "failed"
    assert (await house.notices("capture_failed", to=spender.id))[0]["reason"] == "too dark"
    resumed = await other.ask("POST", f"/v1/terminal/captures/{first}/resume")
    assert resumed.status_code == 200, resumed.text
    second = resumed.json()["capture_id"]
    again = await other.ask("POST", f"/v1/terminal/captures/{second}/resume")
    assert again.json()["capture_id"] == second, "asking twice is the same"
    assert (await terminal.capture(first)).json()["code"] == "wrong-state"
    assert (await terminal.capture(second)).status_code == 404
    assert (await other.capture(second)).status_code == 200
    assert (await other.ask("POST", f"/v1/terminal/captures/{second}/resume")).json()["code"] == "wrong-state"
    assert await house.value("SELECT captured_by FROM template") == other.id


async def test_taking_over_an_open_capture_stops_the_first_terminal(house: House) -> None:
    spender, terminal, other = await house.person("spender"), house.terminal(), await house.second_terminal()
    made = await spender.requested("B", payer="payer", terminal=terminal)
    await other.ask("POST", f"/v1/terminal/captures/{made['capture']['capture_id']}/resume")
    assert (await terminal.capture(made["capture"]["capture_id"])).json()["code"] == "wrong-state"
    assert [command["kind"] for command in await terminal.commands()] == ["capture", "cancel_capture"]


async def test_a_terminal_that_gives_up_its_command_has_failed_to_capture(house: House) -> None:
    spender, terminal = await house.person("spender"), house.terminal()
    made = await spender.requested("B", payer="payer", terminal=terminal)
    (command,) = await terminal.commands()
    done = await terminal.ask("POST", f"/v1/terminal/commands/{command['id']}/done", {"ok": False, "reason": "no camera"})
    assert done.status_code == 204, done.text
    seen = await spender.look(made["registration_id"])
    assert (seen["capture"]["state"], seen["capture"]["reason"]) == ("failed", "no camera")


async def test_a_terminal_of_another_operator_cannot_resume(house: House) -> None:
    spender, terminal, other = await house.person("spender"), house.terminal(), await house.second_terminal()
    made = await spender.requested("B", payer="payer", terminal=terminal)
    async with house.db.transaction() as conn:
        operator_id = "0" * 31 + "1"
        await conn.execute("INSERT INTO operator VALUES ($1, 'Other', 'Asia/Shanghai', kinpay_now())", operator_id)
        await conn.execute("UPDATE terminal SET operator_id = $2 WHERE id = $1", other.id, operator_id)
    answer = await other.ask("POST", f"/v1/terminal/captures/{made['capture']['capture_id']}/resume")
    assert answer.status_code == 404


async def test_a_refusal_after_the_consent_ends_the_pending_mandate_and_the_elders_card(banked: House) -> None:
    daughter, terminal = await banked.person("daughter", at_bank=True), banked.terminal()
    made = (await terminal.request("B")).json()
    path = f"/v1/terminal/registrations/{made['registration_id']}/card"
    await terminal.ask("POST", path, {"pin": "4711"})
    await terminal.capture(made["capture"]["capture_id"])
    await daughter.approved(made["registration_id"], number=made["match_number"])
    assert (await daughter.refuse(made["registration_id"])).status_code == 200
    assert await banked.value("SELECT state FROM mandate") == "ended"
    assert await banked.value("SELECT state FROM credential") == "revoked"
    await assert_nothing_is_kept(banked)
    assert [command["message"] for command in await terminal.commands() if command["kind"] == "show"] == [
        "registration_approved", "registration_refused",
    ]  # fmt: skip
    assert (await terminal.ask("POST", path, {"pin": "4711"})).json()["code"] == "wrong-state"


async def test_a_terminal_takes_an_assisted_request_back(house: House) -> None:
    terminal, other = house.terminal(), await house.second_terminal()
    made = (await terminal.request("A")).json()
    path = f"/v1/registrations/{made['registration_id']}/withdraw"
    assert (await other.ask("POST", path)).status_code == 404
    assert (await terminal.ask("POST", path)).json()["state"] == "withdrawn"


async def test_a_mandate_revoked_before_the_last_item_makes_it_a_refusal(banked: House) -> None:
    spender, payer, terminal = await banked.person("spender"), await banked.person("payer", at_bank=True), banked.terminal()
    made = await spender.requested("B", payer="payer", terminal=terminal)
    await terminal.capture(made["capture"]["capture_id"])
    yes = await payer.approved(made["registration_id"], number=made["match_number"])
    async with banked.db.transaction() as conn:
        await end_mandate(conn, mandate_id=yes["mandate_id"], person_id=payer.id)
    await payer.sign(yes["agreement"]["sign_url"])
    await returned(banked, yes["agreement"]["agreement_id"])
    seen = await payer.look(made["registration_id"])
    assert seen["state"] != "bound"
    if seen["state"] == "open":
        assert "agreement" in seen["waiting_for"], "the provider has dropped the spender again"
