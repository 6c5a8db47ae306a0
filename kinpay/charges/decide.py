"""The decision: one pure function for paying, "would this pass?", replay, the simulator and the auditor.

    decide(order, circle, usage, moment) -> Approve | Refuse        (a later issue adds: ask a person)

A refusal lists every reason in the order of semantics.md, and what would still pass: how much now, and when the whole.
Source: semantics.md "Limits"; [0024], [0032].
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import msgspec

from kinpay.charges.ceilings import COOLING, against
from kinpay.charges.hours import HORIZON, opens_at
from kinpay.charges.order import Order
from kinpay.charges.reason import Rank, Reason
from kinpay.charges.standing import (
    NO_CONDITIONS,
    AgreementStanding,
    Bounds,
    CircleStanding,
    Conditions,
    Counter,
    CredentialStanding,
    MandateStanding,
    Moment,
    SpenderStanding,
    Usage,
)
from kinpay.primitives.clock import Span


class Approve(msgspec.Struct, frozen=True, gc=False):
    """Yes: under which mandate and version, on which agreement, and which windows it uses."""

    mandate: MandateStanding
    agreement: AgreementStanding
    uses: tuple[tuple[Counter, Span], ...]


class Refuse(msgspec.Struct, frozen=True, gc=False):
    """No, with every reason (the first is primary). `possible_now_minor`: what would pass now (0: nothing).

    `again_at`: when the whole amount would pass, if nothing else is spent; None if never as things stand.
    """

    reasons: tuple[Reason, ...]
    possible_now_minor: int
    again_at: datetime | None
    mandate: MandateStanding | None = None


Decision = Approve | Refuse


class _Case(msgspec.Struct, frozen=True, gc=False):
    """One mandate to be judged for one credential; the order and the moment vary."""

    mandate: MandateStanding
    credential: CredentialStanding | None
    usage: Usage
    spent: frozenset[str]
    bounds: tuple[Bounds, ...]
    """Everything that binds: the mandate, what it cools, the card, the payer's pools."""

    @classmethod
    def of(cls, mandate: MandateStanding, credential: CredentialStanding | None, usage: Usage, spent: frozenset[str]) -> _Case:
        """With what binds there."""
        carried = (credential.bounds,) if credential else ()
        return cls(mandate, credential, usage, spent, (mandate.bounds, *mandate.cooling, *carried, *mandate.pools))


def decide(
    order: Order, circle: CircleStanding, usage: Usage, moment: Moment, *, spent_agreements: frozenset[str] = frozenset()
) -> Decision:
    """Tries the spender's mandates in order; the first that passes approves.

    `spent_agreements`: already definitively refused for this charge; a fallback decides again without them.
    If none passes, the reasons are those of the first mandate in order; what is still possible is so under any of them.
    """
    spender = circle.spenders.get(order.spender_id)
    credential = circle.credentials.get(order.credential_id or "")
    barred = _barred(order, circle, spender, credential)
    if barred or spender is None:
        return Refuse(tuple(barred), 0, None)
    cases = [_Case.of(mandate, credential, usage, spent_agreements) for mandate in spender.mandates]
    first: list[Reason] | None = None
    for case in cases:
        reasons, agreement = _judge(case, order, moment)
        if not reasons and agreement is not None:
            return Approve(case.mandate, agreement, _uses(case, order, moment))
        first = first or reasons
    assert first is not None
    first.sort(key=lambda reason: reason.rank)
    possible = max(_possible_now(case, order, moment) for case in cases)
    instants = [at for case in cases if (at := _again_at(case, order, moment)) is not None]
    return Refuse(tuple(first), possible, min(instants, default=None), cases[0].mandate)


def _barred(
    order: Order, circle: CircleStanding, spender: SpenderStanding | None, credential: CredentialStanding | None
) -> list[Reason]:
    """What refuses before any mandate is looked at."""
    reasons: list[Reason] = []
    if not circle.active:
        reasons.append(Reason(Rank.STATUS, "CIRCLE_FROZEN"))
    if spender is not None and not spender.active:
        reasons.append(Reason(Rank.STATUS, "SPENDER_INACTIVE"))
    if order.credential_id is not None and (credential is None or not credential.active):
        reasons.append(Reason(Rank.STATUS, "CREDENTIAL_REVOKED"))
    if spender is None or not spender.mandates:
        pending = spender is not None and spender.pending_registration
        reasons.append(Reason(Rank.MANDATE, "MANDATE_PENDING" if pending else "MANDATE_NONE"))
    return reasons


def _judge(case: _Case, order: Order, moment: Moment) -> tuple[list[Reason], AgreementStanding | None]:
    """Every reason against this mandate, and the agreement that would fund it."""
    mandate, credential = case.mandate, case.credential
    reasons: list[Reason] = []
    if mandate.state != "active":
        reasons.append(Reason(Rank.MANDATE, f"MANDATE_{mandate.state.upper()}"))
    if mandate.in_arrears:
        reasons.append(Reason(Rank.MANDATE, "MANDATE_ARREARS"))
    if order.currency != mandate.currency or (credential and credential.currency not in (None, order.currency)):
        reasons.append(Reason(Rank.MANDATE, "CURRENCY"))
    for bounds in case.bounds:
        if bounds.until is not None and moment.now >= bounds.until:
            continue
        if bounds.conditions is not NO_CONDITIONS:
            reasons.extend(_conditions_against(order, bounds, moment))
        if bounds.ceilings:
            reasons += against(order, bounds, case.usage, moment)
    agreement = _funding(case, order)
    if agreement is None:
        reasons.append(_provider_reason(case, order))
    return reasons, agreement


def _usable(case: _Case, order: Order) -> list[AgreementStanding]:
    return [a for a in case.mandate.agreements if a.active and a.id not in case.spent and a.currency == order.currency]


def _funding(case: _Case, order: Order) -> AgreementStanding | None:
    for agreement in _usable(case, order):
        if agreement.per_debit_minor is None or order.amount_minor <= agreement.per_debit_minor:
            return agreement
    return None


def _provider_reason(case: _Case, order: Order) -> Reason:
    return Reason(Rank.PROVIDER, "PROVIDER", at_most=max((a.per_debit_minor or 0 for a in _usable(case, order)), default=None))


def _conditions_against(order: Order, bounds: Bounds, moment: Moment) -> Iterator[Reason]:
    conditions, now = bounds.conditions, moment.now
    during = "" if bounds.until is None else COOLING
    if conditions.valid_from is not None and now < conditions.valid_from:
        yield Reason(Rank.MANDATE, during + "NOT_YET_VALID", resets_at=_sooner(conditions.valid_from, bounds.until))
    if conditions.valid_until is not None and now >= conditions.valid_until:
        yield Reason(Rank.MANDATE, during + "NO_LONGER_VALID", resets_at=bounds.until)
    for name in _unwanted(order, conditions):
        yield Reason(Rank.PAYEE_OR_CATEGORY, during + name, resets_at=bounds.until)
    for hours in conditions.hours:
        if not hours.is_open(moment.local):
            again = opens_at(((hours, bounds.until),), now, moment.time_zone)
            yield Reason(Rank.TIME, during + "TIME", resets_at=again)


def _unwanted(order: Order, conditions: Conditions) -> Iterator[str]:
    """What of the order is not among the allowed, or among the denied."""
    if any((order.merchant_id in values) is not allowed for allowed, values in conditions.payees):
        yield "PAYEE"
    if any((order.mcc in values) is not allowed for allowed, values in conditions.mccs):
        yield "CATEGORY"
    if conditions.items and not order.items:
        yield "ITEMS_UNKNOWN"
    elif any((item.code in values) is not allowed for allowed, values in conditions.items for item in order.items):
        yield "ITEM"
    if any((order.method in values) is not allowed for allowed, values in conditions.methods):
        yield "METHOD"
    if any((order.terminal_id in values) is not allowed for allowed, values in conditions.terminals):
        yield "TERMINAL"


def _sooner(one: datetime, other: datetime | None) -> datetime:
    return one if other is None else min(one, other)


def _uses(case: _Case, order: Order, moment: Moment) -> tuple[tuple[Counter, Span], ...]:
    """The windows that the order uses if approved: every counter of every scope it falls under, once each.

    What costs nothing uses nothing, not even a count.
    """
    if not order.amount_minor:
        return ()
    spans = moment.spans
    return tuple(
        [
            (counter, spans[counter.window])
            for bounds in case.bounds
            for counter in bounds.counters
            if counter.filter is None or counter.filter.part_of(order)
        ]
    )


def _possible_now(case: _Case, order: Order, moment: Moment) -> int:
    """The largest smaller amount that would pass now; 0 if none would."""
    most, least = order.amount_minor - 1, 1
    for bounds in case.bounds:
        if bounds.until is not None and moment.now >= bounds.until:
            continue
        for ceiling in bounds.ceilings:
            part = order.amount_minor if ceiling.filter is None else ceiling.filter.part_of(order)
            if not part:
                continue
            if order.fare_minor is None:
                least = max(least, ceiling.at_least or 1)
            if ceiling.at_most is not None and not ceiling.counts:
                room = ceiling.most(moment) - (ceiling.used(case.usage, moment).amount_minor if ceiling.period else 0)
                most = min(most, room) if part > room else most
    caps = [agreement.per_debit_minor for agreement in _usable(case, order)]
    if caps and None not in caps:
        most = min(most, max(cap for cap in caps if cap is not None))
    if most < least:
        return 0
    reasons, _ = _judge(case, msgspec.structs.replace(order, amount_minor=most), moment)
    return 0 if reasons else most


def _again_at(case: _Case, order: Order, moment: Moment) -> datetime | None:
    """The first instant at which the same order would pass if nothing else is spent.

    Each reason names the first instant at which it may have gone; the latest of them is the earliest candidate, and is
    judged again there, since another condition may bind by then. A reason that no time lifts ends the search.
    Hours are searched for together: stepping from one condition's opening to another's would never end where none coincide.
    """
    if _never(case, order):
        return None
    hours = tuple((hours, bounds.until) for bounds in case.bounds for hours in bounds.conditions.hours)
    at = moment
    while True:
        reasons, _ = _judge(case, order, at)
        if not reasons:
            return at.now
        lifted = [reason.resets_at for reason in reasons if reason.rank is not Rank.TIME]
        if len(lifted) < len(reasons):
            lifted.append(opens_at(hours, at.now, at.time_zone))
        if None in lifted:
            return None
        following = max(instant for instant in lifted if instant is not None)
        if following > moment.now + HORIZON:
            return None
        at = Moment(following, moment.time_zone)


def _never(case: _Case, order: Order) -> bool:
    """Whether some ceiling that stays would not take the order even in an empty window."""
    return any(
        ceiling.at_most is not None and (min(1, part) if ceiling.counts else part) > ceiling.at_most
        for bounds in case.bounds
        if bounds.until is None
        for ceiling in bounds.ceilings
        for part in (order.amount_minor if ceiling.filter is None else ceiling.filter.part_of(order),)
    )
