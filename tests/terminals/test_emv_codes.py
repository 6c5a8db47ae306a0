"""Our codes inside EMVCo's: they say what we signed, and whatever was changed since is refused, also with a CRC that fits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kinpay.database.pool import Database
from kinpay.database.sql import Sql
from kinpay.primitives.errors import CheckCodeAltered, EmvCodeMalformed, Invalid, KinpayError
from kinpay.primitives.ids import new_id
from kinpay.primitives.server_keys import ServerKeys
from kinpay.terminals import emv_consumer, emv_merchant
from kinpay.terminals.codes import Codes, PayCode, PaymentCode
from kinpay.terminals.emv_codes import (
    OUR_AID,
    EmvPlace,
    bare_pay_code,
    consumer_presented,
    merchant_presented,
    read_payment_code_text,
)
from kinpay.terminals.emv_consumer import ConsumerCode, Tlv
from kinpay.terminals.emv_merchant import DataObject, MerchantCode
from kinpay.terminals.store import find_terminal
from kinpay_client import Problem
from tests.terminals.house import House

HANGZHOU = {"country": "CN", "city": "Hangzhou"}
PLACE = EmvPlace(country="CN", city="Hangzhou", language="zh")
RENAME = Sql("UPDATE merchant SET name = :name WHERE id = :id")


def ask(house: House, terminal: Any, **more: Any) -> Any:
    """A payment code that is to be had as an EMVCo code too."""
    content = {"amount_minor": 1450, "currency": "CNY", "emv": HANGZHOU, **more}
    return terminal.request("POST", "/v1/terminal/payment-codes", content)


async def read(house: House, text: str) -> dict[str, Any]:
    async with house.as_person(await house.person()) as http:
        return dict((await http.post("/v1/payment-codes/read", json={"payment_code": text})).json())


@pytest.mark.parametrize("reference", [None, "T-77", "x" * 25, "x" * 26, "x" * 64])
async def test_the_spender_sees_the_same_by_either_code(house: House, reference: str | None) -> None:
    issued = await ask(house, await house.terminal(), reference=reference)
    by_ours, by_emv = await read(house, issued["payment_code"]), await read(house, issued["emv_code"])
    assert by_ours == by_emv
    assert (by_emv["reference"], by_emv["amount"]["amount_minor"]) == (reference, 1450)


async def test_any_reader_of_emvco_codes_sees_shop_amount_and_reference(house: House) -> None:
    issued = await ask(house, await house.terminal(), reference="T-77")
    code = emv_merchant.parse(issued["emv_code"])
    told = {name: code.value(*name.split(".")) for name in ("01", "26.00", "52", "53", "54", "58", "59", "60", "62.05")}
    assert told == {
        "01": "12", "26.00": "org.kinpay", "52": "5814", "53": "156", "54": "14.50", "58": "CN", "59": "North canteen",
        "60": "Hangzhou", "62.05": "T-77",
    }  # fmt: skip


async def test_a_shop_with_a_name_in_another_writing_has_it_in_the_language_template(db: Database, house: House) -> None:
    async with db.connection() as conn:
        await RENAME.run(conn, id=house.merchant_id, name="北方食堂")
    issued = await ask(house, await house.terminal())
    code = emv_merchant.parse(issued["emv_code"])
    assert (code.value("64", "00"), code.value("64", "01")) == ("zh", "北方食堂")
    assert code.value("59") == f"MERCHANT {house.merchant_id[-16:]}"
    assert (await read(house, issued["emv_code"]))["terminal"]["merchant"] == "北方食堂"


def changed(text: str, *path: str, to: str) -> str:
    """The same code with another value at `path` and a CRC that fits."""
    return emv_merchant.produce(MerchantCode(_with(emv_merchant.parse(text).objects, path, to)))


def _with(objects: tuple[DataObject, ...], path: tuple[str, ...], to: str) -> tuple[DataObject, ...]:
    def put(one: DataObject) -> DataObject:
        if one.id != path[0]:
            return one
        return replace(one, value=to if isinstance(one.value, str) else _with(one.value, path[1:], to))

    return tuple(put(one) for one in objects)


CHANGES = [
    (("01",), "11"), (("26", "00"), "org.kinpai"), (("52",), "5411"), (("53",), "840"), (("54",), "1.45"), (("54",), "14.5"),
    (("58",), "DE"), (("59",), "South canteen"), (("60",), "Hangzhov"), (("62", "05"), "T-78"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "to"), CHANGES)
async def test_what_is_printed_must_be_what_was_signed(house: House, path: tuple[str, ...], to: str) -> None:
    issued = await ask(house, await house.terminal(), reference="T-77")
    text = changed(issued["emv_code"], *path, to=to)
    assert text != issued["emv_code"]
    assert (await read(house, text))["code"] == "check-code-altered"


async def test_what_is_signed_cannot_be_changed_moved_or_added_to(house: House) -> None:
    text = (await ask(house, await house.terminal(), reference="T-77"))["emv_code"]
    signed = emv_merchant.parse(text).value("26", "01") or ""
    for at in range(len(signed)):
        other = signed[:at] + ("A" if signed[at] != "A" else "B") + signed[at + 1 :]
        assert (await read(house, changed(text, "26", "01", to=other)))["code"] == "check-code-altered"
    objects = emv_merchant.parse(text).objects
    swapped = (*objects[:-2], objects[-1], objects[-2])
    for wrong in (swapped, (*objects, DataObject("61", "310000")), objects[:-1]):
        other = emv_merchant.produce(MerchantCode(wrong))
        assert (await read(house, other))["code"] == "check-code-altered"


async def test_codes_of_others_are_not_ours_and_what_is_no_code_is_malformed(house: House) -> None:
    text = (await ask(house, await house.terminal()))["emv_code"]
    objects = tuple(one for one in emv_merchant.parse(text).objects if one.id != "26")
    foreign = emv_merchant.produce(MerchantCode((*objects, DataObject("02", "4000123456789012"))))
    assert (await read(house, foreign))["code"] == "check-code-altered"
    told = await read(house, text[:-1] + ("0" if text[-1] != "0" else "1"))
    assert (told["code"], told["reason"], told["field"]) == ("emv-code-malformed", "crc", "63")
    with pytest.raises(CheckCodeAltered):
        read_payment_code_text(house.codes, text, operator_id=new_id())
    other = Codes(ServerKeys.of([bytes(range(1, 33))]))
    with pytest.raises(CheckCodeAltered):
        read_payment_code_text(other, text, operator_id=house.operator_id)


@pytest.mark.parametrize(
    "more",
    [{"emv": {"country": "cn", "city": "A"}}, {"emv": {"country": "CN", "city": "杭州"}}, {"emv": {"country": "CN"}},
     {"emv": {"country": "CN", "city": "x" * 16}}, {"emv": {"country": "CN", "city": " "}}, {"amount_minor": 2**53 - 1}],
)  # fmt: skip
async def test_places_and_amounts_that_do_not_fit_are_refused(house: House, more: dict[str, Any]) -> None:
    terminal = await house.terminal()
    with pytest.raises(Problem) as refused:
        await ask(house, terminal, **more)
    assert refused.value.code in {"unknown", "invalid-request"}


async def test_the_largest_and_smallest_of_every_currency_come_back_exactly(db: Database, house: House) -> None:
    terminal = await house.terminal()
    async with db.connection() as conn:
        found = await find_terminal(conn, terminal.terminal_id)
    assert found is not None
    for amount, currency in ((1, "CNY"), (999_999_999_999, "CNY"), (1, "JPY"), (9_999_999_999_999, "JPY"), (1, "KWD")):
        code = PaymentCode(new_id(), house.operator_id, terminal.terminal_id, amount, currency, None, 4_000_000_000)
        text = merchant_presented(house.codes, code, terminal=found, place=PLACE)
        assert read_payment_code_text(house.codes, text, operator_id=house.operator_id) == code
    code = PaymentCode(new_id(), house.operator_id, terminal.terminal_id, 10**12 * 10, "CNY", None, 4_000_000_000)
    with pytest.raises(Invalid):
        merchant_presented(house.codes, code, terminal=found, place=PLACE)


# ------------------------------------------------------------------------------------------------------ pay codes


def pay_code(keys: ServerKeys) -> tuple[Codes, PayCode, str]:
    """A pay code, and the same as text."""
    codes = Codes(keys)
    code = PayCode(new_id(), new_id(), new_id(), new_id(), new_id(), 4_000_000_000)
    return codes, code, codes.write(code)


def test_a_pay_code_survives_being_presented_as_emvco_wants_it(keys: ServerKeys) -> None:
    codes, code, bare = pay_code(keys)
    text = consumer_presented(bare)
    (application,) = emv_consumer.parse(text).applications()
    assert emv_consumer.inside(application, "4F") == bytes.fromhex(OUR_AID)
    assert bare_pay_code(text) == bare
    assert bare_pay_code(bare) == bare
    assert codes.read(bare_pay_code(text), PayCode) == code
    assert len(text) <= 330


def test_every_change_of_one_character_of_a_presented_pay_code_is_refused(keys: ServerKeys) -> None:
    codes, _, bare = pay_code(keys)
    text = consumer_presented(bare)
    for at, was in enumerate(text):
        for other in {"A", "z", "/", "=", "é"} - {was}:
            with pytest.raises(KinpayError) as refused:
                codes.read(bare_pay_code(text[:at] + other + text[at + 1 :]), PayCode)
            assert isinstance(refused.value, CheckCodeAltered | EmvCodeMalformed)


def test_an_application_of_others_beside_or_instead_of_ours_is_refused(keys: ServerKeys) -> None:
    _, _, bare = pay_code(keys)
    (ours,) = emv_consumer.parse(consumer_presented(bare)).applications()
    theirs = Tlv("61", (Tlv("4F", bytes.fromhex("A0000000555555")),))
    assert isinstance(ours.value, tuple)
    labelled = Tlv("61", (ours.value[0], Tlv("50", b"other shop"), ours.value[2]))
    for applications in ((theirs,), (ours, theirs), (theirs, ours), (labelled,)):
        with pytest.raises(CheckCodeAltered):
            bare_pay_code(emv_consumer.produce(ConsumerCode((Tlv("85", b"CPV01"), *applications))))
