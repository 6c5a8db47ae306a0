"""Merchant-presented codes: what is written is read back, what was touched is refused, and nothing makes the reader stumble."""

from __future__ import annotations

import json
import string

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kinpay.primitives.errors import EmvCodeMalformed
from kinpay.primitives.money import EXPONENTS, NUMBERS
from kinpay.terminals import emv_merchant
from kinpay.terminals.emv_merchant import DataObject, MerchantCode, parse, produce

PUBLISHED = (
    "00020101021252044131153137210116372101160123456789ABCDE6010Phnom Penh5913Merchant Shop5802KH"
    "540510.005303840622501081234567802090124444446304A0BA"
)
CHINESE = DataObject("64", (DataObject("00", "zh"), DataObject("01", "北方食堂"), DataObject("02", "杭州")))


def simple(*more: DataObject, account: DataObject | None = None) -> MerchantCode:
    """The least that a code holds, and `more`."""
    shop = account or DataObject("26", (DataObject("00", "org.example"), DataObject("01", "12345")))
    least = [("52", "5814"), ("53", "156"), ("58", "CN"), ("59", "NORTH CANTEEN"), ("60", "HANGZHOU")]
    return MerchantCode((DataObject("00", "01"), shop, *(DataObject(*one) for one in least), *more))


def reason(text: str) -> tuple[str, str]:
    """Why a text is refused."""
    with pytest.raises(EmvCodeMalformed) as refused:
        parse(text)
    return str(refused.value.detail["reason"]), str(refused.value.detail["field"])


def sealed(body: str) -> str:
    """Any body with the CRC that belongs to it."""
    return body + "6304" + emv_merchant._crc(body)


def test_the_published_sample_is_read_and_written_again_as_it_was() -> None:
    code = parse(PUBLISHED)
    assert produce(code) == PUBLISHED
    assert [one.id for one in code.objects] == ["00", "01", "52", "15", "60", "59", "58", "54", "53", "62"]
    assert (code.value("54"), code.value("53"), code.value("59")) == ("10.00", "840", "Merchant Shop")
    assert (code.value("62", "01"), code.value("62", "02"), code.value("62", "05")) == ("12345678", "012444444", None)


def test_a_codes_length_counts_characters_and_its_crc_octets() -> None:
    text = produce(simple(CHINESE))
    assert "64200002zh0104北方食堂0202杭州" in text
    assert parse(text).value("64", "01") == "北方食堂"
    in_octets = text.removesuffix(text[-8:]).replace("6420", "6432").replace("0104", "0112").replace("0202杭", "0206杭")
    assert reason(sealed(in_octets))[0] == "length"


@pytest.mark.parametrize("code", [PUBLISHED, produce(simple(CHINESE, DataObject("54", "14.00")))])
def test_every_change_of_one_character_is_refused(code: str) -> None:
    for at, was in enumerate(code):
        for other in {*string.digits, *string.ascii_letters, *" .*$%/:-", chr(ord(was) ^ 1), "é", "方"} - {was}:
            reason(code[:at] + other + code[at + 1 :])
        reason(code[:at] + code[at + 1 :])


LEAST = "0002015204581453031565802CN5901A6001B"
SHOP = LEAST + "0201x"
WRONG = [
    ("", ("first_is_not_00", "00")),
    ("5802CN000201", ("first_is_not_00", "00")),
    ("0002015303156", ("missing", "52")),
    (LEAST, ("no_merchant_account", "26")),
    (LEAST.replace("000201", "000202") + "0201x", ("form", "00")),
    (LEAST.replace("CN", "c1") + "0201x", ("form", "58")),
    (LEAST.replace("156", "1５6") + "0201x", ("form", "53")),
    (LEAST.replace("5303", "530３") + "0201x", ("not_id_and_length", "")),
    (SHOP + "0201y", ("twice", "02")),
    (LEAST + "26080104abcd", ("missing", "26.00")),
    (LEAST + "2609000412340", ("not_id_and_length", "26")),
    (LEAST + "26090001x0102", ("length", "26.01")),
    (SHOP + "6304ABCD", ("crc_not_last", "63")),
    (SHOP + "5400", ("length", "54")),
    (SHOP + "5401", ("length", "54")),
    (SHOP + "54040.00", ("form", "54")),
    (SHOP + "54041,00", ("form", "54")),
    (SHOP + "541412345678901.25", ("form", "54")),
    (SHOP + "550202", ("tip", "56")),
    (SHOP + "56040.01", ("tip", "56")),
    (SHOP + "55020257011", ("tip", "56")),
    (SHOP + "550204", ("form", "55")),
    (SHOP + "62060503ab", ("length", "62.05")),
    (SHOP + "62120503abc0501x", ("twice", "62.05")),
    (SHOP + "62055001x", ("not_id_and_length", "62.50")),
    (SHOP + "64060002zh", ("missing", "64.01")),
    (SHOP + "010213", ("form", "01")),
    (SHOP + "8001x", ("not_id_and_length", "80")),
    (SHOP + "6205050\n1", ("not_printable", "")),
    (SHOP + "".join(f"{number}99" + "9" * 99 for number in range(70, 75)), ("too_long", "")),
]


@pytest.mark.parametrize(("objects", "expected"), WRONG)
def test_what_is_wrong_is_named(objects: str, expected: tuple[str, str]) -> None:
    assert parse(sealed(SHOP)).value("02") == "x"
    assert reason(sealed(objects)) == expected


def test_a_code_that_is_none_cannot_be_made() -> None:
    for wrong in (DataObject("62", "text"), DataObject("54", "0"), DataObject("5x", "1"), DataObject("26", ()), CHINESE):
        with pytest.raises(EmvCodeMalformed):
            simple(wrong, CHINESE)
    with pytest.raises(EmvCodeMalformed):
        simple(account=DataObject("02", "1" * 100))
    with pytest.raises(EmvCodeMalformed):
        simple(DataObject("54", (DataObject("00", "1"),)))


def test_every_currency_has_a_number_of_its_own() -> None:
    assert set(NUMBERS) == set(EXPONENTS)
    assert len(set(NUMBERS.values())) == len(NUMBERS)
    assert all(len(number) == 3 and number.isdigit() for number in NUMBERS.values())


words = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=25).filter(str.strip)
any_words = st.text(st.sampled_from("abcXYZ019 .-/é中文食堂ßΩ😀"), min_size=1, max_size=12).filter(str.strip)
numbers = st.integers(1, 10**11).map(lambda number: f"{number // 100}.{number % 100:02d}")


@st.composite
def codes(draw: st.DrawFn) -> MerchantCode:
    """Any code: all that it must have, some of what it may have, in any order after the first object."""
    ids = st.lists(st.integers(2, 51), min_size=1, max_size=2, unique=True)
    accounts = [_account(draw, f"{number:02d}") for number in draw(ids)]
    objects = [
        *accounts,
        DataObject("52", draw(st.integers(0, 9999).map("{:04d}".format))),
        DataObject("53", draw(st.sampled_from(sorted(NUMBERS.values())))),
        DataObject("58", draw(st.sampled_from(["CN", "KH", "DE"]))),
        DataObject("59", draw(any_words)),
        DataObject("60", draw(any_words)),
    ]
    if draw(st.booleans()):
        objects.append(DataObject("01", draw(st.sampled_from(["11", "12"]))))
    if draw(st.booleans()):
        objects.append(DataObject("54", draw(numbers)))
    tip = draw(st.sampled_from([None, "01", "02", "03"]))
    objects += [] if tip is None else [DataObject("55", tip)]
    objects += {"02": [DataObject("56", draw(numbers))], "03": [DataObject("57", "5.25")]}.get(tip or "", [])
    if draw(st.booleans()):
        free = DataObject("50", (DataObject("00", "org.example"), DataObject("07", draw(any_words))))
        label = DataObject(f"{draw(st.integers(1, 8)):02d}", draw(any_words))
        objects.append(DataObject("62", tuple(draw(st.permutations([free, label])))))
    objects += [CHINESE] if draw(st.booleans()) else []
    objects += [DataObject("72", draw(any_words))] if draw(st.booleans()) else []
    ordered = (DataObject("00", "01"), *draw(st.permutations(objects)))
    assume(len("".join(one.text() for one in ordered).encode()) < 500)
    return MerchantCode(ordered)


def _account(draw: st.DrawFn, name: str) -> DataObject:
    if name < "26":
        return DataObject(name, draw(words))
    return DataObject(name, (DataObject("00", "org.example"), DataObject("01", draw(any_words))))


@given(codes())
@settings(max_examples=200, deadline=None)
def test_what_is_written_is_read_back(code: MerchantCode) -> None:
    assert parse(produce(code)) == code


def quietly(text: str) -> None:
    """Reads; whatever comes of it is a code or the one error, whose facts can be told as JSON."""
    try:
        code = parse(text)
    except EmvCodeMalformed as error:
        json.dumps(error.detail).encode()
    else:
        assert produce(code) == text


@given(st.text(max_size=300))
@settings(max_examples=300, deadline=None)
def test_no_text_makes_the_reader_stumble(text: str) -> None:
    quietly(text)
    quietly("000201" + text)
    if not any("\ud800" <= char <= "\udfff" for char in text):
        quietly(sealed(text))
        quietly(sealed("000201" + text))


@given(codes(), st.data())
@settings(max_examples=300, deadline=None)
def test_no_mutation_makes_the_reader_stumble(code: MerchantCode, data: st.DataObject) -> None:
    """Mutated behind the CRC's back, so that the reader proper is reached."""
    body = produce(code)[:-8]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body)))
        cut = data.draw(st.integers(0, 4))
        body = body[:at] + data.draw(st.text(st.sampled_from("0123456789abZ中 \x00"), max_size=4)) + body[at + cut :]
    quietly(body + produce(code)[-8:])
    quietly(sealed(body))
