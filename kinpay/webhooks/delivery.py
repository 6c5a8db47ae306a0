"""A delivery: one event on its way to one endpoint. When it is tried again, and when it is given up. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from kinpay.primitives.lifecycle import Lifecycle


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    """To be tried, now or later."""
    DELIVERED = "delivered"
    """The endpoint took it (any 2xx)."""
    FAILED = "failed"
    """Given up after the last try, or because the endpoint said that it is gone (410)."""


class DeliveryEvent(StrEnum):
    """What can happen to a delivery."""

    TAKEN = "taken"
    """An attempt was answered with a 2xx."""
    GIVEN_UP = "given_up"
    """The last attempt of the schedule failed too, or the endpoint is gone."""
    ASKED_AGAIN = "asked_again"
    """Somebody wants it delivered again; its schedule begins anew, and what is pending goes at once."""


_S, _E = DeliveryState, DeliveryEvent

DELIVERY_LIFE: Final = Lifecycle[DeliveryState, DeliveryEvent](
    "delivery",
    DeliveryState.PENDING,
    {
        (_S.PENDING, _E.TAKEN): _S.DELIVERED,
        (_S.PENDING, _E.GIVEN_UP): _S.FAILED,
        (_S.PENDING, _E.ASKED_AGAIN): _S.PENDING,
        (_S.DELIVERED, _E.ASKED_AGAIN): _S.PENDING,
        (_S.FAILED, _E.ASKED_AGAIN): _S.PENDING,
    },
)

RETRY_AFTER: Final = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
"""The pause after the first, second … failure: ten tries over 75 hours. Source: standardwebhooks.com, "Retry schedule"."""
FAILING_FOR: Final = timedelta(days=3)
"""An endpoint that took nothing for so long is disabled."""
_SPREAD: Final = 0.1


def retry_after(tries: int, *, jitter: float) -> timedelta | None:
    """The pause after `tries` failed tries of a schedule, up to a tenth longer by `jitter` in [0, 1); None: give up."""
    if tries > len(RETRY_AFTER):
        return None
    return RETRY_AFTER[tries - 1] * (1 + _SPREAD * jitter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How many attempts may be under way: to one endpoint (at most 4), to all of one merchant, beyond each endpoint's first,
    and to endpoints that took nothing lately (one each)."""

    each: int
    of_one: int
    further: int
    failing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Leased:
    """A delivery that one sender has for now. `fence` names its lease; `now` is the database's clock at the claim."""

    id: str
    event_id: str
    endpoint_id: str
    subject_id: str
    seq: int
    attempts: int
    tries: int
    fence: int
    url: str
    body: str
    now: datetime

    @property
    def message_id(self) -> str:
        """The `webhook-id`: the same in every attempt, for ever."""
        return message_id(self.event_id)


def message_id(event_id: str) -> str:
    """An event's id as receivers see it."""
    return f"msg_{event_id}"
