"""Registration end to end, through the wired server and the real bank: every order, and every way in which it fails.

What single functions do is tested beside them; here it is what people, terminals and the bank see of it.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import pytest_asyncio

from kinpay.cli.demo.cast import Player, until
from kinpay_client import Problem, new_key
from kinpay_sandbox.person import PageRefusedError
from kinpay_sandbox.remote import Forgery
from tests.stories.asking import bound_by_app, by_phone, limit, reasons, terms
from tests.stories.conftest import ZONE, House, Mall

CIRCLE = {"name": "林家", "time_zone": ZONE}
TERMS = terms(limit("amount", "day", 5_000))


@pytest_asyncio.fixture
async def payer(house: House) -> Player:
    """A mother with 1,000.00 at the bank."""
    return await house.join("mother", name="林梅", balance_minor=100_000)


@pytest_asyncio.fixture
async def adult(house: House) -> Player:
    """Somebody grown up with a phone."""
    return await house.join("colleague", name="吴昊", born="1990-07-15")


@pytest_asyncio.fixture
async def child(house: House) -> Player:
    """A child of nine with a phone."""
    return await house.join("xiaoyu", name="小雨", born="2017-05-01")


@pytest_asyncio.fixture(autouse=True)
async def calm_bank(house: House) -> AsyncIterator[None]:
    """Whatever a test ordered of the bank ends with it."""
    yield
    await house.world.control.heal()
    await house.world.control.send_events("normal")


async def approve(payer: Player, asked: dict[str, Any], *, circle: Any = CIRCLE) -> dict[str, Any]:
    """The payer's yes to what a spender asked."""
    return await payer.approve(asked["registration_id"], number=asked["match_number"], terms=TERMS, circle=circle)


async def pays(mall: Mall, spender: Player, circle_id: str, amount_minor: int = 700) -> Any:
    """One payment at the till."""
    return await by_phone(mall.till, spender, circle_id, amount_minor)


def kinds(notices: list[dict[str, Any]]) -> list[str]:
    """What they were about."""
    return [one["kind"] for one in notices]


# ------------------------------------------------------------------------------------------------------------ the orders


async def test_order_a_consent_and_signature_first_then_capture(mall: Mall, payer: Player, child: Player) -> None:
    asked = await child.request("A", payer=payer.account, device=mall.kiosk)
    assert asked["waiting_for"] == ["consent", "agreement", "enrolment"]
    assert asked["capture"] is None
    pushed = await payer.pushed()
    assert pushed["spender"] == {"person_id": child.id, "display_name": "小雨", "account": child.account}
    assert pushed["business_type"] == "proxy"
    assert pushed["terminal"]["name"] == "Kiosk"
    yes = await approve(payer, asked)
    assert yes["waiting_for"] == ["agreement", "enrolment"]
    await payer.sign(yes["agreement"]["sign_url"])
    command = await mall.kiosk.told_to_capture()
    assert set(command["body"]["guidance"]) == {"terminal", "spender"}, "guidance for both"
    assert "capture_guidance" in kinds(await child.told("capture_guidance"))
    assert (await mall.kiosk.capture_face(command))["state"] == "bound"
    bound = await child.bound(asked["registration_id"])
    for person in (payer, child):
        assert kinds(await person.told("registration_bound")).count("registration_bound") == 1
    assert (await pays(mall, child, bound["circle_id"]))["state"] == "succeeded"
    assert await payer.balance_minor() == 99_300


async def test_order_b_captured_at_once_bound_by_itself(house: House, mall: Mall, payer: Player, adult: Player) -> None:
    asked = await adult.request("B", payer=payer.account, device=mall.kiosk)
    command = await mall.kiosk.told_to_capture()
    held = await mall.kiosk.capture_face(command)
    assert (held["state"], held["waiting_for"]) == ("open", ["consent", "agreement"])
    provisional = "SELECT provisional_until IS NOT NULL FROM template WHERE person_id = $1"
    assert await house.value(provisional, adult.id) is True
    with pytest.raises(Problem):
        await adult.pay_code("0" * 32)
    yes = await approve(payer, asked)
    await payer.sign(yes["agreement"]["sign_url"])
    bound = await adult.bound(asked["registration_id"])
    assert await house.value(provisional, adult.id) is False
    assert (await pays(mall, adult, bound["circle_id"]))["state"] == "succeeded"


async def test_order_b_does_not_capture_a_child_before_consent(mall: Mall, payer: Player, child: Player) -> None:
    with pytest.raises(Problem) as first:
        await child.request("B", payer=payer.account, device=mall.kiosk)
    assert first.value.code == "consent-first"


async def test_order_c_account_to_account_without_a_terminal(house: House, mall: Mall, payer: Player, child: Player) -> None:
    bound = await bound_by_app(child, payer, limits=TERMS, circle=CIRCLE)
    assert bound["checklist"]["enrolled"] is None
    assert bound["terminal"] is None
    assert await house.value("SELECT count(*) FROM template WHERE person_id = $1", child.id) == 0
    assert (await pays(mall, child, bound["circle_id"]))["state"] == "succeeded"


async def test_somebody_registers_for_themself(mall: Mall, house: House) -> None:
    grown = await house.join("self", name="吴昊", born="1990-07-15", balance_minor=50_000)
    asked = await grown.request("A", payer=None, device=mall.kiosk)
    assert asked["business_type"] == "self"
    yes = await approve(grown, asked)
    await grown.sign(yes["agreement"]["sign_url"])
    await mall.kiosk.capture_face(await mall.kiosk.told_to_capture())
    bound = await grown.bound(asked["registration_id"])
    assert (await pays(mall, grown, bound["circle_id"], 2_800))["state"] == "succeeded"
    assert await grown.balance_minor() == 47_200


async def test_a_child_does_not_pay_for_themself(mall: Mall, child: Player) -> None:
    with pytest.raises(Problem) as denied:
        await child.request("A", payer=None, device=mall.kiosk)
    assert denied.value.code == "forbidden"


async def test_an_agreement_that_exists_is_found_and_only_the_spender_is_added(
    mall: Mall, payer: Player, child: Player, adult: Player
) -> None:
    first = await bound_by_app(child, payer, limits=TERMS, circle=CIRCLE)
    asked = await adult.request("C", payer=payer.account)
    yes = await approve(payer, asked, circle=first["circle_id"])
    assert yes["agreement"]["state"] == "active"
    assert yes["agreement"]["sign_url"] is None, "nothing is to be signed (24a)"
    bound = await adult.bound(asked["registration_id"])
    async with payer.at_bank() as customer:
        page = await customer.my_page()
    assert "小雨" in page
    assert "吴昊" in page, "the bank records both under the one agreement (claim 5)"
    assert len((await payer.get("/v1/agreements"))["agreements"]) == 1
    assert (await pays(mall, adult, bound["circle_id"]))["state"] == "succeeded"


# -------------------------------------------------------------------------------------------------------- it comes to nothing


async def test_refused_by_the_payer_destroys_the_capture_and_tells_both(
    house: House, mall: Mall, payer: Player, adult: Player
) -> None:
    asked = await adult.request("B", payer=payer.account, device=mall.kiosk)
    await mall.kiosk.capture_face(await mall.kiosk.told_to_capture())
    await payer.ask("POST", f"/v1/registrations/{asked['registration_id']}/refuse", {"block": False})
    await adult.reaches(asked["registration_id"], "refused")
    for person in (payer, adult):
        await person.told("registration_refused")
    row = await house.conn.fetchrow("SELECT ciphertext, destroyed_reason FROM template WHERE person_id = $1", adult.id)
    assert (row["ciphertext"], row["destroyed_reason"]) == (None, "refused")
    with pytest.raises(Problem) as late:
        await approve(payer, asked)
    assert late.value.code == "wrong-state"


async def test_refused_at_the_bank_the_payer_may_choose_again(payer: Player, child: Player) -> None:
    asked = await child.request("C", payer=payer.account)
    yes = await approve(payer, asked)
    async with payer.at_bank() as customer:
        back = await customer.refuse(yes["agreement"]["sign_url"])
    await payer.world.http.get(back)
    assert "registration_unsigned" in kinds(await payer.told("registration_unsigned"))
    seen = await payer.registration(asked["registration_id"])
    assert (seen["state"], seen["waiting_for"]) == ("open", ["consent", "agreement"])
    again = await approve(payer, asked, circle=yes["circle_id"])
    await payer.sign(again["agreement"]["sign_url"])
    await child.bound(asked["registration_id"])


async def test_a_payer_whom_nobody_is_looks_like_one_who_is_silent(payer: Player, child: Player) -> None:
    real = await child.request("C", payer=payer.account)
    nobody = await child.request("C", payer="nobody.at.all")
    other = ("registration_id", "payer_account", "match_number", "created_at", "expires_at")
    assert {name: value for name, value in real.items() if name not in other} == {
        name: value for name, value in nobody.items() if name not in other
    }
    seen = await child.registration(nobody["registration_id"])
    assert seen["state"] == "open"


async def test_the_wrong_number_costs_the_proof(payer: Player, child: Player) -> None:
    asked = await child.request("C", payer=payer.account)
    wrong = {**asked, "match_number": (asked["match_number"] + 1) % 100}
    with pytest.raises(Problem) as denied:
        await approve(payer, wrong)
    assert denied.value.code == "match-number-wrong"
    assert (await payer.registration(asked["registration_id"]))["state"] == "open"


# ---------------------------------------------------------------------------------------------------------------- codes


async def test_codes_that_are_altered_used_or_shown_elsewhere_are_refused(mall: Mall, child: Player) -> None:
    shown = (await mall.kiosk.terminal.function_code())["code"]
    place = shown.rindex(".") + 5
    flipped = shown[:place] + ("A" if shown[place] != "A" else "B") + shown[place + 1 :]
    with pytest.raises(Problem) as altered:
        await child.ask("POST", "/v1/scans", {"code": flipped})
    assert altered.value.code == "check-code-altered"
    with pytest.raises(Problem) as elsewhere:
        await mall.till.terminal.scan(shown)
    assert elsewhere.value.code == "check-code-other-terminal"
    await child.ask("POST", "/v1/scans", {"code": shown})
    with pytest.raises(Problem) as used:
        await child.ask("POST", "/v1/scans", {"code": shown})
    assert used.value.code == "check-code-used"


async def test_captured_traffic_of_a_terminal_is_useless(mall: Mall) -> None:
    sent: list[Any] = []

    async def keep(request: Any) -> None:
        sent.append(request)

    http = mall.till.terminal._wire.http
    http.event_hooks["request"].append(keep)
    try:
        await mall.till.terminal.function_code()
    finally:
        http.event_hooks["request"].remove(keep)
    taken = sent[-1]
    again = await http.request(taken.method, taken.url, headers=dict(taken.headers), content=taken.content)
    assert (again.status_code, again.json()["code"]) == (401, "request-replayed")


# ------------------------------------------------------------------------------------------------------------- the bank's word


@pytest.mark.parametrize("how", ["unsigned", "wrong_key", "altered", "stale"])
async def test_a_forged_callback_changes_nothing(house: House, payer: Player, child: Player, how: Forgery) -> None:
    control = house.world.control
    asked = await child.request("C", payer=payer.account)
    yes = await approve(payer, asked)
    agreement_id = yes["agreement"]["agreement_id"]
    made_up = {
        "agreement_id": "made-up",
        "key": agreement_id,
        "state": "active",
        "payer_account_id": "P-made-up",
        "spenders": [],
    }
    status = await control.forge_event("agreement.active", data=made_up, how=how, client_id=house.world.bank_client_id)
    assert status == 401
    assert (await payer.registration(asked["registration_id"]))["agreement"]["state"] == "pending"
    inbox = "SELECT count(*) FROM inbox WHERE convert_from(body, 'UTF8') LIKE '%' || $1 || '%'"
    assert await house.value(inbox, agreement_id) == 0, "a forgery is not even kept"


async def test_late_and_doubled_callbacks_after_the_return_page_change_nothing(
    house: House, payer: Player, child: Player
) -> None:
    control = house.world.control
    await control.send_events("hold")
    asked = await child.request("C", payer=payer.account)
    yes = await approve(payer, asked)
    await payer.sign(yes["agreement"]["sign_url"])
    bound = await child.bound(asked["registration_id"])
    assert bound["mandate_id"], "the return page asked the bank, whose callback is still held back"
    before = await house.value("SELECT count(*) FROM audit_event WHERE subject_id = $1", yes["agreement"]["agreement_id"])
    await control.release_events()
    await control.send_events("duplicate", copies=4)

    async def came() -> bool | None:
        applied = "SELECT count(*) FROM inbox WHERE applied_at IS NOT NULL AND convert_from(body, 'UTF8') LIKE '%' || $1 || '%'"
        return True if await house.value(applied, yes["agreement"]["agreement_id"]) else None

    await until(came, "the late callback comes and is applied")
    after = await house.value("SELECT count(*) FROM audit_event WHERE subject_id = $1", yes["agreement"]["agreement_id"])
    assert after == before
    told = await payer.told("registration_bound")
    assert kinds(told).count("registration_bound") == 1
    assert kinds(told).count("agreement_active") == 1


async def test_the_callback_alone_completes_it_without_the_return_page(payer: Player, child: Player) -> None:
    asked = await child.request("C", payer=payer.account)
    yes = await approve(payer, asked)
    async with payer.at_bank() as customer:
        await customer.agree(yes["agreement"]["sign_url"])  # the browser is closed before it comes back
    await child.bound(asked["registration_id"])


async def test_the_query_alone_completes_it_without_callback_and_return_page(
    house: House, payer: Player, child: Player
) -> None:
    await house.world.control.send_events("hold")
    asked = await child.request("C", payer=payer.account)
    yes = await approve(payer, asked)
    async with payer.at_bank() as customer:
        await customer.agree(yes["agreement"]["sign_url"])
    await child.bound(asked["registration_id"])


async def test_the_return_page_proves_nothing(house: House, payer: Player, child: Player) -> None:
    asked = await child.request("C", payer=payer.account)
    yes = await approve(payer, asked)
    page = f"{house.world.url}/agreements/{yes['agreement']['agreement_id']}/return"
    nowhere = f"{house.world.url}/agreements/{'0' * 32}/return"
    answers = [await house.world.http.get(address) for address in (page, nowhere)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].text == answers[1].text, "it says nothing about any agreement"
    assert (await payer.registration(asked["registration_id"]))["agreement"]["state"] == "pending"


async def test_the_bank_ends_an_agreement_every_spender_is_suspended_and_everybody_told(
    house: House, mall: Mall, payer: Player, child: Player, adult: Player
) -> None:
    first = await bound_by_app(child, payer, limits=TERMS, circle=CIRCLE)
    second = await bound_by_app(adult, payer, limits=TERMS, circle=first["circle_id"])
    assert (await pays(mall, child, first["circle_id"]))["state"] == "succeeded"
    (debit,) = [one for one in await house.bank_debits() if one["login"] == payer.account]
    await house.world.control.end_agreement(debit["agreement_id"])
    assert {"agreement_ended", "mandate_suspended"} <= set(
        kinds(await payer.told("agreement_ended", "mandate_suspended", "mandate_suspended"))
    )
    for spender in (child, adult):
        await spender.told("mandate_suspended")
        assert reasons(await pays(mall, spender, first["circle_id"]))[0] == "MANDATE_SUSPENDED"
    for mandate_id in (first["mandate_id"], second["mandate_id"]):
        assert (await payer.mandate(mandate_id))["mandate"]["state"] == "suspended"
    assert len([one for one in await house.bank_debits() if one["login"] == payer.account]) == 1


async def test_the_payer_ends_it_here_and_the_bank_is_told(house: House, mall: Mall, payer: Player, child: Player) -> None:
    bound = await bound_by_app(child, payer, limits=TERMS, circle=CIRCLE)
    (agreement,) = (await payer.get("/v1/agreements"))["agreements"]
    ended = await payer.ask("POST", f"/v1/agreements/{agreement['agreement_id']}/end")
    assert ended["state"] == "ended"
    assert reasons(await pays(mall, child, bound["circle_id"]))[0] == "MANDATE_SUSPENDED"

    ref = await house.value("SELECT provider_ref FROM agreement WHERE payer_id = $1", payer.id)

    async def known_there() -> bool | None:
        events = await house.world.control.events(house.world.bank_client_id)
        return any(one["type"] == "agreement.ended" and ref in str(one) for one in events) or None

    await until(known_there, "the bank knows that it is over")
    async with payer.at_bank() as customer:
        with pytest.raises(PageRefusedError):
            await customer.end_agreement(ref)


# ------------------------------------------------------------------------------------------------------------------ silence


async def test_nobody_answers_it_expires_the_capture_is_destroyed_and_both_are_told(
    house: House, mall: Mall, payer: Player, adult: Player
) -> None:
    """The last test of the file: it lets a day pass for all of the house."""
    asked = await adult.request("B", payer=payer.account, device=mall.kiosk)
    command = await mall.kiosk.told_to_capture()
    await mall.kiosk.capture_face(command)
    later = datetime.now(ZoneInfo(ZONE)) + timedelta(hours=24, minutes=1)
    await house.clock(f"{later:%Y-%m-%d %H:%M}")
    await adult.reaches(asked["registration_id"], "expired")
    for person in (payer, adult):
        await person.told("registration_expired")

    async def destroyed() -> bool | None:
        empty = "SELECT bool_and(ciphertext IS NULL) FROM template WHERE person_id = $1"
        return await house.value(empty, adult.id) or None

    await until(destroyed, "the capture is destroyed")
    with pytest.raises(Problem) as late:
        await approve(payer, asked)
    assert late.value.code == "wrong-state"
    template = {"model": "opaque", "model_version": "1", "template": base64.b64encode(b"too late").decode()}
    path = f"/v1/terminal/captures/{command['body']['capture_id']}"
    with pytest.raises(Problem) as closed:
        await mall.kiosk.terminal.request("POST", path, template, idempotency_key=new_key(), own_key=True)
    assert closed.value.code == "wrong-state"
