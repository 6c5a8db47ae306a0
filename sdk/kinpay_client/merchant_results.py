"""What a merchant's back office is told, with types. Amounts are whole minor units; moments are aware."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from kinpay_client.answer import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledTerminal:
    """A till of theirs; `state`: expected, active, revoked."""

    id: str
    name: str
    merchant_id: str
    site_id: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalPage(Answer):
    """Some terminals; `next` asks for the next page, None: there is none."""

    terminals: tuple[InstalledTerminal, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """A closed day (`YYYY-MM-DD`, in the operator's zone) in one currency. `paid_at` None: not paid yet."""

    day: str
    currency: str
    captures: int
    captured_minor: int
    refunds: int
    refunded_minor: int
    net_minor: int
    closed_at: datetime
    reference: str | None = None
    paid_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementPage(Answer):
    """Some closed days, newest first; the last one's `day` as `before` asks for older ones."""

    settlements: tuple[Settlement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementLine:
    """One entry of the ledger: above zero is for the merchant, below zero against it."""

    entry_id: str
    at: datetime
    kind: str
    charge_id: str
    terminal_name: str
    amount_minor: int
    reference: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementLinePage(Answer):
    """What a closed day is made of, in order; `after` asks for the next page, None: there is none."""

    lines: tuple[SettlementLine, ...]
    after: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEndpoint(Answer):
    """An address that messages go to. Disabled because somebody `asked`, or it answered 410 (`gone`), or was `failing`."""

    id: str
    url: str
    types: tuple[str, ...]
    enabled: bool
    created_at: datetime
    merchant_id: str | None = None
    description: str | None = None
    disabled_reason: str | None = None
    disabled_at: datetime | None = None
    failing_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookMade(Answer):
    """A new endpoint with its secret (`whsec_…`), which is shown this once."""

    endpoint: WebhookEndpoint
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookPage(Answer):
    """Some endpoints, newest first; `next` asks for the next page, None: there is none."""

    endpoints: tuple[WebhookEndpoint, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretMade(Answer):
    """A new secret, shown this once; until `both_until` messages are signed with the one before, too."""

    secret: str = field(repr=False)
    both_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try to deliver. No `status`: there was no answer. No `error`: it was taken. `answer`: its beginning."""

    number: int
    at: datetime
    duration_ms: int
    status: int | None = None
    answer: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event on its way to one endpoint; `message_id` is its `webhook-id`. `state`: pending, delivered, failed."""

    id: str
    endpoint_id: str
    message_id: str
    type: str
    subject_id: str
    state: str
    attempts: int
    created_at: datetime
    next_attempt_at: datetime | None = None
    finished_at: datetime | None = None
    last: Attempt | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPage(Answer):
    """Some deliveries, newest first; `next` asks for the next page, None: there is none."""

    deliveries: tuple[Delivery, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryTold(Answer):
    """A delivery, and its attempts, newest first."""

    delivery: Delivery
    attempts: tuple[Attempt, ...]

    @property
    def text(self) -> str:
        """The very text that is sent."""
        return str(self["body"])
