"""A face on a registration's checklist: whose word comes first, and what waits until somebody of the staff has looked.

Vectors are made up here; real pictures go the whole way in `tests/stories/test_faces.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import httpx
import pytest
import pytest_asyncio

from kinpay.biometrics import enrol
from kinpay.biometrics.curves import MEANS
from kinpay.biometrics.galleries import Duplicate, Galleries
from kinpay.biometrics.rotation import Rotations
from kinpay.database.pool import database_now
from kinpay.primitives.actor import Actor, ActorKind
from kinpay.primitives.errors import ConsentFirst, Invalid, WrongState
from kinpay.primitives.sealed import Sealed
from kinpay.registrations.enrol_face import Enrolled, begin_enrolment, decide_finding, take_sample
from kinpay.registrations.expire import expire_provisional
from kinpay.registrations.face_routes import router as face_router
from kinpay.registrations.registration import Rules
from kinpay.registrations.routes import router as registration_router
from kinpay.sittings.consent_text import consent_text
from kinpay.sittings.desk import Desk
from kinpay.sittings.examiner import Examiner
from kinpay.sittings.pin import require_hard
from kinpay.sittings.sitting import Purpose
from kinpay.sittings.take import take
from kinpay.terminals.authenticate import TerminalActor
from tests.biometrics.strangers import Faces, sample
from tests.conftest import set_clock
from tests.registrations.house import FACE, PUBLIC_URL, House, Somebody, build_app, in_minutes
from tests.sittings.stand import engine

READ = {"version": "1", "language": "en"}


@dataclass
class Booth:
    """The house's terminal with a camera."""

    house: House
    desk: Desk
    faces: Faces

    @property
    def actor(self) -> TerminalActor:
        return TerminalActor(ActorKind.TERMINAL, self.house.place.terminal_id, self.house.operator_id, own_key=True)

    async def sit(self, capture_id: str, *, alike: tuple[str, ...] = ()) -> Enrolled:
        """A sitting whose frames come to a face that the accounts `alike` have, too."""
        async with self.house.db.transaction() as conn:
            begun = await begin_enrolment(
                conn, self.actor, capture_id=capture_id, text=consent_text("en"), rules=Rules(),
                sitting_rules=self.desk.rules, now=await database_now(conn),
            )  # fmt: skip
        if isinstance(begun, ConsentFirst):
            raise begun
        sitting = await take(
            self.house.db, self.actor, sitting_id=begun.id, nonce=begun.nonce, purposes=frozenset({Purpose.ENROL})
        )
        duplicate = Duplicate(Sealed(alike), MEANS, 0.5) if alike else None
        async with self.house.db.transaction() as conn:
            return await take_sample(
                conn, self.desk, sitting, sample=sample(self.faces.somebody()), duplicate=duplicate, pin="2468",
                rules=Rules(), now=await database_now(conn),
            )  # fmt: skip

    async def captured_at(self, registration_id: str) -> str:
        """The capture that the terminal is told of."""
        found: str = await self.house.value("SELECT id FROM capture WHERE registration_id = $1", registration_id)
        return found


@pytest_asyncio.fixture
async def booth(house: House, tmp_path: Any) -> Booth:
    """Nothing is loaded unless a picture comes."""
    rotations = Rotations(tmp_path / "keyring", house.keys)
    galleries = Galleries(house.db, house.keyring, rotations, engine="numpy")
    desk = Desk(keys=house.keys, keyring=house.keyring, rotations=rotations, galleries=galleries, examiner=Examiner(engine))
    house.app.include_router(face_router(house.db, keyring=house.keyring, desk=desk))
    return Booth(house, desk, Faces(3, 64))


async def in_order_b(house: House) -> tuple[Somebody, Any]:
    """An adult who is captured at once."""
    await house.person("mother")
    spender = await house.person("grandma", born=date(1950, 1, 1))
    return spender, await spender.requested("B", payer="mother", terminal=house.terminal())


async def test_a_face_is_enrolled_provisionally_with_its_consent_and_both_are_told(house: House, booth: Booth) -> None:
    spender, made = await in_order_b(house)
    done = await booth.sit(await booth.captured_at(made["registration_id"]))
    assert (done.waits, done.registration.enrolled_at is not None) == (False, True)
    kept = await house.rows("SELECT * FROM face_consent")
    assert [(row["person_id"], row["given_by"], row["terminal_id"]) for row in kept] == [
        (spender.id, spender.id, house.place.terminal_id)
    ]
    assert kept[0]["text_hash"] == consent_text("en").digest
    (template,) = await house.rows("SELECT * FROM template JOIN template_vector ON template_id = id")
    assert (template["modality"], template["pictures"], template["provisional_until"] is not None) == ("face", 3, True)
    (told,) = await house.notices("face_enrolled")
    assert spender.id in told["people"]


async def test_a_child_s_face_needs_the_payer_s_own_word_first(house: House, booth: Booth) -> None:
    """Separate from the limits; of nobody else; said twice it is one."""
    mother = await house.person("mother")
    child = await house.person("xiaoyu", born=date(2017, 5, 1))
    made = await child.requested("A", payer="mother", terminal=house.terminal())
    registration_id = made["registration_id"]
    path = f"/v1/registrations/{registration_id}/face-consent"
    assert (await child.ask("POST", path, READ)).status_code == 404
    assert (await mother.ask("POST", path, READ | {"version": "0"})).json()["reason"] == "consent_text_outdated"
    given = [(await mother.ask("POST", path, READ)).json()["consent_id"] for _ in range(2)]
    assert given[0] == given[1]
    events = await house.events(given[0])
    assert events == ["face_consent.given"]


async def test_order_b_without_an_age_is_not_enrolled_before_the_payer_s_word(house: House, booth: Booth) -> None:
    _, made = await in_order_b(house)
    capture_id = await booth.captured_at(made["registration_id"])
    async with house.db.transaction() as conn:
        await conn.execute("UPDATE person SET birth_date = NULL WHERE account = 'grandma'")
    for _ in range(2):
        with pytest.raises(ConsentFirst):
            await booth.sit(capture_id)
    assert len(await house.notices("face_consent_wanted")) == 1, "the payer is asked once"
    mother = Somebody(house, await house.value("SELECT id FROM person WHERE account = 'mother'"), "mother")
    assert (await mother.ask("POST", f"/v1/registrations/{made['registration_id']}/face-consent", READ)).status_code == 201
    assert not (await booth.sit(capture_id)).waits


async def finding(house: House, booth: Booth) -> tuple[Somebody, Any, Any]:
    """A registration that waits for somebody to look."""
    twin = await house.person("twin", born=date(1950, 1, 1))
    spender, made = await in_order_b(house)
    done = await booth.sit(await booth.captured_at(made["registration_id"]), alike=(twin.id,))
    assert done.waits
    (found,) = await house.rows("SELECT * FROM face_finding")
    return spender, made, found


@pytest.mark.parametrize("pin", ["1111", "1212", "1234", "8765", "1984", "2031", "0501", "0105", "789012", "55555555"])
def test_a_pin_that_is_guessed_first_is_refused(pin: str) -> None:
    with pytest.raises(Invalid):
        require_hard(pin, birth_date=date(2017, 5, 1))


@pytest.mark.parametrize("pin", ["2468", "1357", "9047", "123123", "20011"])
def test_other_pins_are_not(pin: str) -> None:
    require_hard(pin, birth_date=date(2017, 5, 1))
    require_hard(pin, birth_date=None)


async def test_what_looks_like_another_account_waits_and_nobody_captures_again(house: House, booth: Booth) -> None:
    spender, made, found = await finding(house, booth)
    assert "enrolment" in (await spender.look(made["registration_id"]))["waiting_for"]
    resumed = await house.terminal().ask("POST", f"/v1/terminal/captures/{found['capture_id']}/resume")
    assert (resumed.status_code, resumed.json()["state"]) == (409, "captured")
    seen = await spender.look(made["registration_id"])
    assert str(found["alike"][0]) not in str(seen)


async def test_one_person_with_two_accounts_loses_the_second_template(house: House, booth: Booth) -> None:
    spender, made, found = await finding(house, booth)
    staff = Actor(ActorKind.PERSON, (await house.person("owner")).id, house.operator_id)
    async with house.db.transaction() as conn:
        decided, erased = await decide_finding(conn, staff, finding_id=found["id"], same=True)
    await enrol.finish(house.keyring, erased)
    assert str(decided.state) == "same"
    assert await house.keyring.key_ids() == []
    assert "enrolment" in (await spender.look(made["registration_id"]))["waiting_for"]
    with pytest.raises(WrongState):
        async with house.db.transaction() as conn:
            await decide_finding(conn, staff, finding_id=found["id"], same=False)


async def test_what_waits_ends_with_its_registration_and_with_its_minutes(house: House, booth: Booth) -> None:
    """Threat A12: nobody having looked is no reason to keep it longer."""
    spender, made, _ = await finding(house, booth)
    assert (await spender.ask("POST", f"/v1/registrations/{made['registration_id']}/withdraw")).status_code == 200
    assert await house.value("SELECT state FROM face_finding") == "lapsed"
    assert await house.keyring.key_ids() == []
    other = await house.person("other", born=date(1950, 1, 1))
    again = await spender.requested("B", payer="mother", terminal=house.terminal())
    await booth.sit(await booth.captured_at(again["registration_id"]), alike=(other.id,))
    later = await in_minutes(house, 16)
    async with house.db.connection() as conn:
        await set_clock(conn, later)
    assert await expire_provisional(house.db, house.keyring) == 1
    assert await house.value("SELECT count(*) FROM face_finding WHERE state = 'open'") == 0
    assert await house.keyring.key_ids() == []
    assert (await spender.look(again["registration_id"]))["state"] == "open"


async def test_an_operator_may_refuse_templates_of_a_terminal_s_own_making(house: House) -> None:
    _, made = await in_order_b(house)
    strict = build_app(
        registration_router(
            house.db,
            keys=house.keys,
            codes=house.codes,
            keyring=house.keyring,
            providers=house.providers,
            public_url=PUBLIC_URL,
            rules=Rules(terminal_templates=False),
        )
    )
    strict.state.operator_id = house.operator_id
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=strict), base_url=PUBLIC_URL) as client:
        capture_id = made["capture"]["capture_id"]
        answer = await client.post(
            f"/v1/terminal/captures/{capture_id}", json=FACE,
            headers={"x-terminal": house.place.terminal_id, "idempotency-key": "one"},
        )  # fmt: skip
    assert (answer.status_code, answer.json()["code"]) == (422, "method-not-offered")


async def test_a_house_without_a_model_offers_no_face(house: House) -> None:
    house.app.include_router(face_router(house.db, keyring=house.keyring, desk=None))
    _, made = await in_order_b(house)
    path = f"/v1/terminal/captures/{made['capture']['capture_id']}/sittings"
    answer = await house.client.post(path, json=READ, headers={"x-terminal": house.place.terminal_id})
    assert (answer.status_code, answer.json()["code"]) == (422, "method-not-offered")
    assert (await house.terminal().capture(made["capture"]["capture_id"])).status_code == 200
