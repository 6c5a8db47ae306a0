"""What is said about webhooks over HTTP."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from kinpay.primitives.fields import Closed, Id, Moment, Note
from kinpay.webhooks.address import URL_LENGTH, URL_PATTERN
from kinpay.webhooks.endpoint import TOLD, Attempt, Endpoint, Logged

Url = Annotated[
    str, Field(min_length=10, max_length=URL_LENGTH, pattern=URL_PATTERN, examples=["https://shop.example/webhooks"])
]
"""An https address at port 443 or from 1024 on, without credentials, that leads to public addresses alone."""
Kind = Literal[
    "charge.held",
    "charge.due",
    "charge.refused",
    "charge.succeeded",
    "charge.voided",
    "charge.declined",
    "charge.owed",
    "charge.refunded",
    "charge.debited_twice",
    "refund.succeeded",
    "refund.failed",
]
Kinds = Annotated[list[Kind], Field(min_length=1, max_length=len(TOLD))]
State = Literal["pending", "delivered", "failed"]


class EndpointIn(Closed):
    """An endpoint to be made. Without `merchant_id`: for the asking key's merchant, or for all of the operator's."""

    url: Url
    types: Kinds
    merchant_id: Id | None = None
    description: Note | None = None


class EndpointChange(Closed):
    """What changes; what is left out stays, and a `description` of null is taken away.

    `enabled: true` also takes back that it was disabled by itself.
    """

    url: Url | None = None
    types: Kinds | None = None
    description: Note | None = None
    enabled: bool | None = None


class EndpointOut(Closed):
    """An endpoint. Disabled as somebody `asked`, as it answered 410 (`gone`), or as it was `failing` for three days."""

    id: Id
    merchant_id: Id | None
    url: str
    description: str | None
    types: list[str]
    enabled: bool
    disabled_reason: Literal["asked", "gone", "failing"] | None
    disabled_at: datetime | None
    failing_since: datetime | None
    created_at: datetime

    @classmethod
    def of(cls, endpoint: Endpoint) -> EndpointOut:
        """As it is answered."""
        values = {name: getattr(endpoint, name) for name in cls.model_fields}
        return cls.model_validate(values | {"types": list(endpoint.types)})


class EndpointMade(Closed):
    """A new endpoint: `secret` (`whsec_…`) is shown this once."""

    endpoint: EndpointOut
    secret: str


class EndpointsOut(Closed):
    """A page, newest first; `next` goes into `after`."""

    endpoints: list[EndpointOut]
    next: Id | None


class Rotate(Closed):
    """For how long the secret before signs besides, in seconds: at most a week; 0 if it is known to others."""

    overlap_s: Annotated[int, Field(ge=0, le=604_800)] = 86_400


class Rotated(Closed):
    """The new secret, shown this once, and until when the one before signs besides."""

    secret: str
    both_until: datetime


class TestSent(Closed):
    """The test's `webhook-id`."""

    message_id: str


class AttemptOut(Closed):
    """One try. No `status`: there was no answer. No `error`: it was taken. `answer`: its first 500 characters."""

    number: int
    at: datetime
    duration_ms: int
    status: int | None
    answer: str | None
    error: str | None

    @classmethod
    def of(cls, attempt: Attempt) -> AttemptOut:
        """As it is answered."""
        return cls(**{name: getattr(attempt, name) for name in cls.model_fields})


class DeliveryOut(Closed):
    """One event on its way to one endpoint. `subject_id`: the charge; `message_id`: its `webhook-id`."""

    id: Id
    endpoint_id: Id
    message_id: str
    type: str
    subject_id: Id
    state: State
    attempts: int
    next_attempt_at: datetime | None
    created_at: datetime
    finished_at: datetime | None
    last: AttemptOut | None

    @classmethod
    def of(cls, logged: Logged) -> DeliveryOut:
        """As it is answered."""
        values = {name: getattr(logged, name) for name in cls.model_fields if name != "last"}
        return cls.model_validate(values | {"last": None if logged.last is None else AttemptOut.of(logged.last)})


class DeliveriesOut(Closed):
    """A page, newest first; `next` goes into `after`."""

    deliveries: list[DeliveryOut]
    next: Id | None


class DeliveryTold(Closed):
    """A delivery, the body as it is sent, and its attempts, newest first."""

    delivery: DeliveryOut
    body: str
    attempts: list[AttemptOut]


class Since(Closed):
    """From which moment on what was given up is delivered again."""

    since: Moment


class Again(Closed):
    """How many deliveries will be made again."""

    deliveries: int
