"""Circles that are ready to spend, written straight into the tables in bulk: for tests of charges and for the bench.

Everything that a registration would have left behind is there: people, agreement, mandate with its version, settlement rule,
counters, phone credential and audit lane.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from kinpay.charges.charge import Method
from kinpay.charges.order import Item, Order
from kinpay.charges.request import AuthorizeRequest
from kinpay.database.audit import GENESIS, Event, Head, Link, chain, write_links
from kinpay.database.idempotency import RequestKey
from kinpay.mandates.limit import filter_hash, period_of, refunds_of
from kinpay.mandates.terms import terms_hash
from kinpay.primitives.clock import local_date
from kinpay.primitives.ids import new_id

EIGHT_LIMITS: dict[str, Any] = {
    "currency": "CNY",
    "limits": [
        {"metric": "amount", "window": "per_payment", "at_most": 50_000_00, "filter": {}},
        {"metric": "amount", "window": "per_payment", "at_least": 1, "filter": {}},
        {"metric": "amount", "window": "day", "at_most": 10**12, "filter": {}},
        {"metric": "count", "window": "day", "at_most": 10**9, "filter": {}},
        {"metric": "amount", "window": "week", "at_most": 10**12, "filter": {}},
        {"metric": "count", "window": "week", "at_most": 10**9, "filter": {}},
        {"metric": "amount", "window": "month", "at_most": 10**12, "filter": {}},
        {"metric": "count", "window": "month", "at_most": 10**9, "filter": {}},
    ],
    "conditions": [],
}


@dataclass(frozen=True, slots=True)
class Shop:
    """An operator with one merchant, one site, one active terminal and one provider account."""

    operator_id: str
    merchant_id: str
    site_id: str
    terminal_id: str
    provider_account_id: str
    mcc: str = "5812"


@dataclass(frozen=True, slots=True)
class Family:
    """A circle of one payer and one spender, with a mandate funded by one agreement."""

    circle_id: str
    payer_id: str
    spender_id: str
    agreement_id: str
    mandate_id: str
    credential_id: str


async def open_shop(conn: Any, now: datetime) -> Shop:
    """Writes a shop."""
    shop = Shop(new_id(), new_id(), new_id(), new_id(), new_id())
    await conn.execute("INSERT INTO operator VALUES ($1, 'Operator', 'Asia/Shanghai', $2)", shop.operator_id, now)
    await conn.execute(
        "INSERT INTO merchant VALUES ($1, $2, 'Canteen', $3, $4)", shop.merchant_id, shop.operator_id, shop.mcc, now
    )
    await conn.execute("INSERT INTO site VALUES ($1, $2, 'School', $3)", shop.site_id, shop.merchant_id, now)
    await conn.execute(
        "INSERT INTO terminal (id, operator_id, merchant_id, site_id, name, kind, state, public_key, created_at, installed_at)"
        " VALUES ($1, $2, $3, $4, 'Till', 'till', 'active', $5, $6, $6)",
        shop.terminal_id, shop.operator_id, shop.merchant_id, shop.site_id, bytes.fromhex(shop.terminal_id), now,
    )  # fmt: skip
    await conn.execute(
        "INSERT INTO provider_account (id, operator_id, provider, account, config, secret, is_default, created_at)"
        " VALUES ($1, $2, 'sandbox_bank', 'main', '{}', '\\x', true, $3)",
        shop.provider_account_id, shop.operator_id, now,
    )  # fmt: skip
    return shop


async def found_families(
    conn: Any,
    shop: Shop,
    now: datetime,
    *,
    count: int = 1,
    terms: dict[str, Any] = EIGHT_LIMITS,
    time_zone: str = "Asia/Shanghai",
) -> list[Family]:
    """Writes `count` families, each table in one statement."""
    families = [Family(*(new_id() for _ in range(6))) for _ in range(count)]
    circles = [family.circle_id for family in families]
    payers, spenders = [f.payer_id for f in families], [f.spender_id for f in families]
    operator_id, digest = shop.operator_id, terms_hash(terms)
    for people in (payers, spenders):
        await conn.execute(
            "INSERT INTO person (id, operator_id, account, display_name, locale, birth_date, state, created_at)"
            " SELECT id, $2, 'p' || id, 'Person', 'zh', '1980-01-01', 'active', $3 FROM unnest($1::uuid[]) AS u (id)",
            people, operator_id, now,
        )  # fmt: skip
    await conn.execute(
        "INSERT INTO circle (id, operator_id, name, time_zone, state, created_at)"
        " SELECT id, $2, 'Family', $3, 'active', $4 FROM unnest($1::uuid[]) AS u (id)",
        circles, operator_id, time_zone, now,
    )  # fmt: skip
    await conn.execute("INSERT INTO circle_zone SELECT id, $2, $3 FROM unnest($1::uuid[]) AS u (id)", circles, time_zone, now)
    for role, people in (("payer", payers), ("spender", spenders)):
        await conn.execute(
            "INSERT INTO circle_member SELECT c, p, $3, $4 FROM unnest($1::uuid[], $2::uuid[]) AS u (c, p)",
            circles,
            people,
            role,
            now,
        )
    await conn.execute(
        "INSERT INTO agreement (id, circle_id, operator_id, provider_account_id, payer_id, payer_account, payer_account_id,"
        " business_type, currency, state, provider_ref, created_at, active_at)"
        " SELECT a, c, $4, $5, p, 'payer', 'acct', 'proxy', 'CNY', 'active', replace(a::text, '-', ''), $6, $6"
        " FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS u (a, c, p)",
        [f.agreement_id for f in families], circles, payers, operator_id, shop.provider_account_id, now,
    )  # fmt: skip
    await conn.execute(
        "INSERT INTO mandate (id, circle_id, payer_id, spender_id, state, version, created_at, active_at)"
        " SELECT m, c, p, s, 'active', 1, $5, $5 FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[]) AS u (m, c, p, s)",
        [f.mandate_id for f in families], circles, payers, spenders, now,
    )  # fmt: skip
    await conn.execute(
        "INSERT INTO mandate_version (mandate_id, circle_id, version, terms, terms_hash, agreed_by, from_charge_seq, since)"
        " SELECT m, c, 1, $4, $5, p, 0, $6 FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS u (m, c, p)",
        [f.mandate_id for f in families], circles, payers, terms, digest, now,
    )  # fmt: skip
    await conn.execute(
        "INSERT INTO settlement_rule (mandate_id, circle_id, version, agreement_ids, since)"
        " SELECT m, c, 1, ARRAY[a], $4 FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS u (m, c, a)",
        [f.mandate_id for f in families], circles, [f.agreement_id for f in families], now,
    )  # fmt: skip
    await conn.execute(
        "INSERT INTO credential (id, circle_id, person_id, kind, state, issued_at)"
        " SELECT k, c, s, 'phone', 'active', $4 FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS u (k, c, s)",
        [f.credential_id for f in families], circles, spenders, now,
    )  # fmt: skip
    await _write_counters(conn, families, terms, time_zone, now)
    await _write_history(conn, families, shop, terms, time_zone, now)
    return families


async def _write_history(
    conn: Any, families: list[Family], shop: Shop, terms: dict[str, Any], time_zone: str, now: datetime
) -> None:
    """The audit lanes, with what the audit log would say if people had done all this."""
    links: list[Link] = []
    heads: list[Head] = []
    for family in families:
        made, head = chain(family.circle_id, Head(0, GENESIS), _past(family, shop, terms, time_zone), at=now)
        links += made
        heads.append(head)
    await conn.execute(
        "INSERT INTO audit_lane (id, seq, hash) SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bytea[])",
        [f.circle_id for f in families], [head.seq for head in heads], [head.hash for head in heads],
    )  # fmt: skip
    for start in range(0, len(links), 50_000):
        await write_links(conn, links[start : start + 50_000])


def _past(family: Family, shop: Shop, terms: dict[str, Any], time_zone: str) -> list[Event]:
    payer, spender, agreement, mandate = family.payer_id, family.spender_id, family.agreement_id, family.mandate_id
    agreed = {"version": 1, "terms_hash": terms_hash(terms).hex(), "proof": None, "charge_seq": 0}
    proposed = {"version": 1, "payer": payer, "spender": spender, "agreements": [agreement]}
    signed = {"payer": payer, "provider_account": shop.provider_account_id, "business_type": "proxy"}
    return [
        Event("circle.opened", family.circle_id, {"time_zone": time_zone}, payer),
        Event("agreement.created", agreement, signed, payer),
        Event("agreement.open", agreement, {"from": "created", "to": "active", "by": None}),
        Event("mandate.consented", mandate, agreed, payer),
        Event("mandate.proposed", mandate, proposed, payer),
        Event("mandate.activate", mandate, {"from": "pending", "to": "active", "reason": None}),
        Event("phone.issued", family.credential_id, {"person": spender}),
    ]


async def _write_counters(conn: Any, families: list[Family], terms: dict[str, Any], time_zone: str, now: datetime) -> None:
    anchor = local_date(now, time_zone)
    needed = {
        (period, msgspec.json.encode(limit.get("filter", {}), order="sorted").decode(), refunds_of(limit))
        for limit in [*terms["limits"], *terms.get("cooling", {}).get("limits", ())]
        if (period := period_of(limit, anchor)) is not None
    }
    for period, written, refunds in sorted(needed):
        canonical = msgspec.json.decode(written)
        await conn.execute(
            "INSERT INTO counter (id, circle_id, scope, scope_id, period, filter, filter_hash, refunds, created_at)"
            " SELECT k, c, 'mandate', m, $4, $5, $6, $7, $8 FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS u (k, c, m)",
            [new_id() for _ in families], [f.circle_id for f in families], [f.mandate_id for f in families],
            period, canonical, filter_hash(canonical), refunds, now,
        )  # fmt: skip


def asking(
    shop: Shop,
    family: Family,
    *,
    amount_minor: int = 100,
    items: tuple[Item, ...] = (),
    key: str | None = None,
    capture: bool = False,
    **changed: Any,
) -> AuthorizeRequest:
    """A request as the hot route would make it, without code and signature."""
    key = key or new_id()
    order = Order(
        amount_minor,
        "CNY",
        shop.merchant_id,
        shop.mcc,
        family.spender_id,
        family.credential_id,
        Method.PAY_CODE.value,
        shop.terminal_id,
        items,
    )
    known = {
        "charge_id": new_id(),
        "key": RequestKey(
            principal_id=shop.terminal_id, operation="charge", key=key, fingerprint=f"{family.circle_id}{amount_minor}".encode()
        ),
        "circle_id": family.circle_id,
        "operator_id": shop.operator_id,
        "terminal_id": shop.terminal_id,
        "hold_s": 60,
        "order": order,
        "method": Method.PAY_CODE,
        "capture": capture,
    }
    return AuthorizeRequest(**{**known, **changed})
