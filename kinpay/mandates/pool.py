"""A payer's pool: one ceiling over several spenders. Making or lowering one acts at once, raising or ending one needs a proof.

Source: story S4.1-S4.2; semantics.md "Limits" (a pool always binds).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from kinpay.database import audit
from kinpay.database.pool import database_now
from kinpay.database.sql import Connection, Record, Sql
from kinpay.mandates.change_terms import spend_proof
from kinpay.mandates.counters import counters_of, ensure_counters, recount
from kinpay.mandates.narrower import is_narrower
from kinpay.mandates.tell import tell
from kinpay.mandates.terms import Terms, require_no_cooling
from kinpay.people.lock import LockedCircle, lock_circle, rules_changed
from kinpay.people.store import lock_as_member, people_of
from kinpay.primitives.errors import Conflict, Forbidden, Invalid, NotFound, WrongState
from kinpay.primitives.ids import new_id

CHANGE: Final = "pool.change"
"""The operation that a proof for raising names; its content is `{"terms": canonical, "spender_ids": sorted list or null}`."""
END: Final = "pool.end"
"""The operation that a proof for ending names; its content is the empty object."""
MOST_POOLS: Final = 20
"""How many open pools a payer may have in a circle: each is looked at by every charge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A pool with its terms now in force. `spender_ids` None: everybody this payer pays for in the circle."""

    id: str
    circle_id: str
    payer_id: str
    name: str
    spender_ids: tuple[str, ...] | None
    state: str
    version: int
    terms: Terms
    created_at: datetime


POOL = Sql("""
    SELECT p.id, p.circle_id, p.payer_id, p.name, p.spender_ids, p.state, p.version, p.created_at, v.terms
    FROM pool p JOIN pool_version v ON v.pool_id = p.id AND v.version = p.version WHERE p.id = :pool_id
""")
POOLS = Sql("""
    SELECT p.id, p.circle_id, p.payer_id, p.name, p.spender_ids, p.state, p.version, p.created_at, v.terms
    FROM pool p JOIN pool_version v ON v.pool_id = p.id AND v.version = p.version
    WHERE p.circle_id = :circle_id AND p.payer_id = :payer_id AND p.state = 'active' ORDER BY p.id
""")


def _read(row: Record) -> Pool:
    spenders = row["spender_ids"]
    chosen = None if spenders is None else tuple(spenders)
    return Pool(**{**row, "spender_ids": chosen, "terms": Terms.kept(row["terms"])})


async def pools_of(conn: Connection, circle_id: str, *, payer_id: str) -> list[Pool]:
    """A payer's open pools in a circle."""
    return [_read(row) for row in await POOLS.rows(conn, circle_id=circle_id, payer_id=payer_id)]


async def own_pool(conn: Connection, pool_id: str, *, payer_id: str) -> Pool:
    """The payer's own pool, ended or not. Raises: NotFound for anybody else."""
    row = await POOL.row(conn, pool_id=pool_id)
    if row is None or row["payer_id"] != payer_id:
        raise NotFound()
    return _read(row)


INSERT_POOL = Sql("""
    INSERT INTO pool (id, circle_id, payer_id, name, spender_ids, state, version, created_at)
    VALUES (:id, :circle_id, :payer_id, :name, :spender_ids, 'active', 1, :now)
""")
INSERT_VERSION = Sql("""
    INSERT INTO pool_version (pool_id, circle_id, version, terms, terms_hash, agreed_by, proof_id, from_charge_seq, since)
    VALUES (:pool_id, :circle_id, :version, :terms, :terms_hash, :agreed_by, :proof_id, :from_charge_seq, :now)
""")


async def make_pool(
    conn: Connection, *, circle_id: str, payer_id: str, name: str, terms: Terms, spender_ids: Sequence[str] | None
) -> str:
    """Makes a pool over `spender_ids` (None: everybody), counting from history; it can only refuse more. Returns its id.

    Raises: NotFound for a stranger; Forbidden for a member who does not pay; Invalid for terms that are not a pool's or for
    spenders who are not in the circle; WrongState for too many pools.
    """
    _require_pool_terms(terms)
    circle, roles = await lock_as_member(conn, circle_id, payer_id)
    if "payer" not in roles:
        raise Forbidden()
    if len(await pools_of(conn, circle_id, payer_id=payer_id)) >= MOST_POOLS:
        raise WrongState("circle", state="too_many_pools", event="make_pool")
    chosen = await _spenders(conn, circle_id, spender_ids)
    now = await database_now(conn)
    pool_id = new_id()
    await INSERT_POOL.run(conn, id=pool_id, circle_id=circle_id, payer_id=payer_id, name=name, spender_ids=chosen, now=now)
    await _write(conn, circle, pool_id, version=1, terms=terms, payer_id=payer_id, proof_id=None, event="made", now=now)
    return pool_id


MOVE_POOL = Sql("""
    UPDATE pool SET version = version + 1, name = :name, spender_ids = :spender_ids
    WHERE id = :pool_id AND version = :version AND state = 'active' RETURNING version
""")


async def change_pool(
    conn: Connection,
    *,
    pool_id: str,
    payer_id: str,
    name: str,
    terms: Terms,
    spender_ids: Sequence[str] | None,
    proof_id: str | None,
    if_version: int | None,
) -> int:
    """Puts other terms or other spenders in force. `proof_id`: verified, burnt here; needed unless nothing more is allowed.

    Returns the number of the new version.

    Raises: NotFound for anybody but its payer; WrongState if it ended; Conflict; Invalid; ProofRequired; ProofInvalid.
    """
    _require_pool_terms(terms)
    circle, pool = await _lock_own(conn, pool_id, payer_id=payer_id)
    now = await database_now(conn)
    if if_version is not None and if_version != pool.version:
        raise Conflict(thing="pool", version=pool.version)
    if terms.currency != pool.terms.currency:
        raise Invalid("currency_differs", field="terms.currency")
    chosen = await _spenders(conn, circle.id, spender_ids)
    nobody_left_out = chosen is None or (pool.spender_ids is not None and set(chosen) >= set(pool.spender_ids))
    lowered = is_narrower(pool.terms, terms) and nobody_left_out
    await spend_proof(conn, proof_id, needed=not lowered, operation=CHANGE, now=now)
    version = await MOVE_POOL.value(conn, pool_id=pool_id, version=pool.version, name=name, spender_ids=chosen)
    if version is None:
        raise Conflict(thing="pool")
    before = None if pool.spender_ids is None else list(pool.spender_ids)
    if chosen != before:
        await recount(conn, circle=circle, counter_ids=await counters_of(conn, pool_id), now=now)
    await _write(
        conn, circle, pool_id, version=version, terms=terms, payer_id=payer_id, proof_id=proof_id, event="changed", now=now
    )
    return int(version)


END_POOL = Sql("UPDATE pool SET state = 'ended' WHERE id = :pool_id AND state = 'active' RETURNING 1")


async def end_pool(conn: Connection, *, pool_id: str, payer_id: str, proof_id: str | None) -> None:
    """Ends a pool, which allows more: `proof_id` is needed, verified, and burnt here. Its counters are kept.

    Raises: NotFound for anybody but its payer; WrongState if it ended before; ProofRequired; ProofInvalid.
    """
    circle, pool = await _lock_own(conn, pool_id, payer_id=payer_id)
    now = await database_now(conn)
    await spend_proof(conn, proof_id, needed=True, operation=END, now=now)
    if await END_POOL.value(conn, pool_id=pool_id) is None:
        raise Conflict(thing="pool")
    await rules_changed(conn, circle.id)
    await _told(conn, circle, pool_id, name=pool.name, payer_id=payer_id, event="ended", now=now)
    await audit.record(conn, circle.id, audit.Event("pool.ended", pool_id, {"proof": proof_id}, payer_id), now=now)


async def _lock_own(conn: Connection, pool_id: str, *, payer_id: str) -> tuple[LockedCircle, Pool]:
    circle = await lock_circle(conn, (await own_pool(conn, pool_id, payer_id=payer_id)).circle_id)
    pool = await own_pool(conn, pool_id, payer_id=payer_id)
    if pool.state != "active":
        raise WrongState("pool", state=pool.state)
    return circle, pool


def _require_pool_terms(terms: Terms) -> None:
    """A pool has ceilings over some time and nothing else. Raises: Invalid."""
    require_no_cooling(terms)
    alone = terms.conditions or terms.valid_from or terms.valid_to
    if alone or not terms.limits or any(limit.window == "per_payment" for limit in terms.limits):
        raise Invalid("pool_counts_over_time_only", field="terms")


async def _spenders(conn: Connection, circle_id: str, spender_ids: Sequence[str] | None) -> list[str] | None:
    if spender_ids is None:
        return None
    if not set(spender_ids) <= set(await people_of(conn, circle_id, "spender")):
        raise Invalid("not_a_spender_of_the_circle", field="spender_ids")
    return sorted(set(spender_ids))


async def _write(
    conn: Connection,
    circle: LockedCircle,
    pool_id: str,
    *,
    version: int,
    terms: Terms,
    payer_id: str,
    proof_id: str | None,
    event: str,
    now: datetime,
) -> None:
    """Writes the version, its counters, the event and the notice."""
    await INSERT_VERSION.run(
        conn,
        pool_id=pool_id,
        circle_id=circle.id,
        version=version,
        terms=terms.canonical(),
        terms_hash=terms.hash(),
        agreed_by=payer_id,
        proof_id=proof_id,
        from_charge_seq=circle.charge_seq,
        now=now,
    )
    pool = await own_pool(conn, pool_id, payer_id=payer_id)
    await ensure_counters(
        conn, circle=circle, scope="pool", scope_id=pool_id, terms=terms, consented_at=pool.created_at, now=now
    )
    await rules_changed(conn, circle.id)
    await _told(conn, circle, pool_id, name=pool.name, payer_id=payer_id, event=event, now=now)
    body = {
        "version": version,
        "terms_hash": terms.hash().hex(),
        "spenders": None if pool.spender_ids is None else sorted(pool.spender_ids),
        "proof": proof_id,
        "charge_seq": circle.charge_seq,
    }
    await audit.record(conn, circle.id, audit.Event(f"pool.{event}", pool_id, body, payer_id), now=now)


async def _told(
    conn: Connection, circle: LockedCircle, pool_id: str, *, name: str, payer_id: str, event: str, now: datetime
) -> None:
    body = {"circle_id": circle.id, "circle_name": circle.name, "pool_id": pool_id, "pool_name": name}
    people = [payer_id]
    await tell(conn, f"pool_{event}", circle_id=circle.id, subject_id=pool_id, people=people, body=body, now=now)
