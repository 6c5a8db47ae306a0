"""Reads circles into `CircleStanding`, and keeps them: a circle's row carries a version that moves with every change of its
rules, and is locked before it is compared, so a kept copy of the same version is never stale.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kinpay.charges.compile import CounterMap, bounds_of, chosen, filter_name
from kinpay.charges.standing import (
    AgreementStanding,
    Bounds,
    Chosen,
    CircleStanding,
    CredentialStanding,
    MandateStanding,
    Scope,
    SpenderStanding,
)
from kinpay.database.sql import Connection, Record, Sql
from kinpay.mandates.cooling import Besides, binding_besides


@dataclass(frozen=True, slots=True)
class CircleRow:
    """What the lock told about a circle."""

    id: str
    operator_id: str
    version: int
    time_zone: str
    state: str


class RulesCache:
    """The standings of the circles that this process saw last, at most `size` of them."""

    def __init__(self, size: int = 50_000) -> None:
        self._size = size
        self._kept: OrderedDict[str, CircleStanding] = OrderedDict()

    async def standings(self, conn: Connection, circles: Sequence[CircleRow]) -> dict[str, CircleStanding]:
        """Standings of circles whose rows the caller has locked, read anew where the version moved."""
        found: dict[str, CircleStanding] = {}
        missing: list[CircleRow] = []
        for row in circles:
            kept = self._kept.get(row.id)
            if kept is not None and kept.version == row.version:
                self._kept.move_to_end(row.id)
                found[row.id] = kept
            else:
                missing.append(row)
        if missing:
            for standing in await read_standings(conn, missing):
                found[standing.id] = self._kept[standing.id] = standing
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
        return found

    def last_seen(self, circle_id: str) -> CircleStanding | None:
        """The standing that was seen last, whatever has changed since: to be believed only once its version is compared."""
        return self._kept.get(circle_id)


READ_MANDATES = Sql("""
    SELECT m.circle_id, m.id, m.version, m.payer_id, m.spender_id, m.state, v.terms, r.agreement_ids,
           p.state = 'active' AS spender_active, consent_day(m.circle_id, m.created_at) AS anchor
    FROM mandate m
    JOIN mandate_version v ON v.mandate_id = m.id AND v.version = m.version
    JOIN person p ON p.id = m.spender_id
    LEFT JOIN LATERAL (SELECT agreement_ids FROM settlement_rule s WHERE s.mandate_id = m.id
                       ORDER BY version DESC LIMIT 1) r ON true
    WHERE m.circle_id = ANY(:circles) AND m.state <> 'ended'
    ORDER BY m.position, m.created_at, m.id
""")
READ_AGREEMENTS = Sql("""
    SELECT circle_id, id, provider_account_id, state, currency, per_debit_minor FROM agreement WHERE circle_id = ANY(:circles)
""")
READ_REMOVED = Sql("""
    SELECT s.agreement_id, s.spender_id FROM agreement_spender s JOIN agreement a ON a.id = s.agreement_id
    WHERE a.circle_id = ANY(:circles) AND s.state = 'removed'
""")
# An ended pool limits nothing, yet its counters are kept up: what is reserved must be there when it is given back.
READ_POOLS = Sql("""
    SELECT p.circle_id, p.id, p.payer_id, p.spender_ids, p.state, v.terms,
           consent_day(p.circle_id, p.created_at) AS anchor
    FROM pool p JOIN pool_version v ON v.pool_id = p.id AND v.version = p.version
    WHERE p.circle_id = ANY(:circles)
    ORDER BY p.created_at, p.id
""")
READ_COUNTERS = Sql("SELECT id, circle_id, scope_id, period, filter, refunds FROM counter WHERE circle_id = ANY(:circles)")
READ_CREDENTIALS = Sql("""
    SELECT c.circle_id, c.id, c.person_id, c.kind, c.state, c.terms, p.state = 'active' AS person_active,
           consent_day(c.circle_id, c.issued_at) AS anchor
    FROM credential c JOIN person p ON p.id = c.person_id
    WHERE c.circle_id = ANY(:circles)
""")
READ_ARREARS = Sql("SELECT DISTINCT mandate_id FROM charge WHERE circle_id = ANY(:circles) AND owed_since IS NOT NULL")
READ_PENDING = Sql("SELECT circle_id, spender_id FROM registration WHERE circle_id = ANY(:circles) AND state = 'open'")


async def read_standings(conn: Connection, circles: Sequence[CircleRow]) -> list[CircleStanding]:
    """Compiles the standings of circles whose rows are locked; a handful of set-based reads for all of them."""
    ids = [row.id for row in circles]
    rows = _Rows(
        mandates=_by_circle(await READ_MANDATES.rows(conn, circles=ids)),
        cooling=await binding_besides(conn, ids),
        agreements={row["id"]: row for row in await READ_AGREEMENTS.rows(conn, circles=ids)},
        removed={(row[0], row[1]) for row in await READ_REMOVED.rows(conn, circles=ids)},
        pools=_by_circle(await READ_POOLS.rows(conn, circles=ids)),
        counters=_counters(await READ_COUNTERS.rows(conn, circles=ids)),
        credentials=_by_circle(await READ_CREDENTIALS.rows(conn, circles=ids)),
        in_arrears={row[0] for row in await READ_ARREARS.rows(conn, circles=ids)},
        pending={(row[0], row[1]) for row in await READ_PENDING.rows(conn, circles=ids)},
    )
    return [_standing(circle, rows) for circle in circles]


@dataclass(frozen=True, slots=True)
class _Rows:
    mandates: Mapping[str, list[Record]]
    cooling: Mapping[str, list[Besides]]
    agreements: dict[str, Record]
    removed: set[tuple[str, str]]
    pools: Mapping[str, list[Record]]
    counters: Mapping[str, CounterMap]
    credentials: Mapping[str, list[Record]]
    in_arrears: set[str]
    pending: set[tuple[str, str]]


def _by_circle(rows: Iterable[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = defaultdict(list)
    for row in rows:
        found[row["circle_id"]].append(row)
    return found


def _counters(rows: Iterable[Record]) -> dict[str, dict[tuple[str, str, str], tuple[str, Chosen | None]]]:
    found: dict[str, dict[tuple[str, str, str], tuple[str, Chosen | None]]] = defaultdict(dict)
    for row in rows:
        key = (row["period"], filter_name(row["filter"]), row["refunds"])
        found[row["scope_id"]][key] = (row["id"], chosen(row["filter"]))
    return found


def _standing(circle: CircleRow, rows: _Rows) -> CircleStanding:
    carried, mandates = rows.credentials.get(circle.id, []), rows.mandates.get(circle.id, [])
    credentials = {row["id"]: _credential(row, circle, rows) for row in carried}
    active = {row["person_id"]: row["person_active"] for row in carried}
    active |= {row["spender_id"]: row["spender_active"] for row in mandates}
    by_spender: dict[str, list[MandateStanding]] = {spender_id: [] for spender_id in active}
    for row in mandates:
        by_spender[row["spender_id"]].append(_mandate(row, circle, rows))
    spenders = {
        spender_id: SpenderStanding(spender_id, active[spender_id], (circle.id, spender_id) in rows.pending, tuple(standing))
        for spender_id, standing in by_spender.items()
    }
    return CircleStanding(
        circle.id, circle.operator_id, circle.version, circle.time_zone, circle.state == "active", spenders, credentials
    )


def _mandate(row: Record, circle: CircleRow, rows: _Rows) -> MandateStanding:
    known = rows.agreements
    terms: dict[str, Any] = row["terms"]
    return MandateStanding(
        id=row["id"],
        version=row["version"],
        payer_id=row["payer_id"],
        state=row["state"],
        in_arrears=row["id"] in rows.in_arrears,
        currency=terms["currency"],
        bounds=_bounds(terms, row, Scope.MANDATE, circle, rows),
        cooling=tuple(
            _bounds(one.terms, row, Scope.MANDATE, circle, rows, until=one.until) for one in rows.cooling.get(row["id"], ())
        ),
        pools=tuple(_pool(pool, circle, rows) for pool in rows.pools.get(row["circle_id"], ()) if _covers(pool, row)),
        agreements=tuple(
            _agreement(known[ident], removed=(ident, row["spender_id"]) in rows.removed)
            for ident in row["agreement_ids"] or ()
            if ident in known
        ),
    )


def _bounds(
    terms: Mapping[str, Any], row: Record, scope: Scope, circle: CircleRow, rows: _Rows, *, until: datetime | None = None
) -> Bounds:
    return bounds_of(
        terms,
        scope=scope,
        counters=rows.counters.get(row["id"], {}),
        anchor=row["anchor"],
        time_zone=circle.time_zone,
        until=until,
    )


def _covers(pool: Record, mandate: Record) -> bool:
    """A pool is over its payer's mandates in its own currency: sums of several would mean nothing."""
    same = pool["payer_id"] == mandate["payer_id"] and pool["terms"]["currency"] == mandate["terms"]["currency"]
    return same and (pool["spender_ids"] is None or mandate["spender_id"] in pool["spender_ids"])


def _pool(row: Record, circle: CircleRow, rows: _Rows) -> Bounds:
    return _bounds(row["terms"] if row["state"] == "active" else {}, row, Scope.POOL, circle, rows)


def _agreement(row: Record, *, removed: bool) -> AgreementStanding:
    usable = row["state"] == "active" and not removed
    return AgreementStanding(row["id"], row["provider_account_id"], usable, row["currency"], row["per_debit_minor"])


def _credential(row: Record, circle: CircleRow, rows: _Rows) -> CredentialStanding:
    terms = row["terms"]
    bounds = _bounds(terms or {}, row, Scope.CREDENTIAL, circle, rows)
    return CredentialStanding(row["id"], row["kind"], row["state"] == "active", bounds, terms["currency"] if terms else None)
