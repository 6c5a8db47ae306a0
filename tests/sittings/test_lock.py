"""What wrong faces and PINs come to, as a rule: no database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kinpay.primitives.ids import new_id
from kinpay.sittings.errors import FaceDisabled, FaceLocked
from kinpay.sittings.lock import Lock, LockKind, failed, no_attempt, open_lock, succeeded
from kinpay.sittings.lock_store import require_open

NOW = datetime(2026, 3, 2, 7, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def after(kind: LockKind, failures: int, *, at: datetime = NOW) -> Lock:
    """A lock after so many failures, one a second."""
    lock = open_lock(new_id(), kind, at)
    for second in range(failures):
        lock = failed(lock, at + second * SECOND)
    return lock


def wait_s(lock: Lock, now: datetime = NOW) -> float:
    """How long it is closed, from its last failure."""
    assert lock.locked_until is not None
    return (lock.locked_until - now).total_seconds()


def test_a_terminal_locks_at_the_fifth_failure_in_a_row_for_thirty_seconds_and_then_for_longer() -> None:
    assert not after(LockKind.TERMINAL, 4).is_closed(NOW + 4 * SECOND)
    fifth = after(LockKind.TERMINAL, 5)
    assert wait_s(fifth, NOW + 4 * SECOND) == 30
    with pytest.raises(FaceLocked) as refused:
        require_open([fifth], NOW + 4 * SECOND)
    assert refused.value.detail["retry_after_s"] == 30
    then = NOW + timedelta(minutes=1)
    assert not fifth.is_closed(then)
    sixth = failed(fifth, then)
    assert wait_s(sixth, then) == 60
    assert wait_s(failed(sixth, then), then) == 120
    assert wait_s(after(LockKind.TERMINAL, 49), NOW + 48 * SECOND) == 15 * 60


def test_a_success_breaks_the_row_but_not_the_tally_and_fifty_in_a_day_disable() -> None:
    lock = open_lock(new_id(), LockKind.TERMINAL, NOW)
    for number in range(1, 50):
        lock = failed(lock, NOW + number * timedelta(minutes=20))
        if number % 4 == 0:
            lock = succeeded(failed(lock, NOW + number * timedelta(minutes=20)))
    assert (lock.in_a_row, lock.tally, lock.disabled_at) == (1, 49, None)
    last = NOW + timedelta(hours=17)
    disabled = failed(lock, last)
    assert disabled.disabled_at == last
    with pytest.raises(FaceDisabled):
        require_open([disabled], last + timedelta(days=30))
    assert failed(lock, NOW + timedelta(hours=25)).tally == 1


def test_what_was_no_attempt_leaves_nothing() -> None:
    fourth = after(LockKind.TERMINAL, 4)
    taken = failed(fourth, NOW)
    assert taken.is_closed(NOW)
    assert no_attempt(taken) == fourth
    assert succeeded(taken).in_a_row == 0
    assert succeeded(taken).tally == 4


def test_a_person_locks_for_a_quarter_of_an_hour_at_the_third_and_then_has_three_again() -> None:
    third = after(LockKind.PERSON, 3)
    assert wait_s(third, NOW + 2 * SECOND) == 15 * 60
    later = NOW + timedelta(minutes=16)
    again = failed(third, later)
    assert not again.is_closed(later)
    assert failed(failed(again, later), later).is_closed(later)


def test_a_site_pauses_after_forty_failures_in_ten_minutes_wherever_they_were() -> None:
    assert not after(LockKind.SITE, 39).is_closed(NOW + 39 * SECOND)
    fortieth = after(LockKind.SITE, 40)
    assert fortieth.is_closed(NOW + 40 * SECOND)
    assert not fortieth.is_closed(NOW + timedelta(minutes=11))
    slow = open_lock(new_id(), LockKind.SITE, NOW)
    for number in range(100):
        slow = failed(slow, NOW + number * timedelta(seconds=20))
    assert not slow.is_closed(NOW + timedelta(seconds=2000))
