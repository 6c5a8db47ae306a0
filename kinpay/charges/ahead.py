"""Deciding ahead of the locks: look, decide, then lock and write in one statement if what was seen still stands.

Every change of what a circle's charges are decided by moves the end of its audit lane or the version of its row, in the same
transaction. A circle whose lane and version are, under its lock, those that were seen has not changed between the look and the
lock: whoever locked it at the moment of the look and held it until now would have come to the same. Nothing is kept from one
batch to the next but the rules, which are compared, and a guess at the time, which only says which windows to read.
Source: docs/decisions/0010-decide-then-lock.md; semantics.md "Limits" (one clock), "Concurrency".
"""

from __future__ import annotations

import time
from collections.abc import Container, Sequence
from datetime import datetime, timedelta
from typing import Final

from kinpay.charges.ahead_store import look, write_if_still
from kinpay.charges.decide_batch import Mark, decide_all, first_of_each, marks_of, moments_of, windows_of
from kinpay.charges.fares import Fares
from kinpay.charges.request import Authorized, AuthorizeRequest, Verdicts
from kinpay.charges.rules import RulesCache
from kinpay.charges.standing import Moment
from kinpay.database.pool import Database

_SLACK: Final = timedelta(seconds=10)
"""How much earlier than guessed it may turn out to be: trailing uses are read from as much earlier on."""


class Ahead:
    """One a batcher."""

    def __init__(self, db: Database, rules: RulesCache) -> None:
        self._db = db
        self._rules = rules
        self._heard: tuple[datetime, float] | None = None
        self._recent = Recent()

    def hear(self, now: datetime) -> None:
        """Notes what the database's clock said just now."""
        self._heard = (now, time.monotonic())

    async def authorize(self, requests: Sequence[AuthorizeRequest], slow: Container[str], verdicts: Verdicts) -> list[int]:
        """Decides what it can and adds it to `verdicts`; returns the positions that have to be decided under locks.

        `slow`: circles that were busy or had moved before. Whatever it raises, the database alone knows whether anything was
        written: all of it is to be asked for again under locks, where keys tell.
        """
        everything = list(range(len(requests)))
        known = {r.circle_id: self._rules.last_seen(r.circle_id) for r in requests if r.circle_id not in slow}
        standings = {circle_id: standing for circle_id, standing in known.items() if standing is not None}
        if not standings or self._heard is None:
            return everything
        guess = self._heard[0] + timedelta(seconds=time.monotonic() - self._heard[1])
        guessed = moments_of(standings, guess)
        windows, trails = windows_of((r for r in requests if r.circle_id in standings), standings, guessed)
        async with self._db.connection() as conn:
            seen = await look(conn, list(standings), windows, {name: since - _SLACK for name, since in trails.items()})
            self.hear(seen.now)
            moments = moments_of(standings, seen.now)
            if seen.now < guess - _SLACK or not _same_windows(guessed, moments):
                return everything
            still = {circle_id for circle_id, version in seen.versions.items() if version == standings[circle_id].version}
            chosen = [p for p in everything if requests[p].circle_id in still and not self._spent(requests[p], seen.now)]
            left = sorted(set(everything).difference(chosen))
            mine = first_of_each(requests, chosen, still, verdicts, wait=False)
            if not mine:
                return left
            asked = [requests[position] for position in mine]
            seen.heads = {request.circle_id: seen.heads[request.circle_id] for request in asked}
            fares = await Fares.read(conn, asked, now=seen.now)  # read later than the look: if they moved, so did the lane
            written = decide_all(asked, standings, moments, seen.usage, seen, fares)
            held = await write_if_still(conn, asked, written, seen)
            self._recent.add(asked)
        if not held:
            return sorted(left + mine)  # A session has ended, perhaps, or a terminal was revoked: it is found out who is meant.
        for position, charge in zip(mine, written.charges, strict=True):
            if charge.circle_id in held:
                verdicts.answers[position] = Authorized(charge, fresh=True)
            else:
                verdicts.deferred.append(position)
        return left

    def _spent(self, request: AuthorizeRequest, now: datetime) -> bool:
        """Whether it is plain already that the tables would refuse it, and everything else in its statement with it."""
        return request in self._recent or (request.burn is not None and request.burn.expires_at < now)


class Recent:
    """The keys, codes and nonces that this process used last, at least `size` of them and at most twice as many.

    It spares the tables most repetitions; they alone decide what is one.
    """

    def __init__(self, size: int = 20_000) -> None:
        self._size = size
        self._young: set[Mark] = set()
        self._old: set[Mark] = set()

    def add(self, requests: Sequence[AuthorizeRequest]) -> None:
        """Notes what they use."""
        for request in requests:
            self._young.update(marks_of(request))
        if len(self._young) >= self._size:
            self._young, self._old = set(), self._young

    def __contains__(self, request: AuthorizeRequest) -> bool:
        return not all(mark not in self._young and mark not in self._old for mark in marks_of(request))


def _same_windows(guessed: dict[str, Moment], moments: dict[str, Moment]) -> bool:
    """Whether the windows that were read for the guessed moment are those of the true one."""
    by_zone = {moment.time_zone: moment for moment in moments.values()}
    guesses = {moment.time_zone: moment for moment in guessed.values()}
    return all(by_zone[zone].starts[name] == start for zone, m in guesses.items() for name, start in m.starts.items())
