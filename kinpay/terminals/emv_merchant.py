"""EMVCo merchant-presented QR codes: what a shop shows and a payer's phone reads. Pure.

Text made of data objects: two digits of id, two of length, the value. The length counts characters, not octets, also where one
is several octets in UTF-8; the CRC is over the octets. A template's value is again a row of objects.
Reading is as wide as what shops print (any printable character in a name), writing keeps to what the caller gives.
Source: EMV QRCPS Merchant-Presented Mode 1.1, §3 (format), §4 (data objects), Annex B (CRC); notes in `docs/emv-codes.md`.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from kinpay.primitives.errors import EmvCodeMalformed
from kinpay.primitives.fields import printable

START: Final = "000201"
"""What every such code begins with: the payload format, version 01."""
STATIC: Final = "11"
"""Point of initiation (01): the same code for many sales."""
DYNAMIC: Final = "12"
"""Point of initiation (01): a code for one sale."""
MAX_OCTETS: Final = 512
_CRC_HEAD: Final = "6304"
_CRC_SIZE: Final = len(_CRC_HEAD) + 4
_MANDATORY: Final = ("00", "52", "53", "58", "59", "60")

_AMOUNT: Final = r"(?=.{1,13}\Z)(?=.*[1-9])[0-9]+(\.[0-9]*)?"
_FORMS: Final[Mapping[str, str]] = {
    "00": "01",
    "01": f"{STATIC}|{DYNAMIC}",
    "52": "[0-9]{4}",
    "53": "[0-9]{3}",
    "54": _AMOUNT,
    "55": "0[123]",
    "56": _AMOUNT,
    "57": r"(?=.*[1-9])[0-9]{1,2}(\.[0-9]{0,2})?",
    "58": "[A-Z]{2}",
    "59": ".{1,25}",
    "60": ".{1,15}",
    "61": ".{1,10}",
    **{f"62.{number:02d}": ".{1,25}" for number in range(1, 9)},
    "62.09": "[AME]{1,3}",
    "62.10": ".{1,20}",
    "62.11": ".{3}",
    "64.00": "[A-Za-z]{2}",
    "64.01": ".{1,25}",
    "64.02": ".{1,15}",
}
"""By where an object stands (`62.05`: object 05 of template 62): what its value looks like; anything, if it is not listed."""
_READY: Final = {where: re.compile(form) for where, form in _FORMS.items()}


@dataclass(frozen=True, slots=True)
class DataObject:
    """One object: two digits of `id`, and a text, or the objects of a template."""

    id: str
    value: str | tuple[DataObject, ...]

    def text(self) -> str:
        """As it is written: id, length in characters, value."""
        value = self.value if isinstance(self.value, str) else _written(self.value)
        return f"{self.id}{len(value):02d}{value}"


@dataclass(frozen=True, slots=True)
class MerchantCode:
    """The objects of a code in their order, without the CRC, which follows from them. There is none that is not well formed.

    Raises (when made): EmvCodeMalformed.
    """

    objects: tuple[DataObject, ...]

    def __post_init__(self) -> None:
        _check(self.objects, where="")
        ids = [one.id for one in self.objects]
        if ids[:1] != ["00"]:
            raise EmvCodeMalformed("first_is_not_00", field="00")
        for missing in (one for one in _MANDATORY if one not in ids):
            raise EmvCodeMalformed("missing", field=missing)
        if not any("02" <= one <= "51" for one in ids):
            raise EmvCodeMalformed("no_merchant_account", field="26")
        if "63" in ids:
            raise EmvCodeMalformed("crc_not_last", field="63")
        self._check_tip()
        if len(produce(self).encode()) > MAX_OCTETS:
            raise EmvCodeMalformed("too_long")

    def value(self, *path: str) -> str | None:
        """The text at `path` (`"62", "05"`), or None."""
        found: tuple[DataObject, ...] | str | None = self.objects
        for step in path:
            if not isinstance(found, tuple):
                return None
            found = next((one.value for one in found if one.id == step), None)
        return found if isinstance(found, str) else None

    def _check_tip(self) -> None:
        """55 says how a tip is found: asked of the payer (01), a fixed amount in 56 (02), a share in 57 (03)."""
        tip = self.value("55")
        for where, when in (("56", "02"), ("57", "03")):
            if (self.value(where) is not None) != (tip == when):
                raise EmvCodeMalformed("tip", field=where)


def parse(text: str) -> MerchantCode:
    """The code in `text`.

    Raises: EmvCodeMalformed; `reason` says which rule, `field` the object (`62.05`).
    """
    _check_characters(text)
    body, tail = text[:-_CRC_SIZE], text[-_CRC_SIZE:]
    if not tail.startswith(_CRC_HEAD) or tail[4:] != _crc(body):
        raise EmvCodeMalformed("crc", field="63")
    return MerchantCode(_objects(body, where=""))


def produce(code: MerchantCode) -> str:
    """The code as text, with its CRC; `parse` gives the same code back."""
    body = _written(code.objects)
    return body + _CRC_HEAD + _crc(body)


def _crc(body: str) -> str:
    """CRC-16/CCITT-FALSE (polynomial 0x1021, from 0xFFFF) over everything with the CRC's own id and length: four digits."""
    return f"{binascii.crc_hqx((body + _CRC_HEAD).encode(), 0xFFFF):04X}"


def _written(objects: Iterable[DataObject]) -> str:
    return "".join(one.text() for one in objects)


def _check_characters(text: str) -> None:
    """Refuses what is too long, or cannot be shown: controls, lone surrogates, marks that turn the writing around."""
    if len(text) > MAX_OCTETS:
        raise EmvCodeMalformed("too_long")
    try:
        printable(text)
    except ValueError:
        raise EmvCodeMalformed("not_printable") from None


def _objects(text: str, *, where: str) -> tuple[DataObject, ...]:
    return tuple(_read(text, where=where))


def _read(text: str, *, where: str) -> Iterator[DataObject]:
    at = 0
    while at < len(text):
        head = text[at : at + 4]
        if len(head) < 4 or not (head.isascii() and head.isdigit()):
            raise EmvCodeMalformed("not_id_and_length", field=where)
        name, size = head[:2], int(head[2:])
        value = text[at + 4 : at + 4 + size]
        place = _place(where, name)
        if size == 0 or len(value) != size:
            raise EmvCodeMalformed("length", field=place)
        yield DataObject(name, _objects(value, where=place) if _is_template(place) else value)
        at += 4 + size


def _place(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _is_template(place: str) -> bool:
    """26-51 merchant account, 62 additional data (in it 50-99), 64 other language, 80-99 free: made of objects again."""
    outer, _, inner = place.partition(".")
    if inner:
        return outer == "62" and "50" <= inner <= "99" and "." not in inner
    return "26" <= outer <= "51" or outer in ("62", "64") or "80" <= outer <= "99"


def _check(objects: tuple[DataObject, ...], *, where: str) -> None:
    """Every object has a name of its own, the form its place demands and a length that two digits can say."""
    seen: set[str] = set()
    for one in objects:
        place = _place(where, one.id)
        if not re.fullmatch("[0-9]{2}", one.id, re.ASCII):
            raise EmvCodeMalformed("not_an_id", field=where)
        if one.id in seen:
            raise EmvCodeMalformed("twice", field=place)
        seen.add(one.id)
        if isinstance(one.value, str) == _is_template(place):
            raise EmvCodeMalformed("not_a_template" if isinstance(one.value, str) else "template", field=place)
        if isinstance(one.value, str):
            _check_value(one.value, place)
        else:
            _check(one.value, where=place)
            _check_template(one.value, place)
        if not 1 <= len(one.text()) - 4 <= 99:
            raise EmvCodeMalformed("length", field=place)


def _check_value(value: str, place: str) -> None:
    _check_characters(value or "-")
    form = _READY.get(place)
    if form is not None and not form.fullmatch(value):
        raise EmvCodeMalformed("form", field=place)


def _check_template(objects: tuple[DataObject, ...], place: str) -> None:
    """A template of nobody in particular begins with whose it is (00); another language's says which, and the name in it."""
    names = [one.id for one in objects]
    if place == "64":
        if not {"00", "01"} <= set(names):
            raise EmvCodeMalformed("missing", field="64.00" if "00" not in names else "64.01")
    elif place != "62":
        whose = next((one.value for one in objects if one.id == "00"), "")
        if not isinstance(whose, str) or not 1 <= len(whose) <= 32:
            raise EmvCodeMalformed("missing", field=f"{place}.00")
