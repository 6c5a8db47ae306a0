"""Life cycles as literal tables: `{(state, event): state}` beside the thing that lives."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Generic, TypeVar

from kinpay.primitives.errors import WrongState

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


class Lifecycle(Generic[S, E]):
    """A named automaton: where it starts and which event leads from which state to which."""

    __slots__ = ("name", "start", "table")

    def __init__(self, name: str, start: S, table: Mapping[tuple[S, E], S]) -> None:
        self.name = name
        self.start = start
        self.table = dict(table)

    def after(self, state: S, event: E) -> S:
        """The state that `event` leads to from `state`.

        Raises: WrongState if the event is not possible there.
        """
        following = self.table.get((state, event))
        if following is None:
            raise WrongState(self.name, state=str(state), event=str(event))
        return following

    def allows(self, state: S, event: E) -> bool:
        """Whether `event` is possible in `state`."""
        return (state, event) in self.table

    def reachable(self) -> frozenset[S]:
        """Every state that some sequence of events leads to from the start."""
        seen, frontier = {self.start}, [self.start]
        while frontier:
            state = frontier.pop()
            for (source, _), target in self.table.items():
                if source == state and target not in seen:
                    seen.add(target)
                    frontier.append(target)
        return frozenset(seen)
