"""`POST /v1/charges`, the one hot route: decoded by compiled code, authenticated and idempotent like every other, described in
the same OpenAPI document.

Two ways in: a terminal presents what the spender showed it (pay code, card), or a spender's phone presents the terminal's
payment code. Source: [0032]; semantics.md "Security" (the hot route); reliability.md §1c.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec

from kinpay.charges.answer import ChargeAnswer, status_of, told
from kinpay.charges.batch import Batcher
from kinpay.charges.charge import ChargeState, Method
from kinpay.charges.order import Item, Order
from kinpay.charges.repetition import recovered_charge
from kinpay.charges.request import AuthorizeRequest, Burn, Charge, Signed
from kinpay.charges.store import read_charges
from kinpay.charges.submit import capture_charge
from kinpay.database.idempotency import RequestKey, mark_of
from kinpay.database.pool import Database
from kinpay.database.sql import Sql
from kinpay.primitives.actor import Actor
from kinpay.primitives.errors import (
    ChargedBefore,
    CheckCodeAltered,
    CheckCodeExpired,
    CheckCodeUsed,
    Invalid,
    NotFound,
    Unauthenticated,
    WrongState,
)
from kinpay.primitives.fields import printable, read_key
from kinpay.primitives.ids import ID_PATTERN, marked_id
from kinpay.primitives.money import EXPONENTS, MAX_MINOR
from kinpay.primitives.server_keys import ServerKeys
from kinpay.providers.contract import Adapters
from kinpay.sittings.token import PATTERN as FACE_PATTERN
from kinpay.sittings.token import FaceToken, read_token
from kinpay.terminals.authenticate import SignedRequest
from kinpay.terminals.codes import CardCode, Codes, PayCode, moment_of
from kinpay.terminals.emv_codes import bare_pay_code, read_payment_code_text
from kinpay.terminals.signature import RequestParts
from kinpay.terminals.store import find_terminal

PATH: Final = "/v1/charges"
OPERATION: Final = "charge"

_Code = Annotated[str, msgspec.Meta(min_length=8, max_length=512, pattern=r"^[A-Za-z0-9._~+/=-]+$")]
_Face = Annotated[str, msgspec.Meta(min_length=8, max_length=2048, pattern=FACE_PATTERN)]
_Scan = Annotated[str, msgspec.Meta(min_length=8, max_length=512, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Shown(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the spender showed: a pay code (also as an EMVCo code) or a card (`code`), or their face (`face`, what the frames
    of a sitting came to). One of them.
    """

    code: _Code | None = None
    face: _Face | None = None


class ItemLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of the receipt: what, how many, for how much in all. The lines together come to the amount."""

    code: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$", max_length=64)]
    amount_minor: Annotated[int, msgspec.Meta(gt=0, le=MAX_MINOR)]
    quantity: Annotated[int, msgspec.Meta(gt=0, le=1_000_000)] = 1


class TerminalCharge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A terminal asks. `capture`: debit at once (a till that hands over at once); otherwise hold until it reports."""

    presented: Shown
    amount_minor: Annotated[int, msgspec.Meta(gt=0, le=MAX_MINOR)]
    currency: Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3}$", max_length=3)]
    capture: bool = True
    pin: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4,8}$", max_length=8)] | None = None
    reference: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] | None = None
    items: Annotated[tuple[ItemLine, ...], msgspec.Meta(max_length=100)] = ()


class Scanned(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the spender's phone read: the terminal's payment code (also as an EMVCo code): terminal, payee and amount."""

    payment_code: _Scan


class SpenderCharge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A spender's phone asks, in one of their circles."""

    presented: Scanned
    circle_id: Annotated[str, msgspec.Meta(pattern=ID_PATTERN, max_length=32)]


_UNKNOWN_FIELD: Final = re.compile(r"contains unknown field .*", re.DOTALL)
_terminal_body = msgspec.json.Decoder(TerminalCharge)
_spender_body = msgspec.json.Decoder(SpenderCharge)
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Doors:
    """How the hot route knows who asks. `pin`: checks a card's number, and counts failures by itself."""

    terminal: Callable[[RequestParts], Awaitable[SignedRequest]]
    person: Callable[[str], Awaitable[Actor | None]]
    pin: Callable[[str, str | None], Awaitable[None]]


class ChargeEndpoint:
    """Asks the batcher for a decision and, where the till wants it at once, captures."""

    def __init__(
        self, db: Database, batcher: Batcher, *, keys: ServerKeys, codes: Codes, adapters: Adapters, doors: Doors
    ) -> None:
        self._db = db
        self._batcher = batcher
        self._codes = codes
        self._keys = keys
        self._adapters = adapters
        self._doors = doors
        self._fingerprint_key = keys.key("fingerprint")
        self._mark_key = keys.key("mark")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers 201 (held, succeeded, refused, declined …) or 202 (not known yet); everything else is a problem."""
        parts = RequestParts.of(
            scope["method"],
            scope.get("raw_path") or scope["path"].encode(),
            query=scope.get("query_string", b""),
            headers=scope["headers"],
            body=scope["state"]["body"],
        )
        if "signature" in parts.headers:
            request = await self._from_terminal(parts)
        else:
            request = await self._from_spender(parts.headers, parts.body)
        charge, fresh = await self.carry_out(request)
        answer = _encode(told(charge, to_circle=request.signed is None))
        head = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(answer)).encode()),
            (b"location", f"{PATH}/{charge.id}".encode()),
        ]
        if not fresh:
            head.append((b"idempotency-replayed", b"true"))
        await send({"type": "http.response.start", "status": status_of(charge), "headers": head})
        await send({"type": "http.response.body", "body": answer})

    async def carry_out(self, request: AuthorizeRequest) -> tuple[Charge, bool]:
        """Decides, and captures at once if asked to; the charge as it is then, and whether this request decided it.

        Raises: what `Batcher.authorize` raises, and KeyReused for another request under a key whose charge was lost and found.
        """
        try:
            authorized = await self._batcher.authorize(request)
        except (ChargedBefore, CheckCodeExpired, CheckCodeUsed) as error:
            async with self._db.connection() as conn:
                before = await recovered_charge(conn, request)
            if before is None:
                raise error from None
            return before, False
        charge = authorized.charge
        if charge.state is ChargeState.HELD and charge.capture_at_once:
            try:
                charge = await capture_charge(
                    self._db,
                    self._adapters,
                    charge.id,
                    amount_minor=None,
                    delivered=False,
                    actor_id=request.key.principal_id,
                )
            except WrongState:
                async with self._db.connection() as conn:
                    charge = (await read_charges(conn, [charge.id]))[charge.id]
        return charge, authorized.fresh

    async def _from_terminal(self, parts: RequestParts) -> AuthorizeRequest:
        signed = await self._doors.terminal(parts)
        asked = _decoded(_terminal_body, parts.body)
        if asked.currency not in EXPONENTS:
            raise Invalid("currency_unknown", field="currency")
        facts = signed.facts
        shown = self._read_shown(asked, terminal_id=facts.terminal_id)
        if shown.operator_id != facts.operator_id:
            raise CheckCodeAltered()
        if isinstance(shown, CardCode):
            await self._doors.pin(shown.credential_id, asked.pin)
        order = Order(
            asked.amount_minor,
            asked.currency,
            facts.merchant_id,
            facts.mcc,
            shown.spender_id,
            shown.credential_id,
            _method(shown).value,
            facts.terminal_id,
            _items(asked),
        )
        key = self._key(facts.terminal_id, parts.headers, parts.body)
        return AuthorizeRequest(
            charge_id=marked_id(mark_of(self._mark_key, key)),
            key=key,
            circle_id=shown.circle_id,
            operator_id=facts.operator_id,
            terminal_id=facts.terminal_id,
            hold_s=facts.hold_s,
            order=order,
            method=_method(shown),
            capture=asked.capture,
            reference=_line(asked.reference),
            burn=None
            if isinstance(shown, CardCode)
            else Burn(code_id=shown.code_id, kind="pay", expires_at=moment_of(shown.expires_s)),
            signed=Signed(signer_id=signed.signer_id, nonce=signed.nonce),
            at_gate=facts.kind == "gate",
            face=shown.evidence if isinstance(shown, FaceToken) else None,
        )

    def _read_shown(self, asked: TerminalCharge, *, terminal_id: str) -> PayCode | CardCode | FaceToken:
        """Raises: Invalid for nothing, for both, or for an amount that the face was not recognised for; CheckCodeAltered."""
        text, face = asked.presented.code, asked.presented.face
        if (text is None) == (face is None):
            raise Invalid("nothing_presented" if text is None else "both_presented", field="presented")
        if face is not None:
            token = read_token(self._keys, face, terminal_id=terminal_id)
            if (token.amount_minor, token.currency) != (asked.amount_minor, asked.currency):
                raise Invalid("not_what_was_recognised_for", field="amount_minor")
            return token
        assert text is not None, "one of the two"
        if text.startswith("K1C."):
            return self._codes.read(text, CardCode)
        return self._codes.read(bare_pay_code(text), PayCode)

    async def _from_spender(self, headers: Mapping[str, str], body: bytes) -> AuthorizeRequest:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        actor = await self._doors.person(token.strip()) if scheme.lower() == "bearer" and token else None
        if actor is None:
            raise Unauthenticated()
        asked = _decoded(_spender_body, body)
        code = read_payment_code_text(self._codes, asked.presented.payment_code, operator_id=actor.operator_id)
        if code.operator_id != actor.operator_id:
            raise CheckCodeAltered()
        async with self._db.connection() as conn:
            terminal = await find_terminal(conn, code.terminal_id)
            if terminal is None or not terminal.is_active:
                raise CheckCodeAltered()
            if not await IS_MEMBER.value(conn, circle_id=asked.circle_id, person_id=actor.id):
                raise NotFound()
        method = Method.PAYMENT_CODE
        order = Order(
            code.amount_minor,
            code.currency,
            terminal.merchant_id,
            terminal.mcc,
            actor.id,
            None,
            method.value,
            code.terminal_id,
        )
        key = self._key(actor.id, headers, body)
        return AuthorizeRequest(
            charge_id=marked_id(mark_of(self._mark_key, key)),
            key=key,
            circle_id=asked.circle_id,
            operator_id=actor.operator_id,
            terminal_id=code.terminal_id,
            hold_s=terminal.hold_s,
            order=order,
            method=method,
            capture=True,
            reference=code.reference,
            burn=Burn(code_id=code.code_id, kind="payment", expires_at=moment_of(code.expires_s)),
            at_gate=terminal.kind == "gate",
        )

    def _key(self, principal_id: str, headers: Mapping[str, str], body: bytes) -> RequestKey:
        fingerprint = hmac.digest(self._fingerprint_key, PATH.encode() + b"\n" + body, "sha256")
        return RequestKey(
            principal_id=principal_id,
            operation=OPERATION,
            key=read_key(headers.get("idempotency-key")),
            fingerprint=fingerprint,
        )


IS_MEMBER = Sql("""
    SELECT EXISTS (SELECT 1 FROM circle_member WHERE circle_id = :circle_id AND person_id = :person_id
                                                AND role = 'spender' AND ended_at IS NULL)
""")


def _decoded(decoder: Any, body: bytes) -> Any:
    """Raises: Invalid, naming the field but never its value."""
    try:
        return decoder.decode(body)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid("body", hint=_hint(error)) from None


def _hint(error: Exception) -> str:
    """What msgspec says, without anything that the sender wrote: the name of an unknown field is theirs."""
    text = _UNKNOWN_FIELD.sub("contains an unknown field", str(error))
    return text if isinstance(error, msgspec.ValidationError) and len(text) < 200 else "not such a body"


def _line(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return printable(text)
    except ValueError:
        raise Invalid("not_printable", field="reference") from None


def _items(asked: TerminalCharge) -> tuple[Item, ...]:
    if asked.items and sum(line.amount_minor for line in asked.items) != asked.amount_minor:
        raise Invalid("items_do_not_add_up", field="items")
    return tuple(Item(line.code, line.amount_minor, line.quantity) for line in asked.items)


def _method(shown: PayCode | CardCode | FaceToken) -> Method:
    if isinstance(shown, FaceToken):
        return Method.FACE
    return Method.CARD if isinstance(shown, CardCode) else Method.PAY_CODE


def described() -> tuple[dict[str, Any], dict[str, Any]]:
    """The route's part of the OpenAPI document: its operation, and the schemas of its bodies, from the decoders' own types."""
    types = (TerminalCharge, SpenderCharge, ChargeAnswer)
    refs, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    terminal, spender, answer = refs
    content = {"application/json": {"schema": answer}}
    operation = {
        "tags": ["charges"],
        "summary": "Decide a charge; debit at once if asked to.",
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": True,
                "description": "The same key and body get the same answer, for ever.",
                "schema": {"type": "string", "maxLength": 255},
                "example": "order-2026-03-02-0017",
            }
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"oneOf": [terminal, spender]}}}},
        "responses": {
            "201": {"description": "Decided: held, succeeded, refused or declined; see `state`.", "content": content},
            "202": {"description": "The provider's answer is not known yet: ask again.", "content": content},
        },
        "security": [{"terminal": []}, {"person": []}],
    }
    return operation, schemas
