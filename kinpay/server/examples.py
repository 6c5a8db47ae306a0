"""What is really asked and answered, shown beside each operation of the OpenAPI document.

`examples.json` was recorded from the application itself (`make examples`, `tests/api/examples.py`); nobody writes in it. A
test records anew and holds it against that.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any, Final

import msgspec

_PROBLEM_CONTENT: Final = "application/problem+json"


class Shown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of one operation. `requests`: name → body; `answers`: status → name → body; `problems`: status → codes."""

    parameters: dict[str, Any] = {}
    requests: dict[str, Any] = {}
    answers: dict[str, dict[str, Any]] = {}
    problems: dict[str, list[str]] = {}


class Examples(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file: `METHOD /path` → what is shown there, and one document for each code of a problem."""

    operations: dict[str, Shown]
    problems: dict[str, Any]


def read_examples() -> Examples:
    """What was recorded."""
    return msgspec.json.decode((resources.files(__package__) / "examples.json").read_bytes(), type=Examples)


def illustrate(operation: dict[str, Any], shown: Shown, problem: Mapping[str, Any]) -> None:
    """Puts what is shown into an operation; `problem` is what an answer with a problem is described by."""
    operation["parameters"] = [
        one | {"example": shown.parameters[one["name"]]} if one["name"] in shown.parameters else one
        for one in operation.get("parameters", [])
    ]
    if not operation["parameters"]:
        del operation["parameters"]
    for content in operation.get("requestBody", {}).get("content", {}).values():
        content["examples"] = _named(shown.requests)
    answers = operation["responses"]
    for status, named in shown.answers.items():
        if "content" not in answers.get(status, {}):
            # It was recorded before the operation changed: the document is served all the same, and the test says so.
            continue
        # The same description may stand for several statuses and operations: what is added is added to a copy.
        content = {kind: told | {"examples": _named(named)} for kind, told in answers[status]["content"].items()}
        answers[status] = answers[status] | {"content": content}
    for status, codes in shown.problems.items():
        named = {code: {"$ref": f"#/components/examples/{code}"} for code in codes}
        told = problem["content"][_PROBLEM_CONTENT] | {"examples": named}
        answers[status] = {"description": _either(codes), "content": {_PROBLEM_CONTENT: told}}
    operation["responses"] = dict(sorted(answers.items()))


def _named(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: {"value": value} for name, value in values.items()}


def _either(codes: list[str]) -> str:
    return "A problem, such as " + " or ".join(f"`{code}`" for code in codes) + "."
