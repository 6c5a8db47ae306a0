"""How a batch of charges is locked and loaded: set-based, one statement each however many orders there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from kinpay.charges.arrays import moments, texts, words
from kinpay.charges.charge import ChargeState
from kinpay.charges.order import Item
from kinpay.charges.request import AuthorizeRequest, Charge
from kinpay.charges.rules import CircleRow
from kinpay.charges.standing import CounterKey, Used
from kinpay.database.audit import Head
from kinpay.database.pool import database_now
from kinpay.database.sql import Connection, Record, Sql

LOCK_FREE_CIRCLES = Sql("""
    SELECT c.id, c.operator_id, c.version, c.time_zone, c.state, l.charge_seq, l.seq AS lane_seq, l.hash AS lane_hash,
           kinpay_now() AS now
    FROM circle c JOIN audit_lane l ON l.id = c.id
    WHERE c.id = ANY(:circles::text::uuid[]) ORDER BY c.id FOR UPDATE OF c, l SKIP LOCKED
""")
LOCK_CIRCLES = Sql("""
    SELECT c.id, c.operator_id, c.version, c.time_zone, c.state, l.charge_seq, l.seq AS lane_seq, l.hash AS lane_hash,
           kinpay_now() AS now
    FROM circle c JOIN audit_lane l ON l.id = c.id
    WHERE c.id = ANY(:circles::text::uuid[]) ORDER BY c.id FOR UPDATE OF c, l
""")


@dataclass(slots=True)
class Ends:
    """Where circles stand, at the one `now`: the ends of their audit lanes, and how many charges each has had."""

    now: datetime
    heads: dict[str, Head]
    seqs: dict[str, int]


@dataclass(slots=True)
class Locked(Ends):
    """The circles that a batch holds, and where they stand; `now` was read after the locks."""

    circles: dict[str, CircleRow]


async def lock_circles(conn: Connection, circle_ids: Iterable[str], *, wait: bool) -> Locked | None:
    """Locks those circles that are free, or, with `wait`, all of them in sorted order. None if it got none."""
    statement = LOCK_CIRCLES if wait else LOCK_FREE_CIRCLES
    rows = await statement.rows(conn, circles=words(sorted(set(circle_ids))))
    if not rows:
        return None
    # A row's own `now` is computed before its lock is had: well enough where nothing is waited for, but not here.
    return Locked(
        now=await database_now(conn) if wait else max(row["now"] for row in rows),
        circles={
            row["id"]: CircleRow(row["id"], row["operator_id"], row["version"], row["time_zone"], row["state"]) for row in rows
        },
        heads={row["id"]: Head(row["lane_seq"], row["lane_hash"]) for row in rows},
        seqs={row["id"]: row["charge_seq"] for row in rows},
    )


# Every request's nonce is recorded first; a key is claimed only under a fresh nonce; a code is burnt only for a key that is
# new, so that an honest repetition never hears "code used". (LIMIT 1 keeps look-ups one by one, each by its index;
# IS TRUE keeps a list of the batch's own from being joined row by row.) The answer is one row of arrays: hundreds of small
# rows cost more.
CLAIM_AND_LOAD = Sql("""
    WITH asked AS (
        SELECT * FROM unnest(:signers::text::uuid[], string_to_array(:nonces, chr(30), ''), :principals::text::uuid[],
                             :operations::text::text[], string_to_array(:keys, chr(30)), :fingerprints::text::text[],
                             :charges::text::uuid[], :circles::text::uuid[], :codes::text::uuid[], :code_kinds::text::text[],
                             :code_ends::text::timestamptz[], :terminals::text::uuid[])
               WITH ORDINALITY AS a (signer_id, nonce, principal_id, operation, key, fingerprint, charge_id, circle_id,
                                     code_id, code_kind, code_end, terminal_id, at)
    ), noted AS (
        INSERT INTO request_nonce (signer_id, nonce)
        SELECT signer_id, nonce FROM asked WHERE signer_id IS NOT NULL ORDER BY signer_id, nonce
        ON CONFLICT DO NOTHING RETURNING signer_id, nonce
    ), fresh AS (
        SELECT a.*, a.signer_id IS NULL OR s.id IS NOT NULL AS in_session
        FROM asked a
        LEFT JOIN terminal_session s ON s.id = a.signer_id AND s.terminal_id = a.terminal_id AND s.expires_at > :now
        WHERE a.signer_id IS NULL OR (a.signer_id, a.nonce) IN (SELECT signer_id, nonce FROM noted)
    ), unknown_key AS (
        SELECT f.* FROM fresh f
        LEFT JOIN LATERAL (SELECT true AS known FROM request_key k
                           WHERE k.principal_id = f.principal_id AND k.operation = f.operation AND k.key = f.key
                           LIMIT 1) earlier ON true
        WHERE f.in_session AND earlier.known IS NULL
    ), burnt AS (
        INSERT INTO burnt_code (id, kind, terminal_id, charge_id, expires_at, burnt_at)
        SELECT code_id, code_kind, terminal_id, charge_id, code_end, :now
        FROM unknown_key WHERE code_id IS NOT NULL AND code_end >= :now ORDER BY code_id
        ON CONFLICT DO NOTHING RETURNING id
    ), claimed AS (
        INSERT INTO request_key (principal_id, operation, key, fingerprint, charge_id, circle_id, created_at)
        SELECT principal_id, operation, key, decode(fingerprint, 'hex'), charge_id, circle_id, :now
        FROM unknown_key u WHERE code_id IS NULL OR EXISTS (SELECT 1 FROM burnt b WHERE b.id = u.code_id)
        ORDER BY principal_id, operation, key
        ON CONFLICT DO NOTHING RETURNING charge_id
    )
    SELECT (SELECT array_agg(at - 1) FROM fresh) AS fresh,
           (SELECT array_agg(at - 1) FROM fresh WHERE in_session) AS in_session,
           (SELECT array_agg(at - 1) FROM asked WHERE (charge_id IN (SELECT charge_id FROM claimed)) IS TRUE) AS claimed,
           EXISTS (SELECT 1 FROM terminal t WHERE t.id = ANY(:terminals::text::uuid[]) AND t.state <> 'active') AS any_revoked,
           u.windows, u.amounts, u.counts
    FROM (SELECT array_agg(w.at - 1) AS windows, array_agg(g.amount_minor) AS amounts, array_agg(g.count) AS counts
          FROM unnest(:counters::text::uuid[], :starts::text::timestamptz[]) WITH ORDINALITY AS w (id, start, at)
          CROSS JOIN LATERAL (SELECT amount_minor + carried_minor AS amount_minor, count + carried_count AS count FROM usage
                              WHERE counter_id = w.id AND window_start = w.start LIMIT 1) g) u
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
    row = await CLAIM_AND_LOAD.row(
        conn,
        signers=words([r.signed.signer_id if r.signed else None for r in requests]),
        nonces=texts([r.signed.nonce if r.signed else "" for r in requests]),
        principals=words([r.key.principal_id for r in requests]),
        operations=words([r.key.operation for r in requests]),
        keys=texts([r.key.key for r in requests]),
        fingerprints=words([r.key.fingerprint.hex() for r in requests]),
        charges=words([r.charge_id for r in requests]),
        circles=words([r.circle_id for r in requests]),
        codes=words([r.burn.code_id if r.burn else None for r in requests]),
        code_kinds=words([r.burn.kind if r.burn else None for r in requests]),
        code_ends=moments([r.burn.expires_at if r.burn else None for r in requests]),
        terminals=words([r.terminal_id for r in requests]),
        counters=words([key[0] for key in windows]),
        starts=moments([key[1] for key in windows]),
        now=now,
    )
    assert row is not None, "an aggregate always answers"
    loaded = Loaded(
        set(row["fresh"] or ()),
        set(row["in_session"] or ()),
        set(row["claimed"] or ()),
        {key: Used() for key in windows},
        set(),
    )
    for at, amount_minor, count in zip(row["windows"] or (), row["amounts"] or (), row["counts"] or (), strict=True):
        loaded.usage[windows[at]] = Used(amount_minor, count)
    if row["any_revoked"]:
        found = await REVOKED.rows(conn, terminals=[r.terminal_id for r in requests])
        loaded.revoked_terminals = {revoked[0] for revoked in found}
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


CHARGE_COLUMNS = """
    id, circle_id, operator_id, merchant_id, terminal_id, spender_id, mandate_id, mandate_version, agreement_id, payer_id,
    credential_id, method, mcc, currency, amount_minor, captured_minor, refunded_minor, state, capture_at_once, delivered,
    void_requested, late, reference, refusal, items, decided_at, hold_expires_at, finished_at, owed_since, due_on,
    fare_minor, face
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
    values["items"] = tuple(Item(**item) for item in values["items"] or ())
    return Charge(**values)
