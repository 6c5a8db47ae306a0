"""What the rides of a batch cost: merchants' fare rules and what the spenders rode before, read under the circles' locks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from kinpay.charges.order import Order
from kinpay.charges.request import AuthorizeRequest
from kinpay.database.sql import Connection, Sql
from kinpay.terminals.fare import FareRule, Ridden, cost_of

Rider = tuple[str, str, str, str]
"""(circle, spender, merchant, currency): whose rides are reckoned together."""

# A day may have 25 hours; a transfer reaches back over midnight.
RIDDEN = Sql("""
    SELECT n.at - 1 AS at, f.version, f.cap_per_day_minor, f.transfer_within_s, r.charged_minor, r.paid_at
    FROM unnest(:circles::uuid[], :spenders::uuid[], :merchants::uuid[], :currencies::text[])
         WITH ORDINALITY AS n (circle_id, spender_id, merchant_id, currency, at)
    CROSS JOIN LATERAL (SELECT version, currency, cap_per_day_minor, transfer_within_s, ended FROM fare_rule
                        WHERE merchant_id = n.merchant_id ORDER BY version DESC LIMIT 1) f
    JOIN merchant m ON m.id = n.merchant_id JOIN operator o ON o.id = m.operator_id
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(coalesce(c.captured_minor, c.amount_minor) - c.refunded_minor) FILTER (
                   WHERE (c.decided_at AT TIME ZONE o.time_zone)::date = (:now::timestamptz AT TIME ZONE o.time_zone)::date
               ), 0)::bigint AS charged_minor,
               max(c.decided_at) FILTER (WHERE coalesce(c.captured_minor, c.amount_minor) > c.refunded_minor) AS paid_at
        FROM charge c
        WHERE c.circle_id = n.circle_id AND c.decided_at > :now::timestamptz - interval '26 hours'
          AND c.spender_id = n.spender_id AND c.merchant_id = n.merchant_id AND c.currency = n.currency
          AND c.fare_minor IS NOT NULL AND c.state IN ('held', 'due', 'submitted', 'succeeded', 'arrears')) r
    WHERE NOT f.ended AND f.currency = n.currency
""")


class Fares:
    """The riders of one batch; each approved ride changes what the next one costs."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._rules: dict[Rider, FareRule] = {}
        self._ridden: dict[Rider, Ridden] = {}

    @classmethod
    async def read(cls, conn: Connection, requests: Sequence[AuthorizeRequest], *, now: datetime) -> Fares:
        """Reads what the requests at gates need, in one statement; nothing if there are none."""
        fares = cls(now)
        riders = list({_rider(request): None for request in requests if request.at_gate})
        if not riders:
            return fares
        rows = await RIDDEN.rows(
            conn,
            circles=[rider[0] for rider in riders],
            spenders=[rider[1] for rider in riders],
            merchants=[rider[2] for rider in riders],
            currencies=[rider[3] for rider in riders],
            now=now,
        )
        for row in rows:
            rider = riders[row["at"]]
            fares._ridden[rider] = Ridden(charged_minor=row["charged_minor"], paid_at=row["paid_at"])
            fares._rules[rider] = FareRule(
                merchant_id=rider[2],
                version=row["version"],
                currency=rider[3],
                cap_per_day_minor=row["cap_per_day_minor"],
                transfer_within_s=row["transfer_within_s"],
            )
        return fares

    def priced(self, request: AuthorizeRequest) -> tuple[Order, int | None]:
        """The order for what the ride costs, and its fare; as asked for, and None, where no rule holds."""
        rule = self._rules.get(_rider(request)) if request.at_gate else None
        if rule is None:
            return request.order, None
        fare = request.order.amount_minor
        cost = cost_of(fare, rule, self._ridden[_rider(request)], now=self._now)
        # A basket goes on saying what was ridden for how much: a limit on items counts at most what is left of it.
        return msgspec.structs.replace(request.order, amount_minor=cost, fare_minor=fare), fare

    def ride(self, request: AuthorizeRequest, order: Order) -> None:
        """Notes an approved ride."""
        rider = _rider(request)
        if rider in self._rules:
            self._ridden[rider] = self._ridden[rider].then(order.amount_minor, self._now)


def _rider(request: AuthorizeRequest) -> Rider:
    order = request.order
    return request.circle_id, order.spender_id, order.merchant_id, order.currency
