"""Values that must not be shown by accident: keys, codes, templates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, repr=False)
class Sealed(Generic[T]):
    """Holds a secret whose `repr`, `str` and formatting show nothing; `open()` is the one way to it."""

    _value: T

    def open(self) -> T:
        """The secret itself; every call of this is a place to look at in a review."""
        return self._value

    def __repr__(self) -> str:
        return "Sealed(…)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "Sealed(…)"
