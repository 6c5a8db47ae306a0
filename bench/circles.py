"""Who is charged: circles ready to spend, each with a mandate of eight limits, and tills with real keys."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from kinpay.database.audit import Event, Head, Link, chain, write_links
from kinpay.mandates.limit import filter_hash
from kinpay.mandates.terms import terms_hash
from kinpay.primitives.ids import new_id
from kinpay_client.signing import TerminalKey, point_of
from tests.charges.seeds import EIGHT_LIMITS, Family, Shop, found_families, open_shop

HOLD_S: Final = 604_800
"""Reservations outlive the run, so that nothing but authorising is measured."""

_IN_POOL: Final = {("amount", "day"), ("amount", "month")}
SIX_LIMITS: Final[dict[str, Any]] = {
    **EIGHT_LIMITS,
    "limits": [limit for limit in EIGHT_LIMITS["limits"] if (limit["metric"], limit["window"]) not in _IN_POOL],
}
TWO_LIMITS: Final[dict[str, Any]] = {
    **EIGHT_LIMITS,
    "limits": [limit for limit in EIGHT_LIMITS["limits"] if (limit["metric"], limit["window"]) in _IN_POOL],
}


@dataclass(frozen=True, slots=True)
class Till:
    """A terminal and the PEM of the key that it signs with."""

    terminal_id: str
    private_key: str


@dataclass(frozen=True, slots=True)
class World:
    """Everybody in one database. `pooled` have six limits in the mandate and two in a pool of the payer."""

    shop: Shop
    families: Sequence[Family]
    pooled: Sequence[Family]
    tills: Sequence[Till]


async def found_world(conn: Any, *, families: int, pooled: int, tills: int) -> World:
    """Writes an operator, its tills and all circles."""
    now: datetime = await conn.fetchval("SELECT kinpay_now()")
    shop = await open_shop(conn, now)
    world = World(
        shop,
        await found_families(conn, shop, now, count=families),
        await found_families(conn, shop, now, count=pooled, terms=SIX_LIMITS),
        await _install(conn, shop, tills, now),
    )
    await conn.execute("UPDATE terminal SET hold_s = $1", HOLD_S)
    await _pool(conn, world.pooled, now)
    await conn.execute("VACUUM (ANALYZE)")
    return world


async def _install(conn: Any, shop: Shop, count: int, now: datetime) -> list[Till]:
    keys = [TerminalKey.new() for _ in range(count)]
    tills = [Till(new_id(), key.to_pem()) for key in keys]
    await conn.execute(
        "INSERT INTO terminal (id, operator_id, merchant_id, site_id, name, kind, state, public_key, created_at, installed_at)"
        " SELECT id, $3, $4, $5, 'Till', 'till', 'active', point, $6, $6 FROM unnest($1::uuid[], $2::bytea[]) AS t (id, point)",
        [till.terminal_id for till in tills], [point_of(key.private) for key in keys],
        shop.operator_id, shop.merchant_id, shop.site_id, now,
    )  # fmt: skip
    return tills


async def _pool(conn: Any, families: Sequence[Family], now: datetime) -> None:
    """Gives each family's payer a pool over everybody they pay for, with its counters and its link in the audit chain."""
    pools, digest = [new_id() for _ in families], terms_hash(TWO_LIMITS)
    circles, payers = [f.circle_id for f in families], [f.payer_id for f in families]
    await conn.execute(
        "INSERT INTO pool (id, circle_id, payer_id, name, state, version, created_at)"
        " SELECT id, c, p, 'Everybody', 'active', 1, $4 FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS u (id, c, p)",
        pools, circles, payers, now,
    )  # fmt: skip
    await conn.execute(
        "INSERT INTO pool_version (pool_id, circle_id, version, terms, terms_hash, agreed_by, from_charge_seq, since)"
        " SELECT id, c, 1, $4, $5, p, 0, $6 FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS u (id, c, p)",
        pools, circles, payers, TWO_LIMITS, digest, now,
    )  # fmt: skip
    for period in ("day", "month"):
        await conn.execute(
            "INSERT INTO counter (id, circle_id, scope, scope_id, period, filter, filter_hash, created_at)"
            " SELECT k, c, 'pool', p, $4, $5, $6, $7 FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS u (k, c, p)",
            [new_id() for _ in families], circles, pools, period, {}, filter_hash({}), now,
        )  # fmt: skip
    heads = {row["id"]: Head(row["seq"], row["hash"]) for row in await conn.fetch("SELECT id, seq, hash FROM audit_lane")}
    links: list[Link] = []
    for pool, circle, payer in zip(pools, circles, payers, strict=True):
        body = {"version": 1, "terms_hash": digest.hex(), "proof": None, "charge_seq": 0, "spenders": None}
        links += chain(circle, heads[circle], (Event("pool.created", pool, body, payer),), at=now)[0]
    await write_links(conn, links)


def shuffled(families: Sequence[Family], seed: int) -> list[Family]:
    """The families in an order that is the same in every run."""
    order = list(families)
    random.Random(seed).shuffle(order)  # noqa: S311 (an order to measure in, guards nothing)
    return order
