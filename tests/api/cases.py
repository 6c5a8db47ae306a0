"""Requests made from the OpenAPI document: Schemathesis invents them, valid and nearly valid; the town lends its ids.

What is invented alone seldom comes past the first check, and what is valid alone never surprises. So most cases are a valid
request about somebody's things (`matrix.py`) of which a part is invented, and the rest are invented as a whole. Everything
hangs on the seed, the operation, the number of cases and the case's number; the ids of the town are new in every run.
"""

from __future__ import annotations

import functools
import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis.errors import Unsatisfiable
from schemathesis.core import NotSet

from tests.api.matrix import Row
from tests.api.town import Family, Town
from tests.api.vectors import KEYS

HOT: Final = "POST /v1/charges"
HOT_SHARE: Final = 4
"""How many times as many cases the hot route gets: it has its own decoder, and money hangs on it."""
CONTENT_TYPES: Final = (
    "text/plain",
    "application/xml",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=a",
    "application/json; charset=utf-16",
    "application/problem+json",
    "application/json, text/html",
    "ü",
    "",
)
ODD_HEADERS: Final[Sequence[Mapping[str, Any]]] = (
    {"accept": "application/xml"},
    {"accept-language": "zh;q=x,\xff,en;q=-1"},
    {"content-encoding": "gzip"},
    {"content-length": "x"},
    {"cookie": "session=\x01; a"},
    {"expect": "100-continue"},
    {"host": "elsewhere.test:99999"},
    {"last-event-id": "-1\t'"},
    {"range": "bytes=0-"},
    {"x-http-method-override": "DELETE"},
    {"authorization": "Basic YTpi"},
    {"authorization": "Bearer \u00e9"},
    {"signature": "sig1=:AAAA:", "signature-input": 'sig1=("@method");created=x'},
    {"signature-input": "((((", "signature": "::::"},
    {"content-digest": "sha-256=:x:"},
    {"x-many": ["a" * 200] * 30},
)
BODIES: Final = (b"null", b"[]", b'"text"', b"1e400", b"{", b'{"a":' * 25 + b"1" + b"}" * 25, b"[" * 5_000, b"\xff\xfe{}",
                 b'{"__proto__":{}}', b'{"a":1,"a":2}', b'{"\\ud800":1}', b"\xef\xbb\xbf{}", b"{}" + b" " * 66_000)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request: whose, what, and where it came from. `place` is its row's in the matrix, `number` its own in that row;
    `case` is what Schemathesis invented for it.
    """

    place: int
    number: int
    operation: str
    asker: str
    method: str
    path: str
    parameters: Mapping[str, str]
    query: Mapping[str, Any]
    body: bytes
    headers: Mapping[str, Any]
    own_key: bool
    case: Any


@functools.lru_cache(maxsize=1)
def loaded(document: str) -> Any:
    """The document as Schemathesis reads it; kept, as preparing it costs seconds."""
    return schemathesis.openapi.from_dict(json.loads(document))


@functools.lru_cache(maxsize=8)
def invented(document: str, operation: str, count: int, seed: int) -> list[Any]:
    """`count` cases of Schemathesis, by turns valid and nearly valid; fewer distinct ones are repeated."""
    method, _, path = operation.partition(" ")
    found = [_drawn(loaded(document)[path][method], mode, (count + 1) // 2, seed) for mode in schemathesis.GenerationMode]
    kinds = [kind for kind in found if kind]
    return [kinds[number % len(kinds)][number // len(kinds) % len(kinds[number % len(kinds)])] for number in range(count)]


def _drawn(operation: Any, mode: Any, count: int, seed: int) -> list[Any]:
    drawn: list[Any] = []

    @seeded(seed)
    @settings(
        max_examples=count, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck), deadline=None
    )
    @given(operation.as_strategy(generation_mode=mode))
    def draw(case: Any) -> None:
        drawn.append(case)

    try:
        draw()
    except Unsatisfiable:
        # Where nothing is taken nothing can be nearly valid.
        return []
    return drawn


def shares(rows: Sequence[Row], cases: int) -> dict[int, int]:
    """How many of `cases` each row gets, by its place: alike, but for the hot route."""
    weights = [HOT_SHARE if row.operation == HOT else 1 for row in rows]
    total, given_out, found = sum(weights), 0, {}
    for place in range(len(rows)):
        upto = cases * sum(weights[: place + 1]) // total
        found[place] = upto - given_out
        given_out = upto
    return found


def seasoned(town: Town, row: Row, case: Any, *, place: int, number: int, seed: int) -> Asked:
    """The request that a case becomes, about things that the town has at this moment."""
    chance = random.Random(f"{seed} {place} {number}")
    family = town.families[chance.choices(("A", "B", "C"), (8, 1, 1))[0]]
    flavour = chance.choices(("invented", "blended", "valid", "odd header", "odd body"), (25, 40, 15, 12, 8))[0]
    parameters = {
        name: family[row.things.get(name, name.removesuffix("_id"))]
        if chance.random() < (0.4 if flavour == "invented" else 0.95)
        else _in_path((case.path_parameters or {}).get(name, "0" * 32))
        for name in re.findall(r"{(\w+)}", row.template)
    }
    query = {name: _soon(name, value) for name, value in (case.query or {}).items()} if chance.random() < 0.6 else {}
    # An empty list would be no parameter at all.
    query = {name: value for name, value in query.items() if value != []}
    if "wait_s" in row.query:
        query.setdefault("wait_s", 0)
    path = re.sub(r"{(\w+)}", lambda found: parameters[found[1]], row.template)
    if query:
        path += "?" + urlencode({_text(name): _in_query(value) for name, value in query.items()}, doseq=True)
    elif flavour != "invented":
        path += row.query
    return Asked(
        place=place,
        number=number,
        operation=row.operation,
        asker=_asker(town, row, family, chance),
        method=row.method,
        path=path,
        parameters=parameters,
        query=query,
        body=_body(row, case, family, flavour, chance),
        headers=_headers(row, case, flavour, chance),
        own_key=row.own_key is (chance.random() < 0.9),
        case=case,
    )


def _asker(town: Town, row: Row, family: Family, chance: random.Random) -> str:
    """Somebody who may, more often than not; or anybody."""
    may = [name for name in town.principals if town.relations[name][family.name] in row.may]
    return chance.choice(may if may and chance.random() < 0.65 else list(town.principals))


def _body(row: Row, case: Any, family: Family, flavour: str, chance: random.Random) -> bytes:
    if flavour == "odd body":
        return b"" if chance.random() < 0.25 else chance.choice(BODIES)
    valid = None if row.body is None else row.body(family)
    made = None if isinstance(case.body, NotSet) else case.body
    if flavour == "invented" or valid is None:
        if isinstance(case.body, NotSet):
            return b""
        return _json(_at_home(made, valid or {}, family, chance), chance)
    if flavour == "blended" and isinstance(made, dict) and made:
        taken = chance.sample(sorted(made, key=str), min(len(made), chance.randint(1, 2)))
        valid = valid | {name: made[name] for name in taken}
        if chance.random() < 0.1:
            valid.pop(chance.choice(sorted(valid)))
    return _json(valid, chance)


def _at_home(value: Any, valid: Mapping[str, Any], family: Family, chance: random.Random) -> Any:
    """What was invented, with the town's own ids, codes and accounts in about half of the places that name some."""
    if isinstance(value, dict):
        found = {}
        for name, inner in value.items():
            thing = name.removesuffix("_id") if isinstance(name, str) else ""
            if isinstance(inner, str) and (thing in family.at or name in valid) and chance.random() < 0.5:
                found[name] = valid.get(name, family.at.get(thing))
            else:
                found[name] = _at_home(inner, valid, family, chance)
        return found
    return [_at_home(inner, valid, family, chance) for inner in value] if isinstance(value, list) else value


def _json(value: Any, chance: random.Random) -> bytes:
    return json.dumps(value, ensure_ascii=chance.random() < 0.5, default=str).encode("utf-8", "surrogatepass")


def _headers(row: Row, case: Any, flavour: str, chance: random.Random) -> dict[str, Any]:
    """A good key, unless it is to be odd; what was invented for credentials is only now and then sent in their place."""
    key = f"{chance.getrandbits(128):032x}"
    headers: dict[str, Any] = {} if row.unkeyed else {"idempotency-key": key}
    for name, value in dict(case.headers or {}).items():
        credential = name.lower() in ("authorization", "signature")
        if chance.random() < (0.05 if credential else 0.3) and re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            headers[name.lower()] = _latin(value)
    if flavour == "odd header":
        odd = chance.randrange(3)
        if odd == 0:
            headers["content-type"] = _latin(chance.choice(CONTENT_TYPES))
        elif odd == 1:
            headers["idempotency-key"] = chance.choice(list(KEYS.values()))
        else:
            headers |= {name: _latin(value) for name, value in chance.choice(ODD_HEADERS).items()}
    elif chance.random() < 0.06:
        headers["idempotency-key"] = chance.choice([None, "the-same"])
    return headers


def _latin(value: Any) -> Any:
    return value if isinstance(value, list) else str(value).encode("latin-1", "replace")


def _text(value: Any) -> str:
    return str(value).encode("utf-8", "replace").decode()


def _soon(name: str, value: Any) -> Any:
    """A terminal may wait for its commands as long as it likes; this asker has no time."""
    return 1 if name == "wait_s" and isinstance(value, int | float) and 1 < value < 1_000 else value


def _in_query(value: Any) -> Any:
    if isinstance(value, list):
        return [_in_query(one) for one in value]
    return json.dumps(value, default=str) if isinstance(value, dict | bool) or value is None else _text(value)


def _in_path(value: Any) -> str:
    """Schemathesis has escaped what must be; a whole empty part would be another address."""
    return quote(_text(value), safe="%-._~!$&'()*+,;=:@") or "%20"
