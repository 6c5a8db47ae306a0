"""Whether changed terms allow nothing more than before: then they act at once, without a fresh proof. Pure.

The answer errs to one side only: a yes is certain; a no may just be something too involved to be worth being sure of.
Source: semantics.md "Versioned: lowering acts at once, raising needs a fresh proof of the payer".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from kinpay.mandates.terms import Categories, Filter, Hours, Limit, Payees, Terms

_MINUTES_A_DAY: Final = 24 * 60
_ALWAYS: Final = (1 << (7 * _MINUTES_A_DAY)) - 1

_ListKind: TypeAlias = type[Payees] | type[Categories]


def is_narrower(old: Terms, new: Terms) -> bool:
    """Whether it is certain that every payment refused under `old`, whatever came before it, is refused under `new`.

    Equal terms count as narrower. Raises nothing.
    """
    return (
        old.currency == new.currency
        and all(_is_kept(limit, new.limits) for limit in old.limits)
        and _permitted(new, Payees).within(_permitted(old, Payees))
        and _permitted(new, Categories).within(_permitted(old, Categories))
        and _open_minutes(new) & ~_open_minutes(old) == 0
    )


def _is_kept(old: Limit, limits: Iterable[Limit]) -> bool:
    """Whether some new limits bind at least as hard as `old`, in its ceiling and in its floor."""
    rivals = [limit for limit in limits if _covers(limit.filter, old.filter) and _comparable(limit, old)]
    ceiling_kept = old.at_most is None or any(limit.at_most is not None and limit.at_most <= old.at_most for limit in rivals)
    floor_kept = old.at_least is None or any(limit.at_least is not None and limit.at_least >= old.at_least for limit in rivals)
    return ceiling_kept and floor_kept


def _comparable(new: Limit, old: Limit) -> bool:
    return (new.metric, new.window) == (old.metric, old.window)


def _covers(wide: Filter, slim: Filter) -> bool:
    """Whether `wide` selects every payment that `slim` selects: then it counts and binds at least as much."""
    return _holds(wide.payees, slim.payees) and _holds(wide.mccs, slim.mccs)


def _holds(wide: list[str] | None, slim: list[str] | None) -> bool:
    return wide is None or (slim is not None and set(slim) <= set(wide))


@dataclass(frozen=True, slots=True)
class _Permitted:
    """Values that a set of conditions lets through: those of `only` (None: any) that are not in `never`."""

    only: frozenset[str] | None
    never: frozenset[str]

    def within(self, other: _Permitted) -> bool:
        """Whether everything let through here is let through there, too."""
        if self.only is None:
            return other.only is None and other.never <= self.never
        passing = self.only - self.never
        return (other.only is None or passing <= other.only) and not passing & other.never


def _permitted(terms: Terms, kind: _ListKind) -> _Permitted:
    only: frozenset[str] | None = None
    never: frozenset[str] = frozenset()
    for condition in terms.conditions:
        if not isinstance(condition, kind):
            continue
        if condition.allow is not None:
            allowed = frozenset(condition.allow)
            only = allowed if only is None else only & allowed
        never |= frozenset(condition.deny or ())
    return _Permitted(only, never)


def _open_minutes(terms: Terms) -> int:
    """The minutes of a week in which every hours condition is open, one bit each; openings begin and end on minutes."""
    open_in_all = _ALWAYS
    for condition in terms.conditions:
        if isinstance(condition, Hours):
            open_in_all &= _minutes_of(condition)
    return open_in_all


def _minutes_of(hours: Hours) -> int:
    minutes = 0
    for opening in hours.open:
        first, after = _minute(opening.opens), _minute(opening.closes)
        stretch = (1 << after) - (1 << first)
        for weekday in opening.weekdays:
            minutes |= stretch << ((weekday - 1) * _MINUTES_A_DAY)
    return minutes


def _minute(clock_time: str) -> int:
    hours, minutes = clock_time.split(":")
    return int(hours) * 60 + int(minutes)
