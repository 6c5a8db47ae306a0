"""How a batch of charges is locked, loaded and written: set-based, three statements however many orders there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from kinpay.charges.charge import ChargeState
from kinpay.charges.request import AuthorizeRequest, Charge
from kinpay.charges.rules import CircleRow
from kinpay.charges.standing import CounterKey, Used
from kinpay.database.audit import Head, Link
from kinpay.database.sql import Connection, Record, Sql
from kinpay.primitives.clock import Span

LOCK_FREE_CIRCLES = Sql("""
    SELECT c.id, c.operator_id, c.version, c.time_zone, c.state, c.charge_seq, l.seq AS lane_seq, l.hash AS lane_hash,
           kinpay_now() AS now
    FROM circle c JOIN audit_lane l ON l.id = c.id
    WHERE c.id = ANY(:circles) ORDER BY c.id FOR UPDATE OF c, l SKIP LOCKED
""")
LOCK_CIRCLES = Sql("""
    SELECT c.id, c.operator_id, c.version, c.time_zone, c.state, c.charge_seq, l.seq AS lane_seq, l.hash AS lane_hash,
           kinpay_now() AS now
    FROM circle c JOIN audit_lane l ON l.id = c.id
    WHERE c.id = ANY(:circles) ORDER BY c.id FOR UPDATE OF c, l
""")


@dataclass(slots=True)
class Locked:
    """The circles that a batch holds, the ends of their audit lanes, and the one `now`, read after the locks."""

    now: datetime
    circles: dict[str, CircleRow]
    heads: dict[str, Head]
    seqs: dict[str, int]


async def lock_circles(conn: Connection, circle_ids: Iterable[str], *, wait: bool) -> Locked | None:
    """Locks those circles that are free, or, with `wait`, all of them in sorted order. None if it got none."""
    statement = LOCK_CIRCLES if wait else LOCK_FREE_CIRCLES
    rows = await statement.rows(conn, circles=sorted(set(circle_ids)))
    if not rows:
        return None
    return Locked(
        now=max(row["now"] for row in rows),
        circles={
            row["id"]: CircleRow(row["id"], row["operator_id"], row["version"], row["time_zone"], row["state"]) for row in rows
        },
        heads={row["id"]: Head(row["lane_seq"], row["lane_hash"]) for row in rows},
        seqs={row["id"]: row["charge_seq"] for row in rows},
    )


# Every request's nonce is recorded first; a key is claimed only under a fresh nonce; a code is burnt only for a key that is
# new, so that an honest repetition never hears "code used". Rows come back as (kind, position, number, number).
CLAIM_AND_LOAD = Sql("""
    WITH asked AS (
        SELECT * FROM unnest(:signers::uuid[], :nonces::text[], :principals::uuid[], :operations::text[], :keys::text[],
                             :fingerprints::bytea[], :charges::uuid[], :circles::uuid[], :codes::uuid[], :code_kinds::text[],
                             :code_ends::timestamptz[], :terminals::uuid[])
               WITH ORDINALITY AS a (signer_id, nonce, principal_id, operation, key, fingerprint, charge_id, circle_id,
                                     code_id, code_kind, code_end, terminal_id, at)
    ), noted AS (
        INSERT INTO request_nonce (signer_id, nonce)
        SELECT signer_id, nonce FROM asked WHERE signer_id IS NOT NULL ORDER BY signer_id, nonce
        ON CONFLICT DO NOTHING RETURNING signer_id, nonce
    ), fresh AS (
        SELECT a.*, a.signer_id IS NULL OR EXISTS (SELECT 1 FROM terminal_session s
                                                   WHERE s.id = a.signer_id AND s.terminal_id = a.terminal_id
                                                     AND s.expires_at > :now) AS in_session
        FROM asked a LEFT JOIN noted n ON n.signer_id = a.signer_id AND n.nonce = a.nonce
        WHERE a.signer_id IS NULL OR n.nonce IS NOT NULL
    ), unknown_key AS (
        SELECT f.* FROM fresh f
        WHERE f.in_session AND NOT EXISTS (SELECT 1 FROM request_key k
                          WHERE k.principal_id = f.principal_id AND k.operation = f.operation AND k.key = f.key)
    ), burnt AS (
        INSERT INTO burnt_code (id, kind, terminal_id, charge_id, expires_at, burnt_at)
        SELECT code_id, code_kind, terminal_id, charge_id, code_end, :now
        FROM unknown_key WHERE code_id IS NOT NULL AND code_end >= :now ORDER BY code_id
        ON CONFLICT DO NOTHING RETURNING id
    ), claimed AS (
        INSERT INTO request_key (principal_id, operation, key, fingerprint, charge_id, circle_id, created_at)
        SELECT principal_id, operation, key, fingerprint, charge_id, circle_id, :now
        FROM unknown_key u WHERE code_id IS NULL OR EXISTS (SELECT 1 FROM burnt b WHERE b.id = u.code_id)
        ORDER BY principal_id, operation, key
        ON CONFLICT DO NOTHING RETURNING charge_id
    )
    SELECT 1 AS kind, at, in_session::int::bigint AS first, NULL::bigint AS second FROM fresh
    UNION ALL SELECT 2, a.at, NULL, NULL FROM claimed c JOIN asked a USING (charge_id)
    UNION ALL SELECT 3, u.at, u.amount_minor + u.carried_minor, u.count + u.carried_count
              FROM (SELECT w.at, g.* FROM unnest(:counters::uuid[], :starts::timestamptz[]) WITH ORDINALITY AS w (id, start, at)
                    JOIN usage g ON g.counter_id = w.id AND g.window_start = w.start) u
    UNION ALL SELECT 4, NULL, NULL, NULL FROM terminal t WHERE t.id = ANY(:terminals) AND t.state <> 'active'
""")
REVOKED = Sql("SELECT id FROM terminal WHERE id = ANY(:terminals) AND state <> 'active'")


@dataclass(slots=True)
class Loaded:
    """What the claim told: positions (from 0) with a fresh nonce, of those the ones whose session still counts, positions
    that own their key, usage by window."""

    fresh: set[int]
    in_session: set[int]
    claimed: set[int]
    usage: dict[CounterKey, Used]
    revoked_terminals: set[str]


async def claim_and_load(
    conn: Connection, requests: Sequence[AuthorizeRequest], windows: Sequence[CounterKey], *, now: datetime
) -> Loaded:
    """Records nonces, claims keys, burns codes and reads usage, in one statement."""
    rows = await CLAIM_AND_LOAD.rows(
        conn,
        signers=[r.signed.signer_id if r.signed else None for r in requests],
        nonces=[r.signed.nonce if r.signed else None for r in requests],
        principals=[r.key.principal_id for r in requests],
        operations=[r.key.operation for r in requests],
        keys=[r.key.key for r in requests],
        fingerprints=[r.key.fingerprint for r in requests],
        charges=[r.charge_id for r in requests],
        circles=[r.circle_id for r in requests],
        codes=[r.burn.code_id if r.burn else None for r in requests],
        code_kinds=[r.burn.kind if r.burn else None for r in requests],
        code_ends=[r.burn.expires_at if r.burn else None for r in requests],
        terminals=[r.terminal_id for r in requests],
        counters=[key[0] for key in windows],
        starts=[key[1] for key in windows],
        now=now,
    )
    loaded = Loaded(set(), set(), set(), {key: Used() for key in windows}, set())
    any_revoked = False
    for kind, at, first, second in rows:
        if kind == 1:
            loaded.fresh.add(at - 1)
            if first:
                loaded.in_session.add(at - 1)
        elif kind == 2:
            loaded.claimed.add(at - 1)
        elif kind == 3:
            loaded.usage[windows[at - 1]] = Used(first, second)
        else:
            any_revoked = True
    if any_revoked:
        found = await REVOKED.rows(conn, terminals=[r.terminal_id for r in requests])
        loaded.revoked_terminals = {row[0] for row in found}
    return loaded


FIND_KEYS = Sql("""
    SELECT k.at - 1 AS at, r.fingerprint, r.charge_id
    FROM unnest(:principals::uuid[], :operations::text[], :keys::text[]) WITH ORDINALITY AS k (principal_id, operation, key, at)
    JOIN request_key r USING (principal_id, operation, key)
""")


async def find_keys(conn: Connection, requests: Sequence[AuthorizeRequest]) -> dict[int, Record]:
    """The keys that exist already, by position in `requests`."""
    rows = await FIND_KEYS.rows(
        conn,
        principals=[r.key.principal_id for r in requests],
        operations=[r.key.operation for r in requests],
        keys=[r.key.key for r in requests],
    )
    return {row["at"]: row for row in rows}


FORGET_KEYS = Sql("DELETE FROM request_key WHERE charge_id = ANY(:charges)")


async def forget_keys(conn: Connection, charge_ids: list[str]) -> None:
    """Lets go of keys claimed in this very transaction for requests that turn out to be no charge at all."""
    await FORGET_KEYS.run(conn, charges=charge_ids)


WRITE_BATCH = Sql("""
    WITH charges AS (
        INSERT INTO charge (id, circle_id, seq, operator_id, merchant_id, terminal_id, spender_id, mandate_id, mandate_version,
                            agreement_id, payer_id, credential_id, method, mcc, currency, amount_minor, state, capture_at_once,
                            reference, refusal, decided_at, hold_expires_at, finished_at)
        SELECT id, circle_id, seq, operator_id, merchant_id, terminal_id, spender_id, mandate_id, mandate_version, agreement_id,
               payer_id, credential_id, method, mcc, currency, amount_minor, state, capture_at_once, reference, refusal, :now,
               hold_expires_at, CASE WHEN state = 'refused' THEN :now::timestamptz END
        FROM unnest(:ids::uuid[], :circles::uuid[], :seqs::bigint[], :operators::uuid[], :merchants::uuid[], :terminals::uuid[],
                    :spenders::uuid[], :mandates::uuid[], :versions::int[], :agreements::uuid[], :payers::uuid[],
                    :credentials::uuid[], :methods::text[], :mccs::text[], :currencies::text[], :amounts::bigint[],
                    :states::text[], :captures::boolean[], :references::text[], :refusals::jsonb[], :holds::timestamptz[])
             AS c (id, circle_id, seq, operator_id, merchant_id, terminal_id, spender_id, mandate_id, mandate_version,
                   agreement_id, payer_id, credential_id, method, mcc, currency, amount_minor, state, capture_at_once,
                   reference, refusal, hold_expires_at)
    ), used AS (
        INSERT INTO usage (circle_id, counter_id, window_start, window_end, amount_minor, count)
        SELECT * FROM unnest(:use_circles::uuid[], :use_counters::uuid[], :use_starts::timestamptz[], :use_ends::timestamptz[],
                             :use_amounts::bigint[], :use_counts::int[])
        ON CONFLICT (counter_id, window_start)
        DO UPDATE SET amount_minor = usage.amount_minor + excluded.amount_minor, count = usage.count + excluded.count
    ), told AS (
        INSERT INTO outbox (lane, topic, subject_id, created_at, available_at)
        SELECT lane, topic, subject_id, :now, :now FROM unnest(:circles::uuid[], :topics::text[], :ids::uuid[])
               AS o (lane, topic, subject_id)
    ), audited AS (
        INSERT INTO audit_event (lane, seq, at, kind, subject_id, actor_id, body, hash)
        SELECT lane, seq, :now, kind, subject_id, actor_id, body, hash
        FROM unnest(:circles::uuid[], :audit_seqs::bigint[], :audit_kinds::text[], :ids::uuid[], :audit_actors::uuid[],
                    :audit_bodies::text[], :audit_hashes::bytea[]) AS e (lane, seq, kind, subject_id, actor_id, body, hash)
    ), moved AS (
        UPDATE audit_lane l SET seq = h.seq, hash = h.hash
        FROM unnest(:lanes::uuid[], :lane_seqs::bigint[], :lane_hashes::bytea[]) AS h (id, seq, hash) WHERE l.id = h.id
    )
    UPDATE circle c SET charge_seq = s.seq FROM unnest(:lanes::uuid[], :circle_seqs::bigint[]) AS s (id, seq) WHERE c.id = s.id
""")


@dataclass(slots=True)
class Uses:
    """What a batch adds to one window."""

    circle_id: str
    span: Span
    amount_minor: int = 0
    count: int = 0


@dataclass(slots=True)
class Written:
    """All rows of one batch: charges with their place in their circle, one audit link each, and what windows gained."""

    charges: list[Charge]
    seqs: list[int]
    links: list[Link]
    uses: dict[CounterKey, Uses]
    heads: dict[str, Head]
    circle_seqs: dict[str, int]


async def write_batch(conn: Connection, written: Written, *, now: datetime) -> None:
    """Writes charges, usage, audit and outbox in one statement. Nobody is woken: the worker looks every second anyway."""
    charges, links, uses = written.charges, written.links, list(written.uses.items())
    lanes = list(written.heads)
    await WRITE_BATCH.run(
        conn,
        now=now,
        ids=[c.id for c in charges],
        circles=[c.circle_id for c in charges],
        seqs=written.seqs,
        operators=[c.operator_id for c in charges],
        merchants=[c.merchant_id for c in charges],
        terminals=[c.terminal_id for c in charges],
        spenders=[c.spender_id for c in charges],
        mandates=[c.mandate_id for c in charges],
        versions=[c.mandate_version for c in charges],
        agreements=[c.agreement_id for c in charges],
        payers=[c.payer_id for c in charges],
        credentials=[c.credential_id for c in charges],
        methods=[c.method for c in charges],
        mccs=[c.mcc for c in charges],
        currencies=[c.currency for c in charges],
        amounts=[c.amount_minor for c in charges],
        states=[c.state.value for c in charges],
        captures=[c.capture_at_once for c in charges],
        references=[c.reference for c in charges],
        refusals=[c.refusal for c in charges],
        holds=[c.hold_expires_at for c in charges],
        topics=["charge.refused" if c.state is ChargeState.REFUSED else "charge.held" for c in charges],
        use_circles=[use.circle_id for _, use in uses],
        use_counters=[key[0] for key, _ in uses],
        use_starts=[key[1] for key, _ in uses],
        use_ends=[use.span.end for _, use in uses],
        use_amounts=[use.amount_minor for _, use in uses],
        use_counts=[use.count for _, use in uses],
        audit_seqs=[link.seq for link in links],
        audit_kinds=[link.kind for link in links],
        audit_actors=[link.actor_id for link in links],
        audit_bodies=[link.body for link in links],
        audit_hashes=[link.hash for link in links],
        lanes=lanes,
        lane_seqs=[written.heads[lane].seq for lane in lanes],
        lane_hashes=[written.heads[lane].hash for lane in lanes],
        circle_seqs=[written.circle_seqs[lane] for lane in lanes],
    )


CHARGE_COLUMNS = """
    id, circle_id, operator_id, merchant_id, terminal_id, spender_id, mandate_id, mandate_version, agreement_id, payer_id,
    credential_id, method, mcc, currency, amount_minor, captured_minor, refunded_minor, state, capture_at_once, delivered,
    void_requested, late, reference, refusal, decided_at, hold_expires_at, finished_at, owed_since
"""
READ_CHARGES = Sql(f"SELECT {CHARGE_COLUMNS} FROM charge WHERE id = ANY(:ids)")
READ_DEBIT_WAITS = Sql("""
    SELECT cd.charge_id FROM charge_debit cd JOIN debit d ON d.id = cd.debit_id
    WHERE cd.charge_id = ANY(:ids) AND d.state = 'submitted' AND NOT d.unknown
""")


async def read_charges(conn: Connection, ids: Sequence[str]) -> dict[str, Charge]:
    """Charges by id; absent ones are left out."""
    return {row["id"]: charge_of(row) for row in await READ_CHARGES.rows(conn, ids=list(ids))}


def charge_of(row: Record) -> Charge:
    """A charge from its row."""
    values = dict(row)
    values["state"] = ChargeState(values["state"])
    return Charge(**values)


def audited(charge: Charge) -> dict[str, object]:
    """What the audit log keeps of a new charge: enough to find any later change of the row by hand."""
    kept = {
        "amount_minor": charge.amount_minor,
        "currency": charge.currency,
        "spender_id": charge.spender_id,
        "payer_id": charge.payer_id,
        "mandate_id": charge.mandate_id,
        "mandate_version": charge.mandate_version,
        "agreement_id": charge.agreement_id,
        "credential_id": charge.credential_id,
        "merchant_id": charge.merchant_id,
        "terminal_id": charge.terminal_id,
        "method": charge.method,
        "mcc": charge.mcc,
        "state": charge.state.value,
        "capture_at_once": charge.capture_at_once,
        "hold_expires_at": charge.hold_expires_at.isoformat() if charge.hold_expires_at else None,
    }
    if charge.refusal is not None:
        kept["refusal"] = msgspec.to_builtins(charge.refusal)
    return {name: value for name, value in kept.items() if value is not None}
