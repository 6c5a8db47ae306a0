"""Whether changed terms allow nothing more than before: then they act at once, without a fresh proof. Pure.

The answer errs to one side only: a yes is certain; a no may just be something too involved to be worth being sure of.
Source: semantics.md "Versioned: lowering acts at once, raising needs a fresh proof of the payer".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from kinpay.mandates.condition import Categories, Hours, Items, Methods, Payees, Terminals
from kinpay.mandates.limit import Filter, Limit
from kinpay.mandates.terms import Cooling, Terms

_MINUTES_A_DAY: Final = 24 * 60
_ALWAYS: Final = (1 << (7 * _MINUTES_A_DAY)) - 1

_ListKind: TypeAlias = type[Payees] | type[Categories] | type[Items] | type[Methods] | type[Terminals]
_LIST_KINDS: Final[tuple[_ListKind, ...]] = (Payees, Categories, Items, Methods, Terminals)


def is_narrower(old: Terms, new: Terms) -> bool:
    """Whether it is certain that every payment refused under `old`, whatever came before it, is refused under `new`.

    Equal terms count as narrower. Raises nothing.
    """
    return (
        old.currency == new.currency
        and all(_is_kept(limit, new.limits) for limit in old.limits)
        and all(_lists_kept(old, new, kind) for kind in _LIST_KINDS)
        and _hours_kept(old, new)
        and (old.valid_from is None or (new.valid_from is not None and new.valid_from >= old.valid_from))
        and (old.valid_to is None or (new.valid_to is not None and new.valid_to <= old.valid_to))
        and _cooling_kept(old.cooling, new.cooling)
    )


def _is_kept(old: Limit, limits: Iterable[Limit]) -> bool:
    """Whether some new limits bind at least as hard as `old`, in its ceiling and in its floor."""
    rivals = [limit for limit in limits if _covers(limit.filter, old.filter) and _comparable(limit, old)]
    ceiling_kept = old.at_most is None or any(limit.at_most is not None and limit.at_most <= old.at_most for limit in rivals)
    floors = [limit for limit in rivals if limit.filter.items == old.filter.items]
    floor_kept = old.at_least is None or any(limit.at_least is not None and limit.at_least >= old.at_least for limit in floors)
    return ceiling_kept and floor_kept


def _comparable(new: Limit, old: Limit) -> bool:
    """Whether the new limit counts over the same windows, and all that the old one counts."""
    same = (new.metric, new.window, new.alignment, new.week_start, new.trailing_s)
    prorated = new.proration == "first_period" or old.proration == "none"
    keeps = new.refunds == "keep" or old.refunds == "restore"
    return same == (old.metric, old.window, old.alignment, old.week_start, old.trailing_s) and prorated and keeps


def _covers(wide: Filter, slim: Filter) -> bool:
    """Whether `wide` selects every payment that `slim` selects, and as much of it: then it binds at least as much."""
    return (
        _holds(wide.payees, slim.payees)
        and _holds(wide.mccs, slim.mccs)
        and _holds(wide.items, slim.items)
        and _holds(wide.methods, slim.methods)
        and _holds(wide.terminals, slim.terminals)
    )


def _holds(wide: Iterable[str] | None, slim: Iterable[str] | None) -> bool:
    return wide is None or (slim is not None and set(slim) <= set(wide))


def _cooling_kept(old: Cooling | None, new: Cooling | None) -> bool:
    """Whether the time of caution stays at least as long and as tight."""
    if old is None:
        return True
    return new is not None and new.hours >= old.hours and all(_is_kept(limit, new.limits) for limit in old.limits)


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


def _lists_kept(old: Terms, new: Terms, kind: _ListKind) -> bool:
    """Whether the new conditions of a kind let nothing more through. Having one at all says that a till must tell its items."""
    if kind is Items and _has(old, Items) and not _has(new, Items):
        return False
    return _permitted(new, kind).within(_permitted(old, kind))


def _has(terms: Terms, kind: _ListKind) -> bool:
    return any(isinstance(condition, kind) for condition in terms.conditions)


def _permitted(terms: Terms, kind: _ListKind) -> _Permitted:
    only: frozenset[str] | None = None
    never: frozenset[str] = frozenset()
    for condition in terms.conditions:
        if not isinstance(condition, kind):
            continue
        if condition.allow is not None:
            allowed: frozenset[str] = frozenset(condition.allow)
            only = allowed if only is None else only & allowed
        never |= frozenset(condition.deny or ())
    return _Permitted(only, never)


def _hours_kept(old: Terms, new: Terms) -> bool:
    """Openings by the week are compared minute by minute. One with a calendar must be there again, word for word: what it then
    leaves open is at most what the week alone leaves open."""
    dated = [hours for hours in _hours(old) if hours.calendar is not None]
    regular = [hours for hours in _hours(old) if hours.calendar is None]
    return all(hours in _hours(new) for hours in dated) and _open_minutes(_hours(new)) & ~_open_minutes(regular) == 0


def _hours(terms: Terms) -> list[Hours]:
    return [condition for condition in terms.conditions if isinstance(condition, Hours)]


def _open_minutes(conditions: Iterable[Hours]) -> int:
    """The minutes of a week in which every hours condition may be open, one bit each; openings begin and end on minutes."""
    open_in_all = _ALWAYS
    for hours in conditions:
        open_in_all &= _minutes_of(hours)
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
