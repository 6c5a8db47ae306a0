"""The OpenAPI 3.1 document: FastAPI's own, the hot route merged in, problems and credentials said once for all.

What an operation is called stands in `operations.py`, what is shown beside it in `examples.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from kinpay.primitives.actor import Scope
from kinpay.server.examples import Shown, illustrate, read_examples
from kinpay.server.operations import NAMES, ROOMS

Hot = Mapping[tuple[str, str], tuple[Mapping[str, Any], Mapping[str, Any]]]
"""(method, path) → (operation, component schemas)."""

_PROBLEM: Final = {
    "type": "object",
    "description": "RFC 9457. `code` is stable; every code is listed in docs/errors.md and at /problems/{code}.",
    "required": ["type", "title", "status", "code"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "examples": ["/problems/not-found"]},
        "title": {"type": "string", "description": "One sentence, in the language asked for (zh or en)."},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "reason": {"type": "string"},
        "field": {"type": "string"},
        "retry_after_s": {"type": "integer"},
        "incident": {"type": "string", "description": "To name when asking the operator."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["in", "field", "reason"],
                "properties": {"in": {"type": "string"}, "field": {"type": "string"}, "reason": {"type": "string"}},
            },
        },
    },
    "additionalProperties": True,
}
_TYPICAL: Final = ("not-found", "validation-failed")
_ANSWER: Final = {
    "description": "A problem.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_SCHEMES: Final = {
    "person": {"type": "http", "scheme": "bearer", "description": "The token of a person's session."},
    "api_key": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, `kp_live_…`; named beside it is the scope that it needs for the operation.",
    },
    "terminal": {
        "type": "apiKey",
        "in": "header",
        "name": "Signature",
        "description": "A terminal's HTTP message signature (RFC 9421), with Signature-Input and Content-Digest.",
    },
}
_OPEN: Final = frozenset(
    {
        "GET /healthz",
        "GET /readyz",
        "GET /problems/{code}",
        "POST /v1/people",
        "POST /v1/sign-in",
        "POST /v1/sign-in/{sign_in_id}",
        "POST /v1/terminals/install",
        "POST /v1/providers/{provider_account_id}/callback",
    }
)
"""Asked by whoever is not known yet, or proves in a way of their own who they are."""
_BY_TERMINALS: Final = frozenset(
    {"POST /v1/terminals/sessions", "POST /v1/charges/{charge_id}/capture", "POST /v1/charges/{charge_id}/void"}
)
"""And whatever is below `/v1/terminal/`; everything else is asked by people."""
_BY_BOTH: Final = frozenset(
    {
        "GET /v1/charges/{charge_id}",
        "GET /v1/face-consent-text",
        "POST /v1/charges/{charge_id}/refunds",
        "GET /v1/registrations/{registration_id}",
        "POST /v1/registrations/{registration_id}/withdraw",
        "POST /v1/scans/{scan_id}/business-type",
    }
)
_BY_KEYS: Final[Mapping[str, Scope]] = {
    "GET /v1/charges": Scope.CHARGES_READ,
    "GET /v1/merchants/{merchant_id}/settlements": Scope.SETTLEMENTS_READ,
    "GET /v1/merchants/{merchant_id}/settlements/{day}/lines": Scope.SETTLEMENTS_READ,
    "GET /v1/merchants/{merchant_id}/settlements/{day}/lines.csv": Scope.SETTLEMENTS_READ,
    "GET /v1/charges/{charge_id}": Scope.CHARGES_READ,
    "POST /v1/charges/{charge_id}/refunds": Scope.CHARGES_REFUND,
    "GET /v1/terminals": Scope.TERMINALS_READ,
}
"""By API keys with that scope; whatever is below `/v1/webhook-` too, with `webhooks:manage`."""
_BY_KEYS_ALONE: Final = frozenset({"GET /v1/charges"})
_KEYED: Final = frozenset(
    {
        "POST /v1/charges/{charge_id}/capture",
        "POST /v1/charges/{charge_id}/refunds",
        "POST /v1/charges/{charge_id}/retry",
        "POST /v1/charges/{charge_id}/void",
        "POST /v1/circles/{circle_id}/cards",
        "POST /v1/circles/{circle_id}/members",
        "POST /v1/circles/{circle_id}/pools",
        "POST /v1/circles/{circle_id}/unfreeze",
        "PUT /v1/circles/{circle_id}/time-zone",
        "PUT /v1/mandates/{mandate_id}/funding",
        "PUT /v1/mandates/{mandate_id}/terms",
        "POST /v1/mandates/{mandate_id}/resume",
        "PUT /v1/pools/{pool_id}",
        "DELETE /v1/pools/{pool_id}",
        "POST /v1/registrations",
        "POST /v1/registrations/{registration_id}/approve",
        "POST /v1/registrations/{registration_id}/refuse",
        "POST /v1/terminal/captures/{capture_id}",
        "POST /v1/terminal/registrations",
        "POST /v1/terminal/registrations/{registration_id}/card",
    }
)
"""The routes read the key themselves, so that a missing one is a problem of its own; FastAPI cannot see that. A test holds
these tables against what the running application refuses."""
_KEYED_IF_GIVEN: Final = frozenset({"POST /v1/circles", "POST /v1/merchants", "POST /v1/sites", "POST /v1/terminals"})
"""What is done once under a key, where there is one; it moves neither money nor consent. A test holds this, too."""
_LICENCE: Final = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
_SERVERS: Final = [{"url": "/", "description": "The server that this document comes from."}]
_ABOUT: Final = (
    "Ids are 32 hexadecimal digits, money is whole minor units, times are RFC 3339. Every error is a problem document "
    "(RFC 9457); a refused charge is no error. The examples were recorded; ids, codes and keys in them are made up."
)
_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "The same key and body get the same answer, for ever.",
    "schema": {"type": "string", "maxLength": 257},
    "example": "order-2026-03-02-0017",
}


def describe(app: FastAPI, hot: Hot) -> bytes:
    """The document as JSON."""
    found = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version="3.1.0",
        summary="Delegated payments: one person spends from another's account, within limits.",
        description=_ABOUT,
        license_info=_LICENCE,
        servers=[dict(one) for one in _SERVERS],
        tags=[{"name": tag, "description": room.description} for tag, room in ROOMS.items()],
        routes=app.routes,
    )
    components = found.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for (method, path), (operation, more) in hot.items():
        found["paths"].setdefault(path, {})[method.lower()] = {"responses": {}, **deepcopy(dict(operation))}
        schemas.update(more)
    examples = read_examples()
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            name = f"{method.upper()} {path}"
            _say_its_name(operation, name)
            _tell_problems(operation)
            operation.setdefault("security", _askers(name))
            if name in _KEYED | _KEYED_IF_GIVEN:
                operation["parameters"] = [*_without_key(operation), _KEY | {"required": name in _KEYED}]
            illustrate(operation, examples.operations.get(name, Shown()), _ANSWER)
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = _PROBLEM | {"examples": [examples.problems[code] for code in _TYPICAL if code in examples.problems]}
    components["examples"] = {code: {"value": problem} for code, problem in examples.problems.items()}
    components["securitySchemes"] = _SCHEMES
    found["paths"] = dict(sorted(found["paths"].items()))
    return msgspec.json.encode(found)


def _say_its_name(operation: dict[str, Any], name: str) -> None:
    # FastAPI would call it after our function, which may be renamed any day; an operation without a line is told by a test.
    if name in NAMES:
        tag, operation["operationId"] = NAMES[name]
        operation["tags"] = [tag]


def _tell_problems(operation: dict[str, Any]) -> None:
    # FastAPI describes its own form of a 422, which we never answer with.
    operation["responses"].pop("422", None)
    operation["responses"]["default"] = _ANSWER


def _askers(name: str) -> list[dict[str, list[str]]]:
    if name in _OPEN:
        return []
    path = name.partition(" ")[2]
    scope = Scope.WEBHOOKS_MANAGE if path.startswith("/v1/webhook-") else _BY_KEYS.get(name)
    by_key: list[dict[str, list[str]]] = [] if scope is None else [{"api_key": [scope.value]}]
    if name in _BY_KEYS_ALONE:
        return by_key
    if name in _BY_BOTH:
        return [{"person": []}, {"terminal": []}, *by_key]
    by_terminal = name in _BY_TERMINALS or path.startswith("/v1/terminal/")
    return [{"terminal" if by_terminal else "person": []}, *by_key]


def _without_key(operation: Mapping[str, Any]) -> list[Any]:
    return [one for one in operation.get("parameters", []) if one["name"] != _KEY["name"]]
