"""The OpenAPI 3.1 document: FastAPI's own, the hot route merged in, problems and credentials said once for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

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
_ANSWER: Final = {
    "description": "A problem.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_SCHEMES: Final = {
    "person": {"type": "http", "scheme": "bearer", "description": "The token of a person's session."},
    "terminal": {
        "type": "apiKey",
        "in": "header",
        "name": "Signature",
        "description": "A terminal's HTTP message signature (RFC 9421), with Signature-Input and Content-Digest.",
    },
}
_OPEN: Final = ("/healthz", "/readyz", "/problems/")


def describe(app: FastAPI, hot: Hot) -> bytes:
    """The document as JSON."""
    found = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version="3.1.0",
        summary="Delegated payments: one person spends from another's account, within limits.",
        routes=app.routes,
    )
    components = found.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for (method, path), (operation, more) in hot.items():
        found["paths"].setdefault(path, {})[method.lower()] = {"responses": {}, **operation}
        schemas.update(more)
    for path, operations in found["paths"].items():
        for operation in operations.values():
            _tell_problems(operation, open_to_all=path.startswith(_OPEN))
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = _PROBLEM
    components["securitySchemes"] = _SCHEMES
    found["paths"] = dict(sorted(found["paths"].items()))
    return msgspec.json.encode(found)


def _tell_problems(operation: dict[str, Any], *, open_to_all: bool) -> None:
    # FastAPI describes its own form of a 422, which we never answer with.
    operation["responses"].pop("422", None)
    operation["responses"]["default"] = _ANSWER
    if not open_to_all:
        operation.setdefault("security", [{"person": []}, {"terminal": []}])
