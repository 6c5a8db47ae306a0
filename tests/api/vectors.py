"""Bad input, made from a valid request and the document that describes it: several hundred ways to get one thing wrong.

Threats A15, A16, A32 (reliability.md). Every vector is wrong for certain, so whatever accepts it is at fault.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Document = Mapping[str, Any]
Where = tuple[str | int, ...]

MARK: Final = "zqmark"
"""Is in every text that we send wrongly, and must not come back."""
HUGE: Final = 9_223_372_036_854_775_807
SERVER_OWNED: Final = (
    "id", "state", "status", "refunded_minor", "captured_minor", "payer_id", "spender_id", "operator_id", "merchant_id",
    "terminal_id", "mandate_id", "agreement_id", "debit_id", "seq", "version", "created_at", "decided_at", "finished_at",
    "expires_at", "consented_at", "active_at", "used", "late", "delivered", "refusal", "is_default", "staff_roles", "role_id",
    "secret", "hold_expires_at", "owed_since", "pin_hash", "has_pin", "__proto__", "constructor",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Raw:
    """A JSON number or text exactly as written, which Python's own encoder would not write."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """One wrong request. `body` None: the valid one; `path` "": the valid one; `sent`: what must not come back."""

    what: str
    body: bytes | None = None
    path: str = ""
    headers: Mapping[str, Any] = field(default_factory=dict)
    sent: str = MARK


TEXTS: Final[Mapping[str, object]] = {
    "a number": 31_337_133_713,
    "a fraction": 1.5,
    "true": True,
    "a list": [MARK],
    "an object": {MARK: MARK},
    "a lone surrogate": Raw(rf'"{MARK}\ud800"'),
    "a reversed pair": Raw(rf'"{MARK}\udc00\ud800"'),
    "NUL": Raw(rf'"{MARK}\u0000"'),
    "a control": Raw(rf'"{MARK}\u0007\u001b[2J"'),
    "a raw control": Raw(f'"{MARK}\x07"'),
    "a line break": Raw(rf'"{MARK}\r\nSet-Cookie: a=b"'),
    "a line separator": f"{MARK}\u2028",
    "a bidi override": f"{MARK}\u202e",
    "a bidi isolate": f"\u2066{MARK}",
    "a byte order mark": f"\ufeff{MARK}",
    "an unassigned character": f"{MARK}\u0378",
    "private use": f"{MARK}\ue000",
    "a combining bomb": MARK + "\u0301" * 3_000,
    "over-long": MARK * 4_000,
    "empty": "",
    "blank": " \t ",
}
NUMBERS: Final[Mapping[str, object]] = {
    "negative": -31_337,
    "2^53": 2**53,
    "2^63": HUGE + 1,
    "-2^63": -HUGE - 1,
    "a googol": Raw("1" + "0" * 100),
    "1e3": Raw("1e3"),
    "1.0": Raw("1.0"),
    "0.1": Raw("0.1"),
    "1e400": Raw("1e400"),
    "NaN": Raw("NaN"),
    "Infinity": Raw("Infinity"),
    "-Infinity": Raw("-Infinity"),
    "leading zero": Raw("007"),
    "plus": Raw("+7"),
    "hexadecimal": Raw("0x10"),
    "digits in a text": "1400",
    "full-width digits": "１４００",
    "bare full-width digits": Raw("１４"),
    "arabic digits": "١٤٠٠",
    "true": True,
    "a list": [1400],
    "an object": {"amount": 1400},
    "empty": "",
}
BOOLEANS: Final[Mapping[str, object]] = {"one": 1, "a text": "true", "a list": [True], "an object": {}, "yes": Raw("yes")}
LISTS: Final[Mapping[str, object]] = {"a text": MARK, "an object": {MARK: 1}, "a number": 7, "too many": [MARK] * 5_000}
OBJECTS: Final[Mapping[str, object]] = {"a text": MARK, "a list": [], "a number": 7, "true": True, "unknown": {MARK: MARK}}
WRONG_KINDS: Final = {"string": TEXTS, "integer": NUMBERS, "boolean": BOOLEANS, "array": LISTS, "object": OBJECTS}
CURRENCIES: Final = ("cny", "XXX", "ZZZ", "CNYY", "ＣＮＹ", "¥", "US$", "CN\u0443")


def encode(value: object) -> bytes:
    """JSON, with what is `Raw` as it is."""
    return _text(value).encode("utf-8", "surrogatepass")


def _text(value: object) -> str:
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{_text(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_text(inner) for inner in value) + "]"
    return json.dumps(value, ensure_ascii=False)


# ------------------------------------------------------------------------------------------------------------- schemas


def resolve(document: Document, schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The schema's alternatives, references followed."""
    if "$ref" in schema:
        return resolve(document, document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]])
    for name in ("anyOf", "oneOf"):
        if name in schema:
            return [found for one in schema[name] for found in resolve(document, one)]
    return [schema]


def body_schema(document: Document, operation: str) -> list[Mapping[str, Any]]:
    """What an operation's body may be; nothing for one that takes none."""
    method, _, path = operation.partition(" ")
    told = document["paths"][path][method.lower()].get("requestBody")
    return resolve(document, told["content"]["application/json"]["schema"]) if told else []


def parameters(document: Document, operation: str) -> list[Mapping[str, Any]]:
    """An operation's parameters."""
    method, _, path = operation.partition(" ")
    return list(document["paths"][path][method.lower()].get("parameters", []))


def walk(
    value: object, schemas: list[Mapping[str, Any]], document: Document, at: Where = ()
) -> Iterator[tuple[Where, Any, Any]]:
    """Every place in a valid value with its schemas, outermost first."""
    yield at, value, schemas
    if isinstance(value, dict):
        for name, inner in value.items():
            below = [found for one in schemas for found in resolve(document, one.get("properties", {}).get(name, {}))]
            yield from walk(inner, below, document, (*at, name))
    elif isinstance(value, list) and value:
        yield from walk(
            value[0], [found for one in schemas for found in resolve(document, one.get("items", {}))], document, (*at, 0)
        )


def put(body: Any, at: Where, value: object) -> Any:
    """The body with something else in one place."""
    if not at:
        return value
    changed = copy.deepcopy(body)
    inner = changed
    for step in at[:-1]:
        inner = inner[step]
    inner[at[-1]] = value
    return changed


def drop(body: Any, at: Where) -> Any:
    """The body without one of its fields."""
    changed = copy.deepcopy(body)
    inner = changed
    for step in at[:-1]:
        inner = inner[step]
    del inner[at[-1]]
    return changed


# -------------------------------------------------------------------------------------------------------------- vectors


def of_body(document: Document, operation: str, valid: Any, *, seen: set[str]) -> Iterator[Vector]:
    """Every field wrong in every way, then the body as a whole.

    `seen`: what lies deeper is read by the same model wherever it stands, so each such place is tried at one operation only.
    """
    schemas = body_schema(document, operation)
    if not schemas:
        return
    for at, value, kinds in walk(valid, schemas, document):
        if any(one == {} or (one.get("type") == "object" and one.get("additionalProperties") is True) for one in kinds):
            continue  # free content: what a proof is bound to may hold anything
        place = f"{at[1:]} {json.dumps(kinds)}"
        if len(at) > 1 and place in seen:
            continue
        seen.add(place)
        yield from _of_place(valid, at, value, kinds)
    yield from _of_whole(encode(valid), valid)


def _of_place(valid: Any, at: Where, value: object, kinds: list[Mapping[str, Any]]) -> Iterator[Vector]:
    name = ".".join(str(step) for step in at) or "the body"
    for what, wrong in _wrongs(at, value, kinds).items():
        sent = str(wrong) if isinstance(wrong, int) and abs(wrong) > 9_999 else MARK
        yield Vector(what=f"{name} is {what}", body=encode(put(valid, at, wrong)), sent=sent)
    if at and not any(one.get("type") == "null" or one == {} for one in kinds):
        yield Vector(what=f"{name} is null", body=encode(put(valid, at, None)))
    if isinstance(value, dict):
        required = [one.get("required", []) for one in kinds if set(value) <= set(one.get("properties", {}))]
        for field_name in required[0] if required else []:
            yield Vector(what=f"{name} has no {field_name}", body=encode(drop(valid, (*at, field_name))))
        known = {field_name for one in kinds for field_name in one.get("properties", {})}
        # All of them at the top, where they would be believed; below, enough to show that it is closed there, too.
        for unknown in [MARK, *(owned for owned in SERVER_OWNED[: 2 if at else None] if owned not in known)]:
            yield Vector(what=f"{name} also has {unknown}", body=encode(put(valid, (*at, unknown), 1)))


def _wrongs(at: Where, value: object, kinds: list[Mapping[str, Any]]) -> Mapping[str, object]:
    if value is None:
        return next((WRONG_KINDS[one["type"]] for one in kinds if one.get("type") in WRONG_KINDS), {})
    if isinstance(value, bool):
        return BOOLEANS
    if isinstance(value, int):
        zero = all(one.get("exclusiveMinimum", -1) >= 0 or one.get("minimum", 0) > 0 for one in kinds)
        return {**NUMBERS, **({"zero": 0} if zero else {})}
    if isinstance(value, str):
        known = {"an unknown word": f"{MARK}-word"} if any("enum" in one or "const" in one for one in kinds) else {}
        money = {f"the currency {one}": one for one in CURRENCIES} if at and at[-1] == "currency" else {}
        longest = max((one.get("maxLength", 0) for one in kinds), default=0)
        pictures = {"over-long": MARK * (longest // len(MARK) + 1)} if longest >= len(str(TEXTS["over-long"])) else {}
        return {**TEXTS, **pictures, **known, **money}
    if isinstance(value, list):
        return LISTS
    return OBJECTS if isinstance(value, dict) else {}


def _of_whole(text: bytes, valid: Any) -> Iterator[Vector]:
    deep = b'{"a":' * 30 + b"1" + b"}" * 30
    wholes = {
        "empty": b"",
        "null": b"null",
        "a list": b"[" + text + b"]",
        "a text": b'"' + MARK.encode() + b'"',
        "a number": b"1e3",
        "cut short": text[:-1],
        "followed by more": text + b"{}",
        "deep": deep,
        "very deep": b"[" * 30_000,
        "not UTF-8": text[:-1] + b',"\xff\xfe":1}',
        "UTF-16": text.decode().encode("utf-16"),
        "after a byte order mark": b"\xef\xbb\xbf" + text,
        "with a comment": text + b"// " + MARK.encode(),
        "with a comma too many": text[:-1] + b",}",
        "in single quotes": b"{'" + MARK.encode() + b"':1}",
        "too large": text[:-1] + b',"' + MARK.encode() + b'":"' + b"x" * 70_000 + b'"}',
    }
    for name, value in list(valid.items())[:2]:
        wholes[f"with {name} twice"] = b'{"' + name.encode() + b'":' + encode(value) + b"," + text[1:]
    for what, body in wholes.items():
        yield Vector(what=f"the body is {what}", body=body)
    kinds = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", "application/xml",
             "application/json; charset=utf-16", "application/json-patch+json", "*/*", "")  # fmt: skip
    for kind in kinds:
        yield Vector(what=f"the body is said to be {kind or 'nothing'}", headers={"content-type": kind})
    yield Vector(what="the body is said to be compressed", headers={"content-encoding": "gzip"})
    yield Vector(what="the type is said twice", headers={"content-type": ["application/json", "text/plain"]})


IDS: Final = ("x", "0" * 31, "0" * 33, "A" * 32, "g" * 32, "0" * 31 + "%0A", "%00" * 4, "..%2f..%2fetc", "%E2%80%AE" + "0" * 29,
              "%EF%BC%91" * 32, "%FF%FE", "'%20OR%201=1--", "-1", "null", "0" * 1_900, "{circle_id}")  # fmt: skip
MONTHS: Final = (
    "2026-13",
    "2026-00",
    "2026-3",
    "0000-01",
    "99999-01",
    "2026-03-01",
    "%EF%BC%92026-03",
    "2026-03%0A",
    "now",
    "-1",
)
WORDS: Final = (MARK, "%00", "..%2f", "%FF", "%0D%0A")
QUERIES: Final[Mapping[str, tuple[str, ...]]] = {
    "integer": ("-1", "1e3", "1.5", "NaN", "%EF%BC%91", "", "abc", "999999999999999999999", "0x1", "101", "true", "1%00"),
    "boolean": ("maybe", "2", "", "truex", "%00"),
    "string": (MARK, "", "0" * 31, "A" * 32, "%00", "%0A" + "0" * 32, "%E2%80%AE", "%FF", "x" * 2_000),
}


def of_path(document: Document, operation: str, path: str, names: list[tuple[str, str]]) -> Iterator[Vector]:
    """Every parameter in the address odd; `names`: each parameter with the value that it has in `path`."""
    for name, value in names:
        odd = MONTHS if name == "month" else WORDS if name == "code" else IDS
        for one in odd:
            yield Vector(what=f"{name} is {one[:40]}", path=path.replace(value, one, 1))
    for parameter in parameters(document, operation):
        if parameter["in"] == "query":
            yield from _of_query(document, path.partition("?")[0], parameter)


def _of_query(document: Document, path: str, parameter: Mapping[str, Any]) -> Iterator[Vector]:
    kinds = [one.get("type") for one in resolve(document, parameter["schema"])]
    kind = next(str(one) for one in kinds if one != "null")
    for wrong in QUERIES[kind]:
        yield Vector(what=f"{parameter['name']}={wrong[:40]}", path=f"{path}?{parameter['name']}={wrong}")
    if parameter.get("required"):
        yield Vector(what=f"no {parameter['name']}", path=path)


KEYS: Final[Mapping[str, Any]] = {
    "missing": None,
    "empty": "",
    "empty quotes": '""',
    "over-long": MARK * 100,
    "with a space": f"{MARK} {MARK}",
    "with a control": f"{MARK}\x07",
    "with a quote": f'{MARK}"{MARK}',
    "not ASCII": f"{MARK}é",
    "UTF-8": f"{MARK}支付".encode(),
    "said twice": [MARK, MARK],
}


def of_headers(*, keyed: bool) -> Iterator[Vector]:
    """Headers on which something is decided, odd; `keyed`: the operation demands an Idempotency-Key."""
    for what, key in KEYS.items() if keyed else [("said twice", [MARK, MARK])]:
        yield Vector(what=f"the key is {what}", headers={"idempotency-key": key})
    yield Vector(what="the last event is said twice", headers={"last-event-id": [MARK, MARK]})
