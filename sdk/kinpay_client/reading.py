"""From JSON to dataclasses, by their annotations: what is named is checked, what is not named is let be."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Hashable, Mapping
from datetime import datetime
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from kinpay_client.answer import Answer, UnexpectedAnswer

T = TypeVar("T")
A = TypeVar("A", bound=Answer)


def typed(kind: type[A], answer: Answer) -> A:
    """The answer as one of a kind. Raises: UnexpectedAnswer if something is missing or of another type."""
    return read(kind, answer.body, status=answer.status, body=answer.body, replayed=answer.replayed)


def read(kind: type[T], told: Mapping[str, Any], /, **given: Any) -> T:
    """A dataclass from a JSON object; `given` are fields that do not stand in it. Raises: UnexpectedAnswer."""
    values, described = dict(given), _fields(cast(Hashable, kind))
    for name, (hint, required) in described.items():
        if name in given:
            continue
        if name in told:
            values[name] = _convert(told[name], hint, f"{kind.__name__}.{name}")
        elif required:
            raise UnexpectedAnswer(f"{kind.__name__}.{name} is missing")
    return kind(**values)


@cache
def _fields(kind: Any) -> dict[str, tuple[Any, bool]]:
    hints = get_type_hints(kind)
    return {
        one.name: (hints[one.name], one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING)
        for one in dataclasses.fields(kind)
    }


def _convert(value: Any, hint: Any, where: str) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        (inner,) = (one for one in get_args(hint) if one is not type(None))
        return _convert(value, inner, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_convert(one, get_args(hint)[0], where) for one in value)
    if origin is dict and isinstance(value, dict):
        return value
    if hint is datetime and isinstance(value, str):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            raise UnexpectedAnswer(f"{where} is no moment") from None
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return typed(hint, Answer(200, value)) if issubclass(hint, Answer) else read(hint, value)
    if type(value) is hint:
        return value
    raise UnexpectedAnswer(f"{where} is of another type")
