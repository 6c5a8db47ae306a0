"""What must hold of every answer, as the OpenAPI document and `docs/errors.md` say it; one checker each.

The document tells problems once, as `default`; so that this does not excuse everything, a success has to be named by its
number, and a problem has to be one that `docs/errors.md` lists, with the status that it has there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import requests
from schemathesis import Response
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)

from tests.api.asking import URL
from tests.api.cases import Asked
from tests.api.schema import Document, fits, found
from tests.api.watching import as_json, malformed

ERRORS: Final = Path(__file__).parents[2] / "docs" / "errors.md"
CODES: Final[Mapping[str, int]] = {
    code: int(status) for code, status in re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", ERRORS.read_text(), re.MULTILINE)
}
"""Code → status, as the page says."""
CONFORMANCE: Final = [content_type_conformance, response_headers_conformance, response_schema_conformance]
_KINDS: Final = {"anonymous": "nobody", "gone": "nobody", "scrap": "nobody", "till": "terminal"} | dict.fromkeys(
    ("key", "office", "bakery"), "api_key"
)
"""What the document calls an asker of the town; the others are people."""
_BODILESS: Final = frozenset({204, 304})

Judge = Callable[[Document, Asked, httpx.Response], Iterator[str]]


def operation_of(document: Document, asked: Asked) -> Mapping[str, Any]:
    """What the document says of the operation."""
    method, _, path = asked.operation.partition(" ")
    told: Mapping[str, Any] = document["paths"][path][method.lower()]
    return told


def no_fault_of_ours(_: Document, asked: Asked, response: httpx.Response) -> Iterator[str]:
    """Nothing that is sent ends in a 5xx."""
    if response.status_code >= 500:
        yield f"answers {response.status_code}"


def documented_status(document: Document, asked: Asked, response: httpx.Response) -> Iterator[str]:
    """A success is named by its number; anything else has to be a problem, which `default` describes."""
    told = operation_of(document, asked)["responses"]
    status = response.status_code
    if str(status) not in told and (status < 400 or "default" not in told):
        yield f"answers {status}, which is documented nowhere"


def known_problem(_: Document, asked: Asked, response: httpx.Response) -> Iterator[str]:
    """A problem document, whose code docs/errors.md knows with that status."""
    if not 400 <= response.status_code < 500:
        return
    if form := malformed(response):
        yield form
        return
    told = as_json(response)
    if CODES.get(told["code"]) != told["status"]:
        yield f"the problem {told['code']} with {told['status']} is not in docs/errors.md"


def as_described(_: Document, asked: Asked, response: httpx.Response) -> Iterator[str]:
    """Content type, headers and body are those of the document, in Schemathesis's eyes."""
    if response.status_code in _BODILESS:
        if response.content:
            yield "has a body where there is none"
        return
    wrapped = Response(
        status_code=response.status_code,
        headers={name: response.headers.get_list(name) for name in response.headers},
        content=response.content,
        request=requests.Request(asked.method, URL).prepare(),
        elapsed=0.0,
        verify=True,
    )
    try:
        asked.case.validate_response(wrapped, checks=CONFORMANCE)
    except FailureGroup as group:
        for one in group.exceptions:
            yield " ".join(f"{one.title}: {one.message}".split())[:300] if isinstance(one, Failure) else repr(one)


def nobody_is_let_in(document: Document, asked: Asked, response: httpx.Response) -> Iterator[str]:
    """Where somebody has to be known, nobody else succeeds: neither anonymous nor expelled, nor the other kind of asker."""
    allowed = frozenset().union(*operation_of(document, asked)["security"])
    if not response.is_success or not allowed:
        return
    kind = _KINDS.get(asked.asker.rpartition(".")[2], "person")
    if kind not in allowed:
        yield f"lets in {asked.asker} with {response.status_code}, where {sorted(allowed)} may"


def key_demanded(document: Document, asked: Asked, response: httpx.Response) -> Iterator[str]:
    """Where an Idempotency-Key is required, nothing succeeds without one."""
    if not response.is_success:
        return
    for one in operation_of(document, asked).get("parameters", []):
        if one["in"] == "header" and one.get("required") and not asked.headers.get(one["name"].lower()):
            yield f"succeeds with {response.status_code} without {one['name']}"


def unfit_refused(document: Document, asked: Asked, response: httpx.Response) -> Iterator[str]:
    """Nothing succeeds whose body, path or query does not fit the document."""
    if not response.is_success:
        return
    told = operation_of(document, asked)
    for one in told.get("parameters", []):
        name, place = one["name"], one["in"]
        given = {"path": asked.parameters, "query": asked.query}.get(place, {})
        if name in given and not fits(document, one["schema"], _read(document, one["schema"], given[name])):
            yield f"takes {name}={str(given[name])[:80]!r} in its {place}"
        if name not in given and place == "query" and one.get("required") and f"{name}=" not in asked.path:
            yield f"does without {name}"
    content = told.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return
    if not asked.body:
        if told["requestBody"].get("required"):
            yield "does without a body"
    elif not _body_fits(document, content["schema"], asked.body):
        yield f"takes a body that does not fit: {asked.body[:200]!r}"


def _body_fits(document: Document, schema: Mapping[str, Any], body: bytes) -> bool:
    try:
        return fits(document, schema, json.loads(body))
    except (ValueError, RecursionError):
        return False


def _read(document: Document, schema: Mapping[str, Any], value: Any) -> Any:
    """What a parameter says as a number or truth value, where it has to be one: in an address everything is text."""
    while "$ref" in schema:
        schema = found(document, schema["$ref"])
    kinds = {one.get("type") for one in schema.get("anyOf", [schema])}
    text = str(value)
    if "integer" in kinds and re.fullmatch(r"[+-]?\d+(\.0*)?", text):
        return int(float(text))
    if "boolean" in kinds and text.lower() in ("true", "false", "1", "0"):
        return True
    return value


JUDGES: Final[tuple[Judge, ...]] = (
    no_fault_of_ours,
    documented_status,
    known_problem,
    as_described,
    nobody_is_let_in,
    key_demanded,
    unfit_refused,
)


def judged(document: Document, asked: Asked, response: httpx.Response) -> list[str]:
    """Everything that is wrong with an answer, each under its checker's name."""
    return [f"{judge.__name__}: {wrong}" for judge in JUDGES for wrong in judge(document, asked, response)]
