"""Consumer-presented codes: what is written is read back, and no octets make the reader stumble."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kinpay.primitives.errors import EmvCodeMalformed
from kinpay.terminals.emv_consumer import MAX_CHARACTERS, START, ConsumerCode, Tlv, inside, parse, produce

PUBLISHED = (
    "hQVDUFYwMWETTwegAAAAVVVVUAhQcm9kdWN0MWETTwegAAAAZmZmUAhQcm9kdWN0MmJJWggSNFZ4kBI0WF8gDkNBUkRIT0xERVIvRU1WXy0IcnVlc2Rl"
    "ZW5kIZ8QBwYBCgMAAACfJghYT9OF+iNLzJ82AgABnzcEbVjvEw=="
)
FORMAT = Tlv("85", b"CPV01")
AID = Tlv("4F", bytes.fromhex("A0000000555555"))


def reason(octets: str) -> str:
    """Why octets, in hexadecimal after the format object, are refused."""
    with pytest.raises(EmvCodeMalformed) as refused:
        parse(base64.b64encode(bytes.fromhex("85054350563031" + octets)).decode())
    return str(refused.value.detail["reason"])


def test_the_published_sample_is_read_and_written_again_as_it_was() -> None:
    code = parse(PUBLISHED)
    assert produce(code) == PUBLISHED
    assert PUBLISHED.startswith(START)
    assert [one.tag for one in code.objects] == ["85", "61", "61", "62"]
    assert [inside(one, "50") for one in code.applications()] == [b"Product1", b"Product2"]
    assert inside(code.objects[3], "64", "9F26") == bytes.fromhex("584FD385FA234BCC")
    assert (inside(code.objects[3], "5F20"), inside(code.objects[3], "5F20", "9F26")) == (b"CARDHOLDER/EMV", None)


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        ("", "missing"),
        ("6100", "missing"),
        ("6108500650726F6475", "length"),
        ("61095007A0000000555555", "missing"),
        ("61094F07A00000005555556200 6200".replace(" ", ""), "twice"),
        ("61124F07A00000005555554F07A0000000555555", "twice"),
        ("61064F04A0000000", "length"),
        ("6181094F07A0000000555555", "length"),
        ("61804F07A00000005555550000", "length"),
        ("61094F07A0000000555555" + "9F", "tag"),
        ("61094F07A0000000555555" + "9FFFFF", "tag"),
        ("61094F07A0000000555555" + "62", "length"),
        ("61094F07A0000000555555" + "6284", "length"),
        ("61094F07A0000000555555" + "629F26045F200141", "length"),
        ("610D4F07A0000000555555" + "E0E0E0E0", "length"),
        ("61134F07A0000000555555" + "E008E006E004E002E000", "too_deep"),
    ],
)
def test_what_is_wrong_is_named(octets: str, expected: str) -> None:
    assert reason(octets) == expected


def test_other_spellings_of_the_same_octets_are_refused() -> None:
    for text in (PUBLISHED.rstrip("="), PUBLISHED + "\n", PUBLISHED[:-3] + "x==", PUBLISHED.replace("+", "-"), "é" + PUBLISHED):
        with pytest.raises(EmvCodeMalformed):
            parse(text)


def test_a_code_that_is_none_cannot_be_made() -> None:
    for wrong in ("4f", "", "4F4F", "9F", "zz", "4F 4F"):
        with pytest.raises(EmvCodeMalformed):
            ConsumerCode((FORMAT, Tlv("61", (AID, Tlv(wrong, bytes(7))))))
    for objects in ((), (FORMAT,), (Tlv("61", (AID,)), FORMAT), (FORMAT, Tlv("61", b"x")), (FORMAT, Tlv("61", (AID, AID)))):
        with pytest.raises(EmvCodeMalformed):
            ConsumerCode(objects)
    with pytest.raises(EmvCodeMalformed):
        ConsumerCode((FORMAT, Tlv("61", (AID, Tlv("DF01", bytes(MAX_CHARACTERS))))))


LEAVES = {"50": (1, 16), "57": (1, 19), "5A": (1, 10), "5F20": (2, 26), "9F26": (8, 8), "DF4B": (0, 140), "9F8101": (0, 3)}


@st.composite
def templates(draw: st.DrawFn, tag: str, inner: str) -> Tlv:
    """A template with some leaves, perhaps one template more."""
    names = draw(st.lists(st.sampled_from(sorted(LEAVES)), unique=True, max_size=3))
    leaves = [Tlv(name, draw(st.binary(min_size=LEAVES[name][0], max_size=LEAVES[name][1]))) for name in names]
    if draw(st.booleans()):
        leaves.append(Tlv(inner, (Tlv("9F36", b"\x00\x01"),)))
    if tag == "61":
        leaves.append(Tlv("4F", draw(st.binary(min_size=5, max_size=16))))
    return Tlv(tag, tuple(draw(st.permutations(leaves))))


@st.composite
def codes(draw: st.DrawFn) -> ConsumerCode:
    """Any code."""
    applications = draw(st.lists(templates("61", "63"), min_size=1, max_size=3))
    shared = draw(st.lists(templates("62", "64"), max_size=1))
    objects = (FORMAT, *applications, *shared)
    assume(sum(len(one.encode()) for one in objects) <= 384)
    return ConsumerCode(objects)


@given(codes())
@settings(max_examples=200, deadline=None)
def test_what_is_written_is_read_back(code: ConsumerCode) -> None:
    assert parse(produce(code)) == code


def quietly(text: str) -> None:
    """Reads; whatever comes of it is a code or the one error, whose facts can be told as JSON."""
    try:
        code = parse(text)
    except EmvCodeMalformed as error:
        json.dumps(error.detail).encode()
    else:
        assert produce(code) == text


@given(st.binary(max_size=200), st.text(max_size=200))
@settings(max_examples=300, deadline=None)
def test_no_octets_make_the_reader_stumble(octets: bytes, text: str) -> None:
    for data in (octets, b"\x85\x05CPV01" + octets, b"\x85\x05CPV01a\x09O\x07" + bytes(7) + octets):
        quietly(base64.b64encode(data).decode())
    quietly(text)
    quietly(START + text)


@given(codes(), st.data())
@settings(max_examples=300, deadline=None)
def test_no_mutation_makes_the_reader_stumble(code: ConsumerCode, data: st.DataObject) -> None:
    octets = base64.b64decode(produce(code))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(octets)))
        octets = octets[:at] + data.draw(st.binary(max_size=3)) + octets[at + data.draw(st.integers(0, 3)) :]
    quietly(base64.b64encode(octets).decode())
