"""How a batch of charges is locked, loaded and written: set-based, three statements however many orders there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from kinpay.charges.charge import ChargeState
from kinpay.charges.order import Item
from kinpay.charges.request import AuthorizeRequest, Charge
from kinpay.charges.rules import CircleRow
from kinpay.charges.standing import CounterKey, Used
from kinpay.database.audit import Head, Link
from kinpay.database.pool import database_now
from kinpay.database.sql import Connection, Record, Sql
from kinpay.primitives.clock import Span

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
class Locked:
    """The circles that a batch holds, the ends of their audit lanes, and the one `now`, read after the locks."""

    now: datetime
    circles: dict[str, CircleRow]
    heads: dict[str, Head]
    seqs: dict[str, int]


async def lock_circles(conn: Connection, circle_ids: Iterable[str], *, wait: bool) -> Locked | None:
    """Locks those circles that are free, or, with `wait`, all of them in sorted order. None if it got none."""
    statement = LOCK_CIRCLES if wait else LOCK_FREE_CIRCLES
    rows = await statement.rows(conn, circles=_words(sorted(set(circle_ids))))
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
        signers=_words([r.signed.signer_id if r.signed else None for r in requests]),
        nonces=_texts([r.signed.nonce if r.signed else "" for r in requests]),
        principals=_words([r.key.principal_id for r in requests]),
        operations=_words([r.key.operation for r in requests]),
        keys=_texts([r.key.key for r in requests]),
        fingerprints=_words([r.key.fingerprint.hex() for r in requests]),
        charges=_words([r.charge_id for r in requests]),
        circles=_words([r.circle_id for r in requests]),
        codes=_words([r.burn.code_id if r.burn else None for r in requests]),
        code_kinds=_words([r.burn.kind if r.burn else None for r in requests]),
        code_ends=_moments([r.burn.expires_at if r.burn else None for r in requests]),
        terminals=_words([r.terminal_id for r in requests]),
        counters=_words([key[0] for key in windows]),
        starts=_moments([key[1] for key in windows]),
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


def _words(values: Sequence[str | None]) -> str:
    """An array as PostgreSQL writes it, for ids and words that need no quotes: the driver's own way costs ten times as much."""
    return "{" + ",".join(["NULL" if value is None else value for value in values]) + "}"


_BETWEEN: Final = "\x1e"


def _texts(values: Sequence[str]) -> str:
    """Any text, for `string_to_array(…, chr(30))`: neither JSON nor what a till may write holds that character.

    Raises: ValueError if one does, lest one text pass for two.
    """
    joined = _BETWEEN.join(values)
    if joined.count(_BETWEEN) != len(values) - 1:
        raise ValueError("a separator within a text")
    return joined


def _numbers(values: Sequence[int | None]) -> str:
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def _moments(values: Sequence[datetime | None]) -> str:
    written = {value: "NULL" if value is None else value.isoformat() for value in set(values)}  # a batch has but a few
    return "{" + ",".join([written[value] for value in values]) + "}"


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


# Lanes are there already. An upsert goes by its index, whatever the planner thought of the table when it was young.
WRITE_BATCH = Sql("""
    WITH decided AS (
        SELECT * FROM unnest(:ids::text::uuid[], :circles::text::uuid[], :seqs::text::bigint[], :operators::text::uuid[],
                             :merchants::text::uuid[], :terminals::text::uuid[], :spenders::text::uuid[],
                             :mandates::text::uuid[], :versions::text::int[], :agreements::text::uuid[], :payers::text::uuid[],
                             :credentials::text::uuid[], :methods::text::text[], :mccs::text::text[], :currencies::text::text[],
                             :amounts::text::bigint[], :states::text::text[], :captures::text::boolean[],
                             string_to_array(:references, chr(30), ''), string_to_array(:refusals, chr(30), '')::jsonb[],
                             :holds::text::timestamptz[], :link_seqs::text::bigint[], :actors::text::uuid[],
                             string_to_array(:bodies, chr(30)), :hashes::text::text[],
                             string_to_array(:items, chr(30), '')::jsonb[], :fares::text::bigint[])
             AS d (id, circle_id, seq, operator_id, merchant_id, terminal_id, spender_id, mandate_id, mandate_version,
                   agreement_id, payer_id, credential_id, method, mcc, currency, amount_minor, state, capture_at_once,
                   reference, refusal, hold_expires_at, link_seq, actor_id, body, hash, items, fare_minor)
    ), charges AS (
        INSERT INTO charge (id, circle_id, seq, operator_id, merchant_id, terminal_id, spender_id, mandate_id, mandate_version,
                            agreement_id, payer_id, credential_id, method, mcc, currency, amount_minor, state, capture_at_once,
                            reference, refusal, items, fare_minor, decided_at, hold_expires_at, finished_at)
        SELECT id, circle_id, seq, operator_id, merchant_id, terminal_id, spender_id, mandate_id, mandate_version, agreement_id,
               payer_id, credential_id, method, mcc, currency, amount_minor, state, capture_at_once, reference, refusal, items,
               fare_minor, :now, hold_expires_at, CASE WHEN state = 'refused' THEN :now::timestamptz END
        FROM decided
    ), told AS (
        INSERT INTO outbox (lane, topic, subject_id, created_at, available_at)
        SELECT circle_id, 'charge.' || state, id, :now, :now FROM decided
    ), audited AS (
        INSERT INTO audit_event (lane, seq, at, kind, subject_id, actor_id, body, hash)
        SELECT circle_id, link_seq, :now, 'charge.' || state, id, actor_id, body, decode(hash, 'hex') FROM decided
    ), used AS (
        INSERT INTO usage (circle_id, counter_id, window_start, window_end, amount_minor, count)
        SELECT * FROM unnest(:use_circles::text::uuid[], :use_counters::text::uuid[], :use_starts::text::timestamptz[],
                             :use_ends::text::timestamptz[], :use_amounts::text::bigint[], :use_counts::text::int[])
        ON CONFLICT (counter_id, window_start)
        DO UPDATE SET amount_minor = usage.amount_minor + excluded.amount_minor, count = usage.count + excluded.count
    )
    INSERT INTO audit_lane (id, seq, hash, charge_seq)
    SELECT id, seq, decode(hash, 'hex'), charge_seq
    FROM unnest(:lanes::text::uuid[], :lane_seqs::text::bigint[], :lane_hashes::text::text[], :lane_charges::text::bigint[])
         AS e (id, seq, hash, charge_seq)
    ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash, charge_seq = excluded.charge_seq
""")


class Uses(msgspec.Struct, gc=False):
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
    last_seqs: dict[str, int]


async def write_batch(conn: Connection, written: Written, *, now: datetime) -> None:
    """Writes charges, usage, audit and outbox in one statement. Nobody is woken: the worker looks every second anyway."""
    charges, links, uses, lanes = written.charges, written.links, list(written.uses.items()), list(written.heads)
    await WRITE_BATCH.run(
        conn,
        now=now,
        ids=_words([c.id for c in charges]),
        circles=_words([c.circle_id for c in charges]),
        seqs=_numbers(written.seqs),
        operators=_words([c.operator_id for c in charges]),
        merchants=_words([c.merchant_id for c in charges]),
        terminals=_words([c.terminal_id for c in charges]),
        spenders=_words([c.spender_id for c in charges]),
        mandates=_words([c.mandate_id for c in charges]),
        versions=_numbers([c.mandate_version for c in charges]),
        agreements=_words([c.agreement_id for c in charges]),
        payers=_words([c.payer_id for c in charges]),
        credentials=_words([c.credential_id for c in charges]),
        methods=_words([c.method for c in charges]),
        mccs=_words([c.mcc for c in charges]),
        currencies=_words([c.currency for c in charges]),
        amounts=_numbers([c.amount_minor for c in charges]),
        states=_words([c.state for c in charges]),
        captures=_words(["t" if c.capture_at_once else "f" for c in charges]),
        references=_texts([c.reference or "" for c in charges]),
        refusals=_texts([msgspec.json.encode(c.refusal).decode() if c.refusal else "" for c in charges]),
        fares=_numbers([c.fare_minor for c in charges]),
        items=_texts([_items_json(c.items) if c.items else "" for c in charges]),
        holds=_moments([c.hold_expires_at for c in charges]),
        link_seqs=_numbers([link.seq for link in links]),
        actors=_words([link.actor_id for link in links]),
        bodies=_texts([link.body for link in links]),
        hashes=_words([link.hash.hex() for link in links]),
        use_circles=_words([use.circle_id for _, use in uses]),
        use_counters=_words([key[0] for key, _ in uses]),
        use_starts=_moments([key[1] for key, _ in uses]),
        use_ends=_moments([use.span.end for _, use in uses]),
        use_amounts=_numbers([use.amount_minor for _, use in uses]),
        use_counts=_numbers([use.count for _, use in uses]),
        lanes=_words(lanes),
        lane_seqs=_numbers([written.heads[lane].seq for lane in lanes]),
        lane_hashes=_words([written.heads[lane].hash.hex() for lane in lanes]),
        lane_charges=_numbers([written.last_seqs[lane] for lane in lanes]),
    )


def _items_json(items: Sequence[Item]) -> str:
    return msgspec.json.encode(items).decode()


CHARGE_COLUMNS = """
    id, circle_id, operator_id, merchant_id, terminal_id, spender_id, mandate_id, mandate_version, agreement_id, payer_id,
    credential_id, method, mcc, currency, amount_minor, captured_minor, refunded_minor, state, capture_at_once, delivered,
    void_requested, late, reference, refusal, items, decided_at, hold_expires_at, finished_at, owed_since, due_on,
    fare_minor
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
