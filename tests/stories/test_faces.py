"""Enrolling and paying by face with real pictures, through the wired server; and what attackers bring to the camera.

The pictures come from a registry package. Stills cannot blink: the acts are warped from the points of the faces.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio

from kinpay.cli.demo.camera import acting, filmed, text
from kinpay.cli.demo.cast import Device, Player
from kinpay_client import Problem
from kinpay_client.signing import OwnKeySigner, TerminalKey, sign_request
from tests.faces.people import brighter, jpeg, person, tilted
from tests.stories.asking import limit, terms
from tests.stories.conftest import ZONE, House, Mall

TERMS = terms(limit("amount", "day", 5_000))
CONSENT = {"version": "1", "language": "zh"}
MEAL = 300


@dataclass
class Table:
    """A child whose face is enrolled at the kiosk, her mother, and the till where she eats."""

    child: Player
    mother: Player
    circle_id: str
    registration_id: str


async def enrol(device: Device, capture_id: str, who: str, **more: Any) -> dict[str, Any]:
    """A whole sitting of somebody who does what is asked."""
    begun = await own(device, f"/v1/terminal/captures/{capture_id}/sittings", CONSENT)
    path = f"/v1/terminal/captures/{capture_id}/sittings/{begun['sitting_id']}/frames"
    frames = filmed(acting(person(who), begun["acts"]))
    return await own(device, path, {"nonce": begun["nonce"], "frames": frames, **more})


async def own(device: Device, path: str, content: dict[str, Any]) -> dict[str, Any]:
    """A request under the device's own key."""
    return (await device.terminal.request("POST", path, content, own_key=True)).body


async def challenge(device: Device, amount_minor: int = MEAL, **more: Any) -> dict[str, Any]:
    """A challenge for a payment."""
    asked = {"amount_minor": amount_minor, "currency": "CNY", **more}
    return (await device.terminal.request("POST", "/v1/terminal/sittings", asked)).body


async def show(device: Device, begun: dict[str, Any], frames: list[dict[str, Any]]) -> dict[str, Any]:
    """Answers a challenge."""
    return await own(device, f"/v1/terminal/sittings/{begun['sitting_id']}/frames", {"nonce": begun["nonce"], "frames": frames})


async def look_in(device: Device, who: str, amount_minor: int = MEAL, **more: Any) -> dict[str, Any]:
    """Somebody does what is asked of them."""
    begun = await challenge(device, amount_minor, **more)
    return await show(device, begun, filmed(acting(person(who), begun["acts"])))


async def refused(asking: Any) -> Problem:
    """The problem that a request is answered with."""
    with pytest.raises(Problem) as caught:
        await asking
    return caught.value


@pytest_asyncio.fixture(scope="module")
async def table(house: House, mall: Mall) -> Table:
    """Order A: consent and agreement first, then the mother's separate word for the face, then the camera."""
    mother = await house.join("mother", name="林梅", balance_minor=1_000_000)
    child = await house.join("xiaoyu", name="小雨", born="2017-05-01")
    asked = await child.request("A", payer=mother.account, device=mall.kiosk)
    registration_id = asked["registration_id"]
    said = await mother.approve(
        registration_id, number=asked["match_number"], terms=TERMS, circle={"name": "林家", "time_zone": ZONE}
    )
    await mother.sign(said["agreement"]["sign_url"])
    command = await mall.kiosk.told_to_capture()
    capture_id = command.content["capture_id"]
    problem = await refused(own(mall.kiosk, f"/v1/terminal/captures/{capture_id}/sittings", CONSENT))
    assert problem.code == "consent-first", "a child's face needs the mother's word first"
    read = await mother.get("/v1/face-consent-text?language=zh")
    given = await mother.ask(
        "POST", f"/v1/registrations/{registration_id}/face-consent", {"version": read["version"], "language": "zh"}
    )
    assert given["terminal_id"] is None
    made = await enrol(mall.kiosk, capture_id, "left", pin="2468")
    assert made["outcome"] == "enrolled", made
    assert made["registration"]["state"] == "bound"
    await mall.kiosk.terminal.done(command.id, ok=True)
    bound = await child.bound(registration_id)
    return Table(child, mother, bound["circle_id"], registration_id)


async def test_a_face_is_enrolled_and_pays_and_the_charge_says_how_sure_that_was(
    house: House, mall: Mall, table: Table
) -> None:
    """Claims 7 and [0032], from the camera to the debit."""
    seen = await look_in(mall.till, "left")
    assert seen["outcome"] == "recognised", seen
    paid = await mall.till.terminal.charge({"face": seen["face"]}, MEAL, "CNY", capture=True)
    assert (paid["state"], paid["method"]) == ("succeeded", "face")
    told = await table.mother.charge(paid["id"])
    assert told["face"]["bound"] <= told["face"]["permitted"] == 0.0001
    assert told["face"]["factor"] == "none"
    assert told["face"]["gallery_size"] == 1
    kept = json.loads(await house.value("SELECT face::text FROM charge WHERE id = $1", paid["id"]))
    assert {"threshold", "margin", "rate_upper", "model_id", "comparison"} <= set(kept)
    problem = await refused(mall.till.terminal.charge({"face": seen["face"]}, MEAL, "CNY", capture=True))
    assert problem.code == "check-code-used"
    assert {one["given_by"] for one in (await table.child.get(f"/v1/people/{table.child.id}/face"))["consents"]} == {
        table.child.id,
        table.mother.id,
    }


async def test_a_token_is_for_its_amount_and_its_terminal(mall: Mall, table: Table) -> None:
    seen = await look_in(mall.till, "left")
    more = await refused(mall.till.terminal.charge({"face": seen["face"]}, MEAL + 1, "CNY", capture=True))
    assert more.code == "invalid-request"
    elsewhere = await refused(mall.kiosk.terminal.charge({"face": seen["face"]}, MEAL, "CNY", capture=True))
    assert elsewhere.code == "check-code-altered"
    assert (await mall.till.terminal.charge({"face": seen["face"]}, MEAL, "CNY", capture=True))["state"] == "succeeded"


async def test_somebody_else_is_asked_for_something_else(mall: Mall, table: Table) -> None:
    seen = await look_in(mall.till, "right")
    assert (seen["outcome"], seen["face"], seen["asks"]) == ("step_up", None, ["pin", "code", "card"])
    assert table.child.id not in json.dumps(seen)


async def test_one_picture_is_judged_live_and_nothing_of_it_is_kept(mall: Mall, table: Table) -> None:
    begun = await challenge(mall.till)
    path = f"/v1/terminal/sittings/{begun['sitting_id']}/look"
    good = await mall.till.terminal.request("POST", path, {"picture": text(person("left"))})
    assert good.body == {"good": True, "hints": []}
    dark = await mall.till.terminal.request("POST", path, {"picture": text(brighter(person("left"), 0.1))})
    assert not dark.body["good"]
    assert dark.body["hints"][0]["zh"]


@pytest.mark.parametrize(
    ("attack", "reasons"),
    [
        (lambda begun: [person("left")] * 12, {"no_blink", "no_turn_left", "no_turn_right", "no_open_mouth"}),
        (
            lambda begun: [*acting(person("left"), begun["acts"])[:8], *acting(person("right"), begun["acts"])[8:]],
            {"other_person"},
        ),
        (
            lambda begun: acting(person("left"), sorted({"blink", "open_mouth", "turn_left", "turn_right"} - {*begun["acts"]})),
            {"no_blink", "no_turn_left", "no_turn_right", "no_open_mouth", "other_act"},
        ),
    ],
    ids=["a photo that does nothing", "frames of two people", "a recording of other acts"],
)
async def test_what_is_held_before_the_camera_instead_of_a_person_is_refused(
    mall: Mall, table: Table, attack: Callable[[Any], Any], reasons: set[str]
) -> None:
    begun = await challenge(mall.kiosk)
    seen = await show(mall.kiosk, begun, filmed(attack(begun)))
    assert seen["outcome"] == "refused"
    assert set(seen["reasons"]) & reasons, seen
    assert seen["face"] is None
    # Somebody who does what is asked breaks the row, so that the next attack is not only refused for being one too many.
    assert (await look_in(mall.kiosk, "left"))["outcome"] == "recognised"


async def test_a_capture_is_good_once_and_only_under_the_terminal_s_own_signature(
    house: House, mall: Mall, table: Table
) -> None:
    """Replayed as it was, replayed under a new signature, of another challenge, signed by a session, not signed at all."""
    begun = await challenge(mall.till)
    frames = filmed(acting(person("left"), begun["acts"]))
    path = f"/v1/terminal/sittings/{begun['sitting_id']}/frames"
    body = json.dumps({"nonce": begun["nonce"], "frames": frames}).encode()
    kept = json.loads(mall.till.terminal.to_json())
    signer = OwnKeySigner(kept["terminal_id"], TerminalKey.from_pem(kept["private_key"]))
    async with httpx.AsyncClient(base_url=house.world.url, timeout=60) as http:
        unsigned = await http.post(path, content=body, headers={"content-type": "application/json"})
        assert unsigned.json()["code"] == "unauthenticated"
        by_session = await refused(mall.till.terminal.request("POST", path, json.loads(body)))
        assert by_session.code == "signature-invalid"
        request = http.build_request("POST", path, content=body, headers={"content-type": "application/json"})
        sign_request(request, signer, now_s=time.time())
        first = await http.send(request)
        assert first.json()["outcome"] == "recognised"
        again = await http.send(request)
        assert again.json()["code"] == "request-replayed"
        altered = http.build_request("POST", path, content=body[:-3] + b'"}]', headers=dict(request.headers))
        assert (await http.send(altered)).status_code in (400, 401)
    problem = await refused(show(mall.till, begun, frames))
    assert problem.code == "sitting-used"
    injected = await challenge(mall.till)
    problem = await refused(show(mall.till, injected | {"nonce": begun["nonce"]}, frames))
    assert problem.code == "nonce-wrong"
    foreign = await challenge(mall.kiosk)
    problem = await refused(show(mall.till, foreign, frames))
    assert problem.code == "not-found"


async def test_no_picture_is_anywhere(house: House, mall: Mall, table: Table) -> None:
    """Neither in the log nor in any column, whole or in pieces."""
    begun = await challenge(mall.till)
    marked = tilted(person("left"), 0.0).copy()
    marked[:8, :8] = secrets.randbelow(255)
    pictures = acting(marked, begun["acts"])
    await show(mall.till, begun, filmed(pictures))
    pieces = {text(pictures[0])[2000:2060], jpeg(pictures[0])[2000:2030].hex()}
    log = "".join(file.read_text(errors="replace") for file in house.folder.glob("*.log"))
    assert not [piece for piece in pieces if piece in log]
    for table_name in ("sitting", "audit_event", "outbox", "face_consent", "request_nonce"):
        rows = await house.conn.fetch(f"SELECT t::text AS row FROM {table_name} t")
        assert not [row for row in rows for piece in pieces if piece in row["row"]]


async def test_a_face_that_another_account_has_waits_for_somebody_who_looks(house: House, mall: Mall, table: Table) -> None:
    """Nobody is told whose it is but the staff, who let two people go on."""
    cousin = await house.join("cousin", name="表姐", born="1990-07-15")
    asked = await cousin.request("B", payer=table.mother.account, device=mall.kiosk)
    command = await mall.kiosk.told_to_capture()
    made = await enrol(mall.kiosk, command.content["capture_id"], "left")
    assert made["outcome"] == "waits"
    assert table.child.id not in json.dumps(made)
    assert "enrolment" in (await cousin.registration(asked["registration_id"]))["waiting_for"]
    owner = await Player.sign_in(house.world, "owner")
    (finding,) = (await owner.get("/v1/face-findings"))["findings"]
    assert [one["person_id"] for one in finding["alike"]] == [table.child.id]
    decided = await owner.ask("POST", f"/v1/face-findings/{finding['finding_id']}/decide", {"decision": "different_people"})
    assert decided["state"] == "different"
    assert "enrolment" not in (await cousin.registration(asked["registration_id"]))["waiting_for"]
    await table.mother.ask("POST", f"/v1/registrations/{asked['registration_id']}/refuse", {"block": False})


async def test_the_mother_withdraws_the_face_and_the_code_still_pays(mall: Mall, house: House, table: Table) -> None:
    """Story S1.7: erased with a receipt, on another server process, too, from that moment on."""
    other = mall.till.at(house.start_another())
    assert (await look_in(other, "left"))["outcome"] == "recognised"
    receipt = await table.mother.ask("DELETE", f"/v1/people/{table.child.id}/face")
    assert receipt["was_enrolled"]
    for device in (other, mall.till):
        assert (await look_in(device, "left"))["outcome"] == "step_up"
    paid = await mall.till.charge(await table.child.pay_code(table.circle_id), MEAL)
    assert paid["state"] == "succeeded"
    await table.child.told("face_enrolled", "face_erased")
