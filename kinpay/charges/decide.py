"""The decision: one pure function for paying, "would this pass?", replay, the simulator and the auditor.

    decide(order, circle, usage, moment) -> Approve | Refuse        (a later issue adds: ask a person)

A refusal lists every reason in the order of semantics.md, and what would still pass: how much now, and when the whole.
Source: semantics.md "Limits"; [0024], [0032].
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from enum import IntEnum
from functools import lru_cache
from typing import Final

import msgspec

from kinpay.charges.standing import (
    AgreementStanding,
    Bounds,
    Ceiling,
    Chosen,
    CircleStanding,
    Conditions,
    Counter,
    CredentialStanding,
    MandateStanding,
    Moment,
    Opening,
    Scope,
    SpenderStanding,
    Usage,
    Used,
)
from kinpay.primitives.clock import Span, Window, instant, start_of_day, zone

_HORIZON: Final = timedelta(days=400)
_NOTHING: Final = Used()
_MIDNIGHT: Final = time.max
"""Stands for 24:00, later than any time at which an opening ends."""


class Rank(IntEnum):
    """The order of reasons; the lowest is primary (semantics.md)."""

    STATUS = 1
    MANDATE = 2
    PAYEE_OR_CATEGORY = 3
    TIME = 4
    PER_PAYMENT = 5
    COUNT = 6
    DAY = 7
    WEEK = 8
    MONTH = 9
    POOL = 10
    PROVIDER = 11


class Order(msgspec.Struct, frozen=True, gc=False):
    """What is asked: `amount_minor` of `currency` for `spender_id` at a merchant, by a credential."""

    amount_minor: int
    currency: str
    merchant_id: str
    mcc: str
    spender_id: str
    credential_id: str | None
    method: str


class Reason(msgspec.Struct, frozen=True, gc=False):
    """One limit or condition that says no. Amounts in minor units, or payments where `code` ends in COUNT."""

    rank: Rank
    code: str
    at_most: int | None = None
    at_least: int | None = None
    used: int | None = None
    remaining: int | None = None
    resets_at: datetime | None = None


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
    """Everything that binds: the mandate, the card, the payer's pools."""

    @classmethod
    def of(cls, mandate: MandateStanding, credential: CredentialStanding | None, usage: Usage, spent: frozenset[str]) -> _Case:
        """With what binds there."""
        own = (mandate.bounds, credential.bounds) if credential else (mandate.bounds,)
        return cls(mandate, credential, usage, spent, own + mandate.pools)


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
        conditions = bounds.conditions
        if conditions.payees or conditions.mccs or conditions.hours:
            reasons.extend(_conditions_against(order, conditions, moment))
        if bounds.ceilings:
            reasons += _ceilings_against(order, bounds, case.usage, moment)
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


def _conditions_against(order: Order, conditions: Conditions, moment: Moment) -> Iterator[Reason]:
    if any((order.merchant_id in values) is not allowed for allowed, values in conditions.payees):
        yield Reason(Rank.PAYEE_OR_CATEGORY, "PAYEE")
    if any((order.mcc in values) is not allowed for allowed, values in conditions.mccs):
        yield Reason(Rank.PAYEE_OR_CATEGORY, "CATEGORY")
    for openings in conditions.hours:
        if not _is_open(openings, moment):
            yield Reason(Rank.TIME, "TIME", resets_at=_opens_at(openings, moment.now, moment.time_zone))


def _is_open(openings: tuple[Opening, ...], moment: Moment) -> bool:
    local = moment.local
    clock, weekday = local.time(), local.isoweekday()
    return any(
        weekday in opening.weekdays and opening.opens <= clock and (opening.closes is None or clock < opening.closes)
        for opening in openings
    )


@lru_cache(maxsize=1024)
def _common(conditions: tuple[tuple[Opening, ...], ...]) -> tuple[Opening, ...]:
    """When all of several hours conditions are open at once; such a stretch begins where one of their openings does."""
    common: list[Opening] = []
    for weekday in range(1, 8):
        open_then = [[opening for opening in openings if weekday in opening.weekdays] for openings in conditions]
        for start in sorted({opening.opens for openings in open_then for opening in openings}):
            closes = [
                max((o.closes or _MIDNIGHT for o in openings if o.opens <= start < (o.closes or _MIDNIGHT)), default=None)
                for openings in open_then
            ]
            if None not in closes:
                end = min(close for close in closes if close is not None)
                common.append(Opening(start, None if end == _MIDNIGHT else end, frozenset({weekday})))
    return tuple(common)


def _opens_at(openings: tuple[Opening, ...], now: datetime, time_zone: str) -> datetime | None:
    """The first instant after `now` at which the wall shows an opening, across jumps of the clock."""
    for days in range(9):
        day = Moment(now, time_zone).day + timedelta(days=days)
        clocks = [opening.opens for opening in openings if day.isoweekday() in opening.weekdays]
        candidates = {instant(day, clock, time_zone) for clock in clocks} | _second_chances(day, clocks, time_zone)
        opens = [at for at in candidates if at > now and _is_open(openings, Moment(at, time_zone))]
        if opens:
            return min(opens)
    return None


def _second_chances(day: date, clocks: list[time], time_zone: str) -> set[datetime]:
    """Where the clock goes back within `day`: the instant it does, and the second time that it shows each of `clocks`."""
    low, high = start_of_day(day, time_zone), start_of_day(day + timedelta(days=1), time_zone)
    if not clocks or high - low <= timedelta(days=1):
        return set()
    here = zone(time_zone)
    again = {datetime.combine(day, clock, here).replace(fold=1).astimezone(UTC) for clock in clocks}
    before = low.astimezone(here).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=int((high - low).total_seconds()) // 2)
        low, high = (middle, high) if middle.astimezone(here).utcoffset() == before else (low, middle)
    return again | {high}


_WINDOW_RANK: Final = {Window.DAY: Rank.DAY, Window.WEEK: Rank.WEEK, Window.MONTH: Rank.MONTH}
_SCOPE_PREFIX: Final = {Scope.MANDATE: "", Scope.POOL: "POOL_", Scope.CREDENTIAL: "CARD_"}


def _ceilings_against(order: Order, bounds: Bounds, usage: Usage, moment: Moment) -> list[Reason]:
    reasons: list[Reason] = []
    amount, starts = order.amount_minor, moment.starts
    for ceiling in bounds.ceilings:
        if not _concerns(ceiling.filter, order):
            continue
        window, most = ceiling.window, ceiling.at_most
        if window is None:
            if most is not None and amount > most:
                reasons.append(Reason(Rank.PER_PAYMENT, _code(ceiling, "PER_PAYMENT"), at_most=most))
            if ceiling.at_least is not None and amount < ceiling.at_least:
                reasons.append(Reason(Rank.PER_PAYMENT, _code(ceiling, "PER_PAYMENT_MIN"), at_least=ceiling.at_least))
            continue
        used = usage.get((ceiling.counter_id, starts[window]), _NOTHING)
        taken, more = (used.count, 1) if ceiling.counts else (used.amount_minor, amount)
        if taken + more > (most or 0):
            reasons.append(_window_reason(ceiling, window, taken, most or 0, moment))
    return reasons


def _concerns(chosen: Chosen | None, order: Order) -> bool:
    return chosen is None or chosen.fits(order.merchant_id, order.mcc)


def _window_reason(ceiling: Ceiling, window: Window, taken: int, most: int, moment: Moment) -> Reason:
    rank = Rank.COUNT if ceiling.counts else _WINDOW_RANK[window]
    if ceiling.scope is Scope.POOL:
        rank = Rank.POOL
    name = f"{window.name}_{'COUNT' if ceiling.counts else 'AMOUNT'}"
    return Reason(
        rank, _code(ceiling, name), at_most=most, used=taken, remaining=max(0, most - taken), resets_at=moment.spans[window].end
    )


def _code(ceiling: Ceiling, name: str) -> str:
    return _SCOPE_PREFIX[ceiling.scope] + ("CATEGORY_" if ceiling.filter else "") + name


def _uses(case: _Case, order: Order, moment: Moment) -> tuple[tuple[Counter, Span], ...]:
    """The windows that the order uses if approved: every counter of every scope it falls under, once each."""
    spans = moment.spans
    return tuple(
        [
            (counter, spans[counter.window])
            for bounds in case.bounds
            for counter in bounds.counters
            if _concerns(counter.filter, order)
        ]
    )


def uses_of(order: Order, circle: CircleStanding, mandate: MandateStanding, moment: Moment) -> tuple[tuple[Counter, Span], ...]:
    """The windows that a charge of this order uses under `mandate`, as of `moment`: for giving them back later."""
    credential = circle.credentials.get(order.credential_id or "")
    return _uses(_Case.of(mandate, credential, {}, frozenset()), order, moment)


def _possible_now(case: _Case, order: Order, moment: Moment) -> int:
    """The largest smaller amount that would pass now; 0 if none would."""
    most, least = order.amount_minor - 1, 1
    for bounds in case.bounds:
        for ceiling in bounds.ceilings:
            if not _concerns(ceiling.filter, order):
                continue
            least = max(least, ceiling.at_least or 1)
            if ceiling.at_most is not None and not ceiling.counts:
                taken = _taken(ceiling, case, moment)
                most = min(most, ceiling.at_most - taken)
    caps = [agreement.per_debit_minor for agreement in _usable(case, order)]
    if caps and None not in caps:
        most = min(most, max(cap for cap in caps if cap is not None))
    if most < least:
        return 0
    reasons, _ = _judge(case, msgspec.structs.replace(order, amount_minor=most), moment)
    return 0 if reasons else most


def _taken(ceiling: Ceiling, case: _Case, moment: Moment) -> int:
    if ceiling.window is None:
        return 0
    return case.usage.get((ceiling.counter_id, moment.starts[ceiling.window]), _NOTHING).amount_minor


def _again_at(case: _Case, order: Order, moment: Moment) -> datetime | None:
    """The first instant at which the same order would pass if nothing else is spent.

    Each reason names the first instant at which it may have gone; the latest of them is the earliest candidate, and is
    judged again there, since another condition may bind by then. A reason that no time lifts ends the search.
    Hours are searched for together: stepping from one condition's opening to another's would never end where none coincide.
    """
    openings = _common(tuple(hours for bounds in case.bounds for hours in bounds.conditions.hours))
    at = moment
    while True:
        reasons, _ = _judge(case, order, at)
        if not reasons:
            return at.now
        lifted = [reason.resets_at for reason in reasons if reason.rank is not Rank.TIME]
        if len(lifted) < len(reasons):
            lifted.append(_opens_at(openings, at.now, at.time_zone))
        if None in lifted or _never(reasons, order):
            return None
        following = max(instant for instant in lifted if instant is not None)
        if following > moment.now + _HORIZON:
            return None
        at = Moment(following, moment.time_zone)


def _never(reasons: list[Reason], order: Order) -> bool:
    """Whether some ceiling would not take the order even in an empty window."""
    return any(
        reason.at_most is not None and (1 if reason.code.endswith("COUNT") else order.amount_minor) > reason.at_most
        for reason in reasons
    )
