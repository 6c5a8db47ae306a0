"""What a mandate looks like to those it concerns: its limits, what is used of each window and what remains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from kinpay.database.pool import database_now
from kinpay.database.sql import Connection, Sql
from kinpay.mandates.cooling import binding_besides
from kinpay.mandates.counters import CounterName, consent_day, counter_name
from kinpay.mandates.limit import Limit, allowed_around, begins
from kinpay.mandates.mandate import Funding, Mandate, MandateVersion
from kinpay.mandates.store import funding_of, mandate_row, versions
from kinpay.mandates.terms import Terms
from kinpay.people.store import member_roles
from kinpay.primitives.clock import Span, local_date
from kinpay.primitives.errors import NotFound
from kinpay.primitives.period import period_named, window_around

_LOOKING_ROLES = frozenset({"approver", "viewer"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitLook:
    """A limit and its window around now. `used` and `remaining` are minor units or payments; None for a limit per payment."""

    limit: Limit
    window: Span | None
    used: int | None
    remaining: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CoolingLook:
    """What binds besides until an instant: limits of caution after the grant, or the terms before a raise."""

    until: datetime
    terms: Terms
    limits: tuple[LimitLook, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MandateLook:
    """A mandate as its payer, its spender and the circle's approvers and viewers see it."""

    mandate: Mandate
    terms: Terms
    limits: tuple[LimitLook, ...]
    cooling: tuple[CoolingLook, ...]
    funding: Funding | None
    versions: tuple[MandateVersion, ...]


ZONE = Sql("SELECT time_zone FROM circle WHERE id = :circle_id")


async def look_at_mandate(conn: Connection, mandate_id: str, *, person_id: str) -> MandateLook:
    """The mandate with what remains now. Raises: NotFound for whoever it does not concern."""
    mandate = await mandate_row(conn, mandate_id)
    if mandate is None:
        raise NotFound()
    if person_id not in (mandate.payer_id, mandate.spender_id):
        roles = await member_roles(conn, mandate.circle_id, person_id)
        if not roles & _LOOKING_ROLES:
            raise NotFound()
    written = await versions(conn, mandate_id)
    terms = Terms.kept(written[0].terms)
    now = await database_now(conn)

    async def remaining(of: Terms) -> tuple[LimitLook, ...]:
        looks = await look_at_limits(
            conn, mandate_id, terms=of, circle_id=mandate.circle_id, consented_at=mandate.created_at, now=now
        )
        return tuple(looks)

    return MandateLook(
        mandate=mandate,
        terms=terms,
        limits=await remaining(terms),
        cooling=tuple(
            [CoolingLook(until=until, terms=of, limits=await remaining(of)) for until, of in await _cooling(conn, mandate)]
        ),
        funding=await funding_of(conn, mandate_id),
        versions=tuple(written),
    )


async def _cooling(conn: Connection, mandate: Mandate) -> list[tuple[datetime, Terms]]:
    """Until when what binds besides."""
    found = (await binding_besides(conn, [mandate.circle_id])).get(mandate.id, [])
    return [(one.until, Terms.kept(one.terms)) for one in found]


USAGE = Sql("""
    SELECT k.period, k.filter_hash, k.refunds, coalesce(sum(u.amount_minor + u.carried_minor), 0)::bigint AS amount,
           coalesce(sum(u.count + u.carried_count), 0)::bigint AS count
    FROM counter k
    JOIN unnest(:periods::text[], :starts::timestamptz[], :ends::timestamptz[]) AS w (period, start, until)
         ON w.period = k.period
    JOIN usage u ON u.counter_id = k.id AND CASE WHEN w.until IS NULL THEN u.window_start = w.start ELSE
        u.window_start > w.start AND u.window_start <= w.until END
    WHERE k.scope_id = :scope_id GROUP BY k.period, k.filter_hash, k.refunds
""")


async def look_at_limits(
    conn: Connection, scope_id: str, *, terms: Terms, circle_id: str, consented_at: datetime, now: datetime
) -> Sequence[LimitLook]:
    """Every limit of a mandate, pool or card with what is used and what remains; never below nothing (story S4.3)."""
    anchor = await consent_day(conn, circle_id, at=consented_at)
    time_zone = await ZONE.value(conn, circle_id=circle_id)
    named = [counter_name(limit, anchor) for limit in terms.limits]
    spans = {name.period: _window(name.period, time_zone, now=now) for name in named if name is not None}
    rows = await USAGE.rows(
        conn,
        scope_id=scope_id,
        periods=list(spans),
        starts=[span.start for span in spans.values()],
        ends=[span.end if period_named(period).trailing else None for period, span in spans.items()],
    )
    used = {CounterName(row["period"], row["filter_hash"], row["refunds"]): row for row in rows}
    looks: list[LimitLook] = []
    for limit, name in zip(terms.limits, named, strict=True):
        if name is None:
            looks.append(LimitLook(limit=limit, window=None, used=None, remaining=None))
            continue
        row = used.get(name)
        spent = 0 if row is None else row["amount"] if limit.metric == "amount" else row["count"]
        most = allowed_around(limit, local_date(now, time_zone), begins(anchor, terms.valid_from))
        looks.append(LimitLook(limit=limit, window=spans[name.period], used=spent, remaining=max(0, most - spent)))
    return looks


def _window(period: str, time_zone: str, *, now: datetime) -> Span:
    """The window around now; of a trailing period the stretch that ends now."""
    trailing = period_named(period).trailing
    return window_around(now, period, time_zone) if trailing is None else Span(now - trailing, now)
