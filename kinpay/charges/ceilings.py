"""What the limits of one scope say against an order, each with what it allows, what is used and when there is room again."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from kinpay.charges.order import Order
from kinpay.charges.reason import Rank, Reason, rank_of
from kinpay.charges.standing import TRAIL, Bounds, Ceiling, Moment, Scope, Trail, Usage
from kinpay.primitives.period import Period, Unit

COOLING: Final = "COOLING_"
"""Begins the codes of what binds only until a grant or a raise has cooled down."""
_PREFIX: Final = {Scope.MANDATE: "", Scope.POOL: "POOL_", Scope.CREDENTIAL: "CARD_"}


def against(order: Order, bounds: Bounds, usage: Usage, moment: Moment) -> list[Reason]:
    """Every ceiling that would be passed, and every floor that is not reached. Equality passes."""
    reasons: list[Reason] = []
    for ceiling in bounds.ceilings:
        part = order.amount_minor if ceiling.filter is None else ceiling.filter.part_of(order)
        if not part:
            continue
        period = ceiling.period
        if period is None:
            reasons += _per_payment(ceiling, part, bounds)
            reasons += _below(ceiling, order, bounds)
            continue
        used, most = ceiling.used(usage, moment), ceiling.most(moment)
        taken, more = (used.count, 1) if ceiling.counts else (used.amount_minor, part)
        if taken + more > most:
            reasons.append(_beyond(ceiling, period, bounds, usage, moment, taken=taken, more=more))
    return reasons


def _per_payment(ceiling: Ceiling, part: int, bounds: Bounds) -> list[Reason]:
    reasons: list[Reason] = []
    if ceiling.at_most is not None and part > ceiling.at_most:
        code = _code(bounds, ceiling, "PER_PAYMENT")
        reasons.append(Reason(Rank.PER_PAYMENT, code, at_most=ceiling.at_most, resets_at=bounds.until))
    return reasons


def _below(ceiling: Ceiling, order: Order, bounds: Bounds) -> list[Reason]:
    """A floor is about what is sold: of a ride that a fare rule made cheaper, its plain fare."""
    if ceiling.at_least is None:
        return []
    plain = order if order.fare_minor is None else msgspec.structs.replace(order, amount_minor=order.fare_minor)
    if (plain.amount_minor if ceiling.filter is None else ceiling.filter.part_of(plain)) >= ceiling.at_least:
        return []
    code = _code(bounds, ceiling, "PER_PAYMENT_MIN")
    return [Reason(Rank.PER_PAYMENT, code, at_least=ceiling.at_least, resets_at=bounds.until)]


def _beyond(ceiling: Ceiling, period: Period, bounds: Bounds, usage: Usage, moment: Moment, *, taken: int, more: int) -> Reason:
    most = ceiling.most(moment)
    rank = Rank.COUNT if ceiling.counts else rank_of(period)
    if bounds.scope is Scope.POOL:
        rank = Rank.POOL
    resets_at = _resets_at(ceiling, period, usage, moment, over=taken + more - most)
    if bounds.until is not None:
        resets_at = bounds.until if resets_at is None else min(resets_at, bounds.until)
    consent = "CONSENT_" if period.anchor is not None else ""
    name = f"{consent}{period.unit.name}_{'COUNT' if ceiling.counts else 'AMOUNT'}"
    code = _code(bounds, ceiling, name)
    return Reason(rank, code, at_most=most, used=taken, remaining=max(0, most - taken), resets_at=resets_at)


def _resets_at(ceiling: Ceiling, period: Period, usage: Usage, moment: Moment, *, over: int) -> datetime | None:
    """When there is room again: the next window, or when enough of the trail has left; None if never by itself."""
    if period.unit is Unit.LIFETIME:
        return None
    if period.trailing is None:
        return moment.spans[ceiling.window].end
    trail, leaves_at = usage.get((ceiling.counter_id, TRAIL)), None
    for at, amount, count in trail.made if isinstance(trail, Trail) else ():
        if at > moment.now - period.trailing and over > 0:
            over -= count if ceiling.counts else amount
            leaves_at = at + period.trailing
    return leaves_at


def _code(bounds: Bounds, ceiling: Ceiling, name: str) -> str:
    """Whether it is only for a time of cooling, whose it is, whether it is for some payments only, what it is."""
    during = "" if bounds.until is None else COOLING
    return during + _PREFIX[bounds.scope] + ("CATEGORY_" if ceiling.filter else "") + name
