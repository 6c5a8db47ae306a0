"""Our own codes inside EMVCo's: a payment code as a merchant-presented one, a pay code as a consumer-presented one.

A template of the first takes 99 characters, too few for a payment code. So it carries a shorter form: what the other objects
say already (amount, currency, reference, shop) is not repeated, but covered by the same MAC: what is printed is what was
signed.
"""

from __future__ import annotations

import base64
import re
import struct
from dataclasses import dataclass, replace
from typing import Final

from kinpay.primitives.errors import CheckCodeAltered, Invalid
from kinpay.primitives.money import NUMBERS, read_amount, shown_amount
from kinpay.terminals import emv_consumer, emv_merchant
from kinpay.terminals.codes import Codes, PaymentCode
from kinpay.terminals.emv_consumer import ConsumerCode, Tlv
from kinpay.terminals.emv_merchant import DataObject, MerchantCode
from kinpay.terminals.terminal import Terminal

OUR_ID: Final = "org.kinpay"
"""The globally unique id (00) of our templates, in the form of a reversed domain name."""
OUR_AID: Final = "F04B494E504159"
"""Our application id: `F` (proprietary, unregistered: ISO/IEC 7816-4 §8.2.1.2), then KINPAY."""
_OUR_TAG: Final = "DF4B"
"""A private tag: the octets of a pay code."""
_TEMPLATE: Final = "26"
_LETTER: Final = "M"
_HEAD: Final = struct.Struct(">16s16sI")
_HEAD_SIZE: Final = _HEAD.size * 4 // 3
"""36 octets are 48 characters, without padding."""
_SIGNED = re.compile(r"[A-Za-z0-9_-]{70}")
_REFERENCE_SIZE: Final = 25
_NAME_SIZE: Final = 25
_PAY_CODE: Final = "K1P."
_CURRENCIES: Final = {number: code for code, number in NUMBERS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class EmvPlace:
    """What EMVCo wants to know of a shop beyond what we keep: country (ISO 3166), city (at most 15 plain characters).

    `language` (ISO 639): of the shop's name, where that is not plain ASCII.
    """

    country: str
    city: str
    language: str


def merchant_presented(codes: Codes, code: PaymentCode, *, terminal: Terminal, place: EmvPlace) -> str:
    """The payment code as an EMVCo merchant-presented code.

    Raises: Invalid for an amount beyond its 13 characters; EmvCodeMalformed for a country or city that is none.
    """
    amount = shown_amount(code.amount_minor, code.currency)
    if len(amount) > 13:
        raise Invalid("amount_too_large_for_emv", field="amount_minor")
    head = _text(_HEAD.pack(bytes.fromhex(code.code_id), bytes.fromhex(code.terminal_id), code.expires_s))
    name = terminal.merchant_name
    plain = name.isascii()
    objects = [
        DataObject("00", "01"),
        DataObject("01", emv_merchant.DYNAMIC),
        DataObject(_TEMPLATE, (DataObject("00", OUR_ID), DataObject("01", head))),
        DataObject("52", terminal.mcc),
        DataObject("53", NUMBERS[code.currency]),
        DataObject("54", amount),
        DataObject("58", place.country),
        DataObject("59", name[:_NAME_SIZE].strip() if plain else f"MERCHANT {terminal.merchant_id[-16:]}"),
        DataObject("60", place.city),
    ]
    if code.reference is not None:
        objects.append(DataObject("62", (_reference(code.reference),)))
    if not plain:
        said = (DataObject("00", place.language), DataObject("01", name[:_NAME_SIZE].strip()))
        objects.append(DataObject("64", said))
    unsigned = MerchantCode(tuple(objects))
    mac = codes.mac(_LETTER, _covered(unsigned, code.operator_id))
    return emv_merchant.produce(_with_signed(unsigned, head + _text(mac)))


def read_payment_code_text(codes: Codes, text: str, *, operator_id: str) -> PaymentCode:
    """The payment code in what a phone scanned: bare, or an EMVCo code of ours at `operator_id`.

    Raises: CheckCodeAltered for others' codes, and where something printed differs from what was signed; EmvCodeMalformed.
    """
    if not text.startswith(emv_merchant.START):
        return codes.read(text, PaymentCode)
    found = emv_merchant.parse(text)
    signed = found.value(_TEMPLATE, "01") or ""
    if found.value(_TEMPLATE, "00") != OUR_ID or not _SIGNED.fullmatch(signed):
        raise CheckCodeAltered()
    head = signed[:_HEAD_SIZE]
    mac = base64.urlsafe_b64decode(_padded(signed[_HEAD_SIZE:]))
    if _text(mac) != signed[_HEAD_SIZE:] or not codes.is_mac(mac, _LETTER, _covered(_with_signed(found, head), operator_id)):
        raise CheckCodeAltered()
    code_id, terminal_id, expires_s = _HEAD.unpack(base64.urlsafe_b64decode(head))
    currency, amount = _CURRENCIES.get(found.value("53") or ""), found.value("54")
    if currency is None or amount is None:
        raise CheckCodeAltered()
    reference = found.value("62", "05") or found.value("62", "50", "01")
    return PaymentCode(
        code_id.hex(), operator_id, terminal_id.hex(), read_amount(amount, currency), currency, reference, expires_s
    )


def consumer_presented(pay_code: str) -> str:
    """A pay code as an EMVCo consumer-presented code; nothing is added that could say anything else."""
    octets = base64.urlsafe_b64decode(_padded(pay_code.removeprefix(_PAY_CODE)))
    application = (
        Tlv("4F", bytes.fromhex(OUR_AID)),
        Tlv("50", b"kinpay"),
        Tlv("63", (Tlv(_OUR_TAG, octets),)),
    )
    return emv_consumer.produce(ConsumerCode((Tlv("85", b"CPV01"), Tlv("61", application))))


def bare_pay_code(text: str) -> str:
    """The pay code in what a terminal was shown: `text` itself, unless it is an EMVCo code.

    Raises: EmvCodeMalformed; CheckCodeAltered for one of others, or with anything in it that we did not write.
    """
    if not text.startswith(emv_consumer.START):
        return text
    octets = emv_consumer.inside(emv_consumer.parse(text).applications()[0], "63", _OUR_TAG)
    bare = _PAY_CODE + _text(octets or b"")
    if octets is None or consumer_presented(bare) != text:
        raise CheckCodeAltered()
    return bare


def _reference(text: str) -> DataObject:
    """The reference label (05); where its 25 characters are too few, a template of our own in the same place."""
    if len(text) <= _REFERENCE_SIZE:
        return DataObject("05", text)
    return DataObject("50", (DataObject("00", OUR_ID), DataObject("01", text)))


def _covered(unsigned: MerchantCode, operator_id: str) -> bytes:
    """What the MAC is over: every object, its place among the others, and whose terminal it is."""
    return operator_id.encode() + emv_merchant.produce(unsigned).encode()


def _with_signed(code: MerchantCode, signed: str) -> MerchantCode:
    """The same code with another text in our template's 01."""
    template = DataObject(_TEMPLATE, (DataObject("00", OUR_ID), DataObject("01", signed)))
    return replace(code, objects=tuple(template if one.id == _TEMPLATE else one for one in code.objects))


def _text(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")


def _padded(text: str) -> str:
    return text + "=" * (-len(text) % 4)
