"""Reading an OpenAPI 3.1 document strictly: is it whole, and does a value fit one of its schemas?

Written here because a validator that shares code with what made the document would share its mistakes, too.
Source: OpenAPI 3.1.0 §4.8; JSON Schema 2020-12 (the words that our schemas use; any other is an error).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

Document = Mapping[str, Any]
Schema = Mapping[str, Any]

METHODS: Final = frozenset({"get", "put", "post", "delete", "patch"})
TYPES: Final = frozenset({"object", "array", "string", "integer", "number", "boolean", "null"})
WORDS: Final = frozenset(
    {
        "$ref",
        "anyOf",
        "oneOf",
        "type",
        "enum",
        "const",
        "pattern",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "items",
        "exclusiveMinimum",
        "properties",
        "required",
        "additionalProperties",
        "minItems",
        "maxItems",
        "format",
        "title",
        "default",
        "description",
        "examples",
        "discriminator",
    }
)
FREE_CONTENT: Final = frozenset({"ProofIn.content", "ControlParameters.SupplementaryData"})
"""What may hold anything: a proof is bound to the body of some other operation; a standard has a free part of its own."""


def found(document: Document, reference: str) -> Any:
    """What `#/…` points to. Raises: KeyError."""
    at: Any = document
    for step in reference.removeprefix("#/").split("/"):
        at = at[step]
    return at


def operations(document: Document) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    """(`METHOD /path`, method, path, operation)."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", method, path, operation


# ------------------------------------------------------------------------------------------------------ is it whole?


def faults(document: Document) -> list[str]:
    """Everything that is wrong with the document's build."""
    wrong: list[str] = []
    if not re.fullmatch(r"3\.1\.\d+", str(document.get("openapi"))):
        wrong.append("it is not OpenAPI 3.1")
    if not (document.get("info", {}).get("title") and document["info"].get("version")):
        wrong.append("it has no title or version")
    wrong += [f"{reference} points nowhere" for reference in sorted(_references(document)) if not _points(document, reference)]
    names = Counter(operation.get("operationId") for *_, operation in operations(document))
    wrong += [f"operationId {name} is there {count} times" for name, count in names.items() if name is None or count > 1]
    for name, method, path, operation in operations(document):
        wrong += [f"{name}: {fault}" for fault in _operation_faults(document, method, path, operation)]
    for name, schema in document["components"]["schemas"].items():
        wrong += [f"{name}: {fault}" for fault in _schema_faults(schema)]
    return wrong


def _references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(_references(inner) for inner in value.values()))
    return set().union(*(_references(inner) for inner in value)) if isinstance(value, list) else set()


def _points(document: Document, reference: str) -> bool:
    try:
        found(document, reference)
    except (KeyError, TypeError):
        return False
    return reference.startswith("#/")


def _operation_faults(document: Document, method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    if method not in METHODS or not path.startswith("/"):
        yield "no such method or path"
    parameters = [(one["name"], one["in"]) for one in operation.get("parameters", [])]
    if len(set(parameters)) != len(parameters):
        yield "a parameter is there twice"
    in_path = {one["name"] for one in operation.get("parameters", []) if one["in"] == "path" and one.get("required")}
    if in_path != set(re.findall(r"{(\w+)}", path)):
        yield "its path and its path parameters differ"
    for one in operation.get("parameters", []):
        yield from _schema_faults(one["schema"])
    if not operation.get("summary") or not operation.get("responses"):
        yield "no summary or no responses"
    if any("description" not in answer for answer in operation.get("responses", {}).values()):
        yield "an answer without description"
    if not any(re.fullmatch(r"2\d\d", status) for status in operation.get("responses", {})):
        yield "no success"
    problem = operation.get("responses", {}).get("default", {}).get("content", {}).get("application/problem+json", {})
    if problem.get("schema") != {"$ref": "#/components/schemas/Problem"}:
        yield "its problems are not described"
    if "security" not in operation:
        yield "nothing about who may ask"
    for one in operation.get("security", []):
        if not set(one) <= set(document["components"].get("securitySchemes", {})):
            yield "a security scheme that there is not"
    if "requestBody" in operation:
        yield from _open_places(document, operation["requestBody"]["content"]["application/json"]["schema"])


def _open_places(document: Document, schema: Schema, at: str = "the body", seen: frozenset[str] = frozenset()) -> Iterator[str]:
    """Where a request's schema would take fields that nobody knows."""
    reference = schema.get("$ref")
    if reference is not None:
        if reference not in seen and _points(document, reference):
            yield from _open_places(document, found(document, reference), reference.rsplit("/", 1)[-1], seen | {reference})
        return
    if at in FREE_CONTENT:
        return
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        yield f"{at} is open to unknown fields"
    for name, inner in schema.get("properties", {}).items():
        yield from _open_places(document, inner, f"{at}.{name}", seen)
    for inner in [*schema.get("anyOf", []), *schema.get("oneOf", []), *([schema["items"]] if "items" in schema else [])]:
        yield from _open_places(document, inner, at, seen)


def _schema_faults(schema: Any) -> Iterator[str]:
    if isinstance(schema, bool):
        return
    unknown = set(schema) - WORDS
    if unknown:
        yield f"words that nobody knows: {sorted(unknown)}"
    if "type" in schema and schema["type"] not in TYPES:
        yield f"no such type: {schema['type']}"
    if "pattern" in schema:
        try:
            re.compile(schema["pattern"])
        except re.error:
            yield f"no pattern: {schema['pattern']}"
    if not set(schema.get("required", [])) <= set(schema.get("properties", schema.get("required", []))):
        yield "something is required that there is not"
    below = [*schema.get("properties", {}).values(), *schema.get("anyOf", []), *schema.get("oneOf", [])]
    for inner in [*below, *(schema[word] for word in ("items", "additionalProperties") if word in schema)]:
        yield from _schema_faults(inner)


# --------------------------------------------------------------------------------------------------- does a value fit?

_KINDS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}


def fits(document: Document, schema: Schema, value: Any) -> bool:
    """Whether a JSON value fits. A whole number is one that is written without a fraction, as everywhere here."""
    if "$ref" in schema:
        return fits(document, found(document, schema["$ref"]), value)
    if "anyOf" in schema and not any(fits(document, one, value) for one in schema["anyOf"]):
        return False
    if "oneOf" in schema and sum(fits(document, one, value) for one in schema["oneOf"]) != 1:
        return False
    if "type" in schema and not _KINDS[schema["type"]](value):
        return False
    if value not in schema.get("enum", [schema.get("const", value)]):
        return False
    if isinstance(value, str):
        return _text_fits(schema, value)
    if isinstance(value, dict):
        return _object_fits(document, schema, value)
    if isinstance(value, list):
        size = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        return size and all(fits(document, schema.get("items", {}), inner) for inner in value)
    return isinstance(value, bool) or value is None or _number_fits(schema, value)


def _text_fits(schema: Schema, value: str) -> bool:
    # `$` is the very end in JSON Schema; Python's would let a newline pass.
    pattern = re.sub(r"\$$", r"\\Z", schema.get("pattern", ""))
    long = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
    return long and re.search(pattern, value) is not None


def _number_fits(schema: Schema, value: float) -> bool:
    above = value >= schema.get("minimum", value) and ("exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"])
    return bool(above and value <= schema.get("maximum", value))


def _object_fits(document: Document, schema: Schema, value: Mapping[str, Any]) -> bool:
    known = schema.get("properties", {})
    if not set(schema.get("required", [])) <= set(value):
        return False
    if schema.get("additionalProperties") is False and not set(value) <= set(known):
        return False
    return all(fits(document, known[name], inner) for name, inner in value.items() if name in known)
