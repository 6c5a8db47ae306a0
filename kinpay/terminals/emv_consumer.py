"""EMVCo consumer-presented QR codes: what a payer's phone shows and a till reads. Pure.

Base64 of BER-TLV: `85` says that it is one, each `61` is an application (its AID in `4F`), `62` holds what all have in common;
what an application keeps to itself is in `63`, what all of them do in `64`.
Source: EMV QRCPS Consumer-Presented Mode 1.1, §3 (format), §4 (data objects); BER: ISO/IEC 8825-1, EMV Book 3 Annex B.
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from kinpay.primitives.errors import EmvCodeMalformed

START: Final = "hQVDUFYwM"
"""What every such code begins with: `85`, five octets, CPV01 (whose last two bits share a character with the next object)."""
MAX_CHARACTERS: Final = 512
_FORMAT: Final = ("85", b"CPV01")
_DEEPEST: Final = 4
_CONSTRUCTED: Final = 0x20
_LONG_TAG: Final = 0x1F
_MORE: Final = 0x80

_SIZES: Final[Mapping[str, tuple[int, int]]] = {
    "4F": (5, 16),  # the application's id (AID)
    "50": (1, 16),  # its label
    "57": (1, 19),  # track 2
    "5A": (1, 10),  # card number
    "5F20": (2, 26),  # the holder's name
    "5F2D": (2, 8),  # languages they prefer, two letters each
    "5F50": (1, 384),  # the issuer's address in the web
    "82": (2, 2),  # what the application can do
    "9F08": (2, 2),  # its version
    "9F10": (1, 32),  # the issuer's own data
    "9F19": (6, 6),  # who asked for the token
    "9F24": (29, 29),  # the account behind the token
    "9F25": (2, 2),  # the card's last four digits
    "9F26": (8, 8),  # cryptogram
    "9F27": (1, 1),  # its kind
    "9F36": (2, 2),  # transaction counter
    "9F37": (4, 4),  # unpredictable number
}
"""Octets of a value, by tag; what is not listed is as long as it is."""


@dataclass(frozen=True, slots=True)
class Tlv:
    """One object: `tag` in upper-case hexadecimal, and octets, or (where the tag says so) further objects."""

    tag: str
    value: bytes | tuple[Tlv, ...]

    def encode(self) -> bytes:
        """Tag, shortest form of the length, value."""
        value = self.value if isinstance(self.value, bytes) else _encoded(self.value)
        return bytes.fromhex(self.tag) + _length(len(value)) + value


@dataclass(frozen=True, slots=True)
class ConsumerCode:
    """The objects of a code in their order. There is none that is not well formed.

    Raises (when made): EmvCodeMalformed.
    """

    objects: tuple[Tlv, ...]

    def __post_init__(self) -> None:
        if not self.objects or (self.objects[0].tag, self.objects[0].value) != _FORMAT:
            raise EmvCodeMalformed("first_is_not_85", field="85")
        _check(self.objects, where="", depth=0)
        if not self.applications():
            raise EmvCodeMalformed("missing", field="61")
        if len(produce(self)) > MAX_CHARACTERS:
            raise EmvCodeMalformed("too_long")

    def applications(self) -> tuple[Tlv, ...]:
        """The application templates, the preferred one first."""
        return tuple(one for one in self.objects if one.tag == "61")


def inside(template: Tlv, *path: str) -> bytes | None:
    """The octets at `path` (`"63", "9F26"`) inside a template, or None."""
    found: bytes | tuple[Tlv, ...] | None = template.value
    for step in path:
        if not isinstance(found, tuple):
            return None
        found = next((one.value for one in found if one.tag == step), None)
    return found if isinstance(found, bytes) else None


def parse(text: str) -> ConsumerCode:
    """The code in `text`.

    Raises: EmvCodeMalformed; `reason` says which rule, `field` the object's tag.
    """
    if len(text) > MAX_CHARACTERS:
        raise EmvCodeMalformed("too_long")
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise EmvCodeMalformed("base64") from None
    if base64.b64encode(data).decode() != text:
        raise EmvCodeMalformed("base64")
    return ConsumerCode(tuple(_read(data, where="", depth=0)))


def produce(code: ConsumerCode) -> str:
    """The code as text; `parse` gives the same code back."""
    return base64.b64encode(_encoded(code.objects)).decode()


def _encoded(objects: Iterable[Tlv]) -> bytes:
    return b"".join(one.encode() for one in objects)


def _length(size: int) -> bytes:
    if size < _MORE:
        return bytes([size])
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([_MORE | len(octets)]) + octets


def _read(data: bytes, *, where: str, depth: int) -> Iterator[Tlv]:
    at = 0
    while at < len(data):
        size_at = _after_tag(data, at, where)
        tag = data[at:size_at].hex().upper()
        at, end = _span(data, size_at, tag)
        if not data[size_at - len(tag) // 2] & _CONSTRUCTED:
            yield Tlv(tag, data[at:end])
        elif depth == _DEEPEST:
            raise EmvCodeMalformed("too_deep", field=tag)
        else:
            yield Tlv(tag, tuple(_read(data[at:end], where=tag, depth=depth + 1)))
        at = end


def _after_tag(data: bytes, at: int, where: str) -> int:
    end = at + 1
    if data[at] & _LONG_TAG == _LONG_TAG:
        while end < len(data) and data[end] & _MORE:
            end += 1
        end += 1
    if end > len(data):
        raise EmvCodeMalformed("tag", field=where)
    return end


def _span(data: bytes, at: int, tag: str) -> tuple[int, int]:
    """From where to where the value reaches whose length stands at `at`."""
    head = data[at : at + 1]
    count = head[0] & ~_MORE if head and head[0] & _MORE else 0
    start = at + 1 + count
    octets = data[at + 1 : start] if count else head
    size = int.from_bytes(octets, "big")
    if not head or start > len(data) or _length(size) != data[at:start] or start + size > len(data):
        raise EmvCodeMalformed("length", field=tag)
    return start, start + size


def _check(objects: tuple[Tlv, ...], *, where: str, depth: int) -> None:
    """Every tag is one, stands once (61 may repeat) and has a value of the size it is known for."""
    for tag, count in Counter(one.tag for one in objects).items():
        if count > 1 and (tag, where) != ("61", ""):
            raise EmvCodeMalformed("twice", field=tag)
    for one in objects:
        _check_tag(one)
        if isinstance(one.value, bytes):
            least, most = _SIZES.get(one.tag, (0, MAX_CHARACTERS))
            if not least <= len(one.value) <= most:
                raise EmvCodeMalformed("length", field=one.tag)
        elif depth == _DEEPEST:
            raise EmvCodeMalformed("too_deep", field=one.tag)
        else:
            _check(one.value, where=one.tag, depth=depth + 1)
        if (one.tag, where) == ("61", "") and inside(one, "4F") is None:
            raise EmvCodeMalformed("missing", field="4F")


def _check_tag(one: Tlv) -> None:
    try:
        octets = bytes.fromhex(one.tag)
    except ValueError:
        octets = b""
    whole = bool(octets) and octets.hex().upper() == one.tag and _after_tag(octets, 0, "") == len(octets)
    if not whole or isinstance(one.value, bytes) == bool(octets[0] & _CONSTRUCTED):
        raise EmvCodeMalformed("tag", field=one.tag if whole else "")
