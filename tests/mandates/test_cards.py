"""Cards and their PINs; the phone's one-time codes."""

from __future__ import annotations

import asyncio

import pytest

from kinpay.database.pool import database_now
from kinpay.mandates.credential import ensure_phone
from kinpay.mandates.pin import check_pin
from kinpay.primitives.errors import PinLocked, PinRequired, PinWrong
from kinpay.primitives.server_keys import ServerKeys
from kinpay.terminals.codes import CardCode, PayCode
from tests.conftest import set_clock
from tests.mandates.scene import Family, limit, terms


async def _issue(family: Family, key: str | None = None, **body: object) -> dict[str, str]:
    asked = {"person_id": family.spender.id, **body}
    made = await family.payer.ask("POST", f"/v1/circles/{family.circle_id}/cards", asked, key=key)
    assert made.status_code == 201, made.text
    return dict(made.json())


async def test_a_card_carries_a_low_cap_and_a_qr_code(family: Family) -> None:
    card = await _issue(family, pin="4711")
    read = family.codes.read(card["code"], CardCode)
    assert (read.circle_id, read.spender_id, read.credential_id) == (family.circle_id, family.spender.id, card["card_id"])
    assert card["svg"].startswith("<svg")
    (shown,) = (await family.spender.ask("GET", f"/v1/circles/{family.circle_id}/cards")).json()["cards"]
    assert [one["at_most"] for one in shown["terms"]["limits"]] == [20000, 50000]
    assert shown["has_pin"] is True
    assert card["code"] not in str(await family.house.value("SELECT string_agg(answer, ' ') FROM request_key"))


async def test_a_second_card_makes_the_first_worthless_and_a_retry_is_no_second_card(family: Family) -> None:
    first = await _issue(family)
    second = await _issue(family, key="card-2", terms=terms(limit(1000, "day")))
    again = await _issue(family, key="card-2", terms=terms(limit(1000, "day")))
    assert again == second
    shown = (await family.payer.ask("GET", f"/v1/circles/{family.circle_id}/cards")).json()["cards"]
    assert {one["card_id"]: one["state"] for one in shown} == {first["card_id"]: "revoked", second["card_id"]: "active"}


async def test_the_bearer_or_a_payer_revokes_a_card(family: Family) -> None:
    card = await _issue(family)
    stranger = await family.house.person("stranger")
    assert (await stranger.ask("DELETE", f"/v1/cards/{card['card_id']}")).status_code == 404
    for person in (family.spender, family.payer):
        assert (await person.ask("DELETE", f"/v1/cards/{card['card_id']}")).json()["state"] == "revoked"
    assert len(await family.house.notices("card_revoked")) == 1


async def test_only_a_payer_issues_and_only_to_spenders(family: Family) -> None:
    path = f"/v1/circles/{family.circle_id}/cards"
    stranger = await family.house.person("stranger")
    assert (await family.spender.ask("POST", path, {"person_id": family.spender.id})).status_code == 403
    assert (await stranger.ask("POST", path, {"person_id": family.spender.id})).status_code == 404
    assert (await family.payer.ask("POST", path, {"person_id": stranger.id})).status_code == 404


async def test_three_wrong_pins_lock_the_card_for_a_quarter_of_an_hour(family: Family, keys: ServerKeys) -> None:
    db, card = family.house.db, (await _issue(family, pin="4711"))["card_id"]
    await check_pin(db, keys, card, "4711")
    for left in (2, 1):
        with pytest.raises(PinWrong) as wrong:
            await check_pin(db, keys, card, "0000")
        assert wrong.value.detail == {"attempts_left": left}
    for pin in ("0000", "4711"):
        with pytest.raises(PinLocked) as locked:
            await check_pin(db, keys, card, pin)
        assert 890 < int(str(locked.value.detail["retry_after_s"])) <= 900
    (notice,) = await family.house.notices("card_locked")
    assert set(notice["people"]) == {family.payer.id, family.spender.id}
    async with db.connection() as conn:
        now = await database_now(conn)
        await set_clock(conn, now.replace(year=now.year + 1))
    await check_pin(db, keys, card, "4711")


async def test_fifty_guesses_at_once_are_three(family: Family, keys: ServerKeys) -> None:
    card = (await _issue(family, pin="4711"))["card_id"]
    guesses = [check_pin(family.house.db, keys, card, f"{number:04}") for number in range(50)]
    answers = await asyncio.gather(*guesses, return_exceptions=True)
    assert sum(isinstance(answer, PinWrong) for answer in answers) == 2
    assert sum(isinstance(answer, PinLocked) for answer in answers) == 48


async def test_a_pin_outlives_a_rotation_and_fits_no_other_card(family: Family, keys: ServerKeys) -> None:
    db, card = family.house.db, (await _issue(family, pin="4711"))["card_id"]
    rotated = ServerKeys.of([b"n" * 32, keys.roots[0].open()])
    await check_pin(db, rotated, card, "4711")
    with pytest.raises(PinWrong):
        await check_pin(db, ServerKeys.of([b"n" * 32]), card, "4711")
    with pytest.raises(PinRequired):
        await check_pin(db, keys, card, None)
    bare = (await _issue(family))["card_id"]
    for asks_for_none in (bare, "0" * 32):
        await check_pin(db, keys, asks_for_none, None)


async def test_a_phone_shows_one_time_codes_for_its_circle(family: Family) -> None:
    path = "/v1/pay-codes"
    assert (await family.spender.ask("POST", path, {"circle_id": family.circle_id})).status_code == 404
    async with family.house.db.transaction() as conn:
        now = await database_now(conn)
        phone = await ensure_phone(conn, circle_id=family.circle_id, person_id=family.spender.id, now=now)
        assert await ensure_phone(conn, circle_id=family.circle_id, person_id=family.spender.id, now=now) == phone
    codes = [(await family.spender.ask("POST", path, {"circle_id": family.circle_id})).json()["pay_code"] for _ in range(2)]
    read = [family.codes.read(code, PayCode) for code in codes]
    assert read[0].code_id != read[1].code_id
    assert {code.credential_id for code in read} == {phone}
    assert 50 <= read[0].expires_s - now.timestamp() <= 61
    assert (await family.payer.ask("POST", path, {"circle_id": family.circle_id})).status_code == 404
