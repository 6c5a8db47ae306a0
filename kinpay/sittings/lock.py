"""How wrong faces and PINs lock: by terminal, by site, by person. Pure.

At a terminal a failure is counted when its frames are taken, and taken back if they turn out well or not to be an attempt at
all: of many attempts sent at once no more pass than one after the other. Source: threat A10; story S2.6.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final


class LockKind(StrEnum):
    """Whose lock it is."""

    TERMINAL = "terminal"
    """Guesses made before one camera. What succeeds at another terminal takes nothing off."""
    SITE = "site"
    """Guesses in one place, whichever terminals are used; it stops looking for faces there, codes and cards go on."""
    PERSON = "person"
    """Guesses at one person: wrong faces after their card or code, wrong PINs where they were near."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockRules:
    """When a lock of one kind closes. `tally_at_most` failures within `tally_within` disable, where `disables`, else wait.

    `restarts`: whoever has waited begins to count anew; else the next failure makes the wait longer.
    """

    in_a_row: int
    first_wait: timedelta
    longest_wait: timedelta
    tally_at_most: int
    tally_within: timedelta
    disables: bool = False
    restarts: bool = False


RULES: Final = {
    # Five in a row, then at least thirty seconds, growing; fifty in a day, then somebody has to come and look (A10).
    LockKind.TERMINAL: LockRules(
        in_a_row=5,
        first_wait=timedelta(seconds=30),
        longest_wait=timedelta(minutes=15),
        tally_at_most=50,
        tally_within=timedelta(hours=24),
        disables=True,
    ),
    # A stranger's search is a lottery ticket: a site has many tills, and many people who are not recognised at once.
    LockKind.SITE: LockRules(
        in_a_row=10**6,
        first_wait=timedelta(minutes=10),
        longest_wait=timedelta(minutes=10),
        tally_at_most=40,
        tally_within=timedelta(minutes=10),
    ),
    LockKind.PERSON: LockRules(
        in_a_row=3,
        first_wait=timedelta(minutes=15),
        longest_wait=timedelta(minutes=15),
        tally_at_most=10**6,
        tally_within=timedelta(hours=24),
        restarts=True,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A row of `face_lock`. `in_a_row`: failures since the last success; `tally`: since `tally_since`, whatever succeeded."""

    subject_id: str
    kind: LockKind
    in_a_row: int
    tally: int
    tally_since: datetime
    locked_until: datetime | None
    disabled_at: datetime | None

    def is_closed(self, now: datetime) -> bool:
        """Whether no face is looked at for it now."""
        return self.disabled_at is not None or (self.locked_until is not None and now < self.locked_until)


def open_lock(subject_id: str, kind: LockKind, now: datetime) -> Lock:
    """Nothing has failed yet."""
    return Lock(subject_id=subject_id, kind=kind, in_a_row=0, tally=0, tally_since=now, locked_until=None, disabled_at=None)


def failed(lock: Lock, now: datetime, rules: LockRules | None = None) -> Lock:
    """One failure more. The wait doubles with every failure past the ones allowed in a row."""
    how = rules or RULES[lock.kind]
    fresh = now - lock.tally_since >= how.tally_within
    tally, since = (1, now) if fresh else (lock.tally + 1, lock.tally_since)
    until = lock.locked_until
    waited = how.restarts and until is not None and until <= now
    in_a_row = 1 if waited else lock.in_a_row + 1
    until = None if waited else until
    if in_a_row >= how.in_a_row:
        until = now + min(how.longest_wait, how.first_wait * 2 ** min(20, in_a_row - how.in_a_row))
    over = tally >= how.tally_at_most
    if over and not how.disables:
        until, tally, since = now + how.first_wait, 0, now
    disabled_at = now if over and how.disables else lock.disabled_at
    return replace(lock, in_a_row=in_a_row, tally=tally, tally_since=since, locked_until=until, disabled_at=disabled_at)


def succeeded(lock: Lock) -> Lock:
    """What was counted when the frames were taken was no failure, and the row is broken. Earlier failures stay in the tally."""
    return replace(_taken_back(lock), in_a_row=0, locked_until=None)


def no_attempt(lock: Lock) -> Lock:
    """What was counted when the frames were taken was no attempt: no face, or none good enough to be compared."""
    return _taken_back(lock)


def _taken_back(lock: Lock) -> Lock:
    """The last count undone, with the closing that it brought; nobody came in since, as it was closed."""
    how = RULES[lock.kind]
    tally, in_a_row = max(0, lock.tally - 1), max(0, lock.in_a_row - 1)
    disabled_at = None if how.disables and tally < how.tally_at_most else lock.disabled_at
    return replace(lock, tally=tally, in_a_row=in_a_row, locked_until=None, disabled_at=disabled_at)
