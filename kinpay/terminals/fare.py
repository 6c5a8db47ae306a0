"""A merchant's fare rule: what a ride costs after what was ridden before it. Pure.

Never more than so much a day, and a ride soon after a paid one is a free transfer. It is for gates, where nobody types an
amount in twice. Source: claim 5; the bus operator's need.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class FareRule:
    """The rule now in force. Amounts in minor units of `currency`; None: no cap, no transfers."""

    merchant_id: str
    version: int
    currency: str
    cap_per_day_minor: int | None
    transfer_within_s: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ridden:
    """A spender's rides with one merchant: what those of today cost, and when the last one began that cost something."""

    charged_minor: int = 0
    paid_at: datetime | None = None

    def then(self, cost_minor: int, now: datetime) -> Ridden:
        """After one more ride."""
        return Ridden(charged_minor=self.charged_minor + cost_minor, paid_at=now if cost_minor else self.paid_at)


def cost_of(fare_minor: int, rule: FareRule, ridden: Ridden, *, now: datetime) -> int:
    """What a ride for `fare_minor` costs now: nothing as a transfer, else what the day's cap leaves of it."""
    transfer_s = rule.transfer_within_s
    if transfer_s is not None and ridden.paid_at is not None and now - ridden.paid_at < timedelta(seconds=transfer_s):
        return 0
    if rule.cap_per_day_minor is None:
        return fare_minor
    return max(0, min(fare_minor, rule.cap_per_day_minor - ridden.charged_minor))
