"""What the bank refuses, and what cannot be read: which of it is certain, and which is unknown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from kinpay.providers.contract import Misconfigured, NotKnown, UnknownOutcome
from kinpay.providers.sandbox_bank import wire

_CREATED_OR_DONE: Final = (200, 201)
_PERHAPS_CARRIED_OUT: Final = (408, 425, 429)
"""Refusals of the moment, which the bank's page does not have: whoever sends one may have passed the request on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The bank's own, verified *no* to a request as such."""

    status: int
    code: str


@contextmanager
def believing() -> Iterator[None]:
    """Turns *cannot be read* into *unknown*."""
    try:
        yield
    except wire.Unreadable as error:
        raise UnknownOutcome(f"answer_unreadable: {error}") from error


def refusal_of(status: int, body: Callable[[], bytes]) -> Refusal | None:
    """None if the bank did as asked. Raises: UnknownOutcome for what is neither that nor a refusal of the request."""
    if status in _CREATED_OR_DONE:
        return None
    if not 400 <= status < 500 or status in _PERHAPS_CARRIED_OUT:
        raise UnknownOutcome(f"status_{status}")
    with believing():
        code = wire.read_refusal(body())
    if code == "replayed":
        # Somebody between us delivered the request twice: the first one may have been carried out.
        raise UnknownOutcome("replayed")
    return Refusal(status=status, code=code)


def granted(said: wire.Json | Refusal) -> wire.Json:
    """What was asked about. Raises: NotKnown if there is no such thing; Misconfigured."""
    if isinstance(said, Refusal):
        raise as_exception(said)
    return said


def accepted(said: wire.Json | Refusal) -> wire.Json:
    """What was ordered. *Not found* is then said of what the order leans on, not of its key. Raises: Misconfigured."""
    if isinstance(said, Refusal):
        raise Misconfigured(said.code)
    return said


def as_exception(refusal: Refusal) -> Exception:
    """What a refusal is to whoever asked: NotKnown or Misconfigured."""
    if refusal.status == 404 and refusal.code == "not_found":
        return NotKnown("not_found")
    return Misconfigured(refusal.code)
