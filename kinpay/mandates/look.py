"""What a mandate looks like to those it concerns: its limits, what is used of each window and what remains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from kinpay.database.pool import database_now
from kinpay.database.sql import Connection, Sql
from kinpay.mandates.mandate import Funding, Mandate, MandateVersion
from kinpay.mandates.store import funding_of, mandate_row, versions
from kinpay.mandates.terms import Limit, Terms, filter_hash
from kinpay.people.store import member_roles
from kinpay.primitives.clock import Span, Window, window_around
from kinpay.primitives.errors import NotFound

_LOOKING_ROLES = frozenset({"approver", "viewer"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitLook:
    """A limit and its window around now. `used` and `remaining` are minor units or payments; None for a limit per payment."""

    limit: Limit
    window: Span | None
    used: int | None
    remaining: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MandateLook:
    """A mandate as its payer, its spender and the circle's approvers and viewers see it."""

    mandate: Mandate
    terms: Terms
    limits: tuple[LimitLook, ...]
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
    terms = Terms.model_validate(written[0].terms)
    time_zone = await ZONE.value(conn, circle_id=mandate.circle_id)
    limits = await look_at_limits(conn, mandate_id, terms=terms, time_zone=time_zone, now=await database_now(conn))
    return MandateLook(
        mandate=mandate,
        terms=terms,
        limits=tuple(limits),
        funding=await funding_of(conn, mandate_id),
        versions=tuple(written),
    )


USAGE = Sql("""
    SELECT k.period, k.filter_hash, u.amount_minor + u.carried_minor AS amount, u.count + u.carried_count AS count
    FROM counter k
    JOIN unnest(:periods::text[], :starts::timestamptz[]) AS w (period, start) ON w.period = k.period
    JOIN usage u ON u.counter_id = k.id AND u.window_start = w.start
    WHERE k.scope_id = :scope_id
""")


async def look_at_limits(
    conn: Connection, scope_id: str, *, terms: Terms, time_zone: str, now: datetime
) -> Sequence[LimitLook]:
    """Every limit of a mandate, pool or card with what is used and what remains; never below nothing (story S4.3)."""
    spans = {window: window_around(now, window, time_zone) for window in Window}
    rows = await USAGE.rows(
        conn,
        scope_id=scope_id,
        periods=[str(window) for window in spans],
        starts=[span.start for span in spans.values()],
    )
    used = {(row["period"], row["filter_hash"]): row for row in rows}
    looks: list[LimitLook] = []
    for limit in terms.limits:
        if limit.window == "per_payment":
            looks.append(LimitLook(limit=limit, window=None, used=None, remaining=None))
            continue
        row = used.get((limit.window, filter_hash(limit.filter.canonical())))
        spent = 0 if row is None else row["amount"] if limit.metric == "amount" else row["count"]
        remaining = None if limit.at_most is None else max(0, limit.at_most - spent)
        looks.append(LimitLook(limit=limit, window=spans[Window(limit.window)], used=spent, remaining=remaining))
    return looks
