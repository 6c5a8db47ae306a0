"""How a batch looks before it locks, and how it writes if what it saw still stands: two statements, each by itself.

Source: docs/decisions/0010-decide-then-lock.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from kinpay.charges.arrays import moments, numbers, texts, words
from kinpay.charges.request import AuthorizeRequest
from kinpay.charges.standing import TRAIL, CounterKey, Trail, Used
from kinpay.charges.store import Ends
from kinpay.charges.write import CHARGE_ARRAYS, CHARGE_NAMES, ENDS, GAINED, OPEN_WINDOWS, WRITE_ROWS, Written, rows_of
from kinpay.database.audit import Head
from kinpay.database.sql import Connection, Sql

# One statement sees one state of the database, and the clock is read after that state was chosen.
LOOK = Sql("""
    WITH ends AS (
        SELECT array_agg(w.at - 1) AS ats, array_agg(e.version) AS versions, array_agg(e.seq) AS seqs,
               array_agg(e.hash) AS hashes, array_agg(e.charge_seq) AS charge_seqs
        FROM unnest(:circles::text::uuid[]) WITH ORDINALITY AS w (id, at)
        CROSS JOIN LATERAL (SELECT c.version, l.seq, l.hash, l.charge_seq FROM circle c JOIN audit_lane l ON l.id = c.id
                            WHERE c.id = w.id LIMIT 1) e
    ), windows AS (
        SELECT array_agg(w.at - 1) AS windows, array_agg(g.amount_minor) AS amounts, array_agg(g.count) AS counts
        FROM (SELECT :starts::text::timestamptz[] AS starts OFFSET 0) s
        CROSS JOIN unnest(:counters::text::uuid[], :places::text::int[]) WITH ORDINALITY AS w (id, place, at)
        CROSS JOIN LATERAL (SELECT amount_minor + carried_minor AS amount_minor, count + carried_count AS count FROM usage
                            WHERE counter_id = w.id AND window_start = s.starts[w.place] LIMIT 1) g
    ), trails AS (
        SELECT array_agg(t.at - 1 ORDER BY t.at, u.window_start) AS trails,
               array_agg(u.window_start ORDER BY t.at, u.window_start) AS trail_starts,
               array_agg(u.amount_minor::bigint ORDER BY t.at, u.window_start) AS trail_amounts,
               array_agg(u.count ORDER BY t.at, u.window_start) AS trail_counts
        FROM unnest(:trails::text::uuid[], :sinces::text::timestamptz[]) WITH ORDINALITY AS t (id, since, at)
        CROSS JOIN LATERAL (SELECT window_start, amount_minor, count FROM usage
                            WHERE counter_id = t.id AND window_start > t.since ORDER BY window_start LIMIT 1000000) u
    )
    SELECT kinpay_now() AS now, e.*, w.*, t.* FROM ends e, windows w, trails t
""")


@dataclass(slots=True)
class Seen(Ends):
    """Where circles stood when they were looked at, the versions of their rules and their usage, all at once.

    `known`: the windows that have a row.
    """

    versions: dict[str, int]
    usage: dict[CounterKey, Used]
    known: set[CounterKey]


async def look(
    conn: Connection, circle_ids: Sequence[str], windows: Sequence[CounterKey], trails: Mapping[str, datetime]
) -> Seen:
    """Reads all of that without a lock; `trails`: from when on each trailing counter's uses are wanted."""
    trailing = list(trails)
    starts = {start: place for place, start in enumerate({key[1] for key in windows}, 1)}
    row = await LOOK.row(
        conn,
        circles=words(circle_ids),
        counters=words([key[0] for key in windows]),
        places=numbers([starts[key[1]] for key in windows]),
        starts=moments(list(starts)),
        trails=words(trailing),
        sinces=moments(list(trails.values())),
    )
    assert row is not None, "an aggregate always answers"
    there = [circle_ids[at] for at in row["ats"] or ()]
    heads = map(Head, row["seqs"] or (), row["hashes"] or ())
    seen = Seen(
        row["now"],
        dict(zip(there, heads, strict=True)),
        dict(zip(there, row["charge_seqs"] or (), strict=True)),
        dict(zip(there, row["versions"] or (), strict=True)),
        {key: Used() for key in windows},
        {windows[at] for at in row["windows"] or ()},
    )
    for at, amount_minor, count in zip(row["windows"] or (), row["amounts"] or (), row["counts"] or (), strict=True):
        seen.usage[windows[at]] = Used(amount_minor, count)
    made: dict[str, list[tuple[datetime, int, int]]] = {counter_id: [] for counter_id in trailing}
    uses = zip(row["trail_starts"] or (), row["trail_amounts"] or (), row["trail_counts"] or (), strict=True)
    for at, use in zip(row["trails"] or (), uses, strict=True):
        made[trailing[at]].append(use)
    for counter_id, found in made.items():
        seen.usage[(counter_id, TRAIL)] = Trail(made=found)
    return seen


# Nothing is written of a circle that is busy or whose lane has moved since it was seen, and nothing at all if a session or a
# terminal is not good any more, or (the tables see to that) if a key, a nonce or a code was used before. The lane's row is what
# is locked: whoever locks a circle locks its lane with it. (Sub-selects with LIMIT 1 are looked up one by one, each by its
# index, whatever the planner thought of the tables when they were young. Under the lane's lock its windows stay where they are.
# A row without a circle, which no honest batch has, is let through, so that the tables refuse it.)
WRITE_IF_STILL = Sql(
    """
    WITH held AS MATERIALIZED (
        SELECT l.id FROM unnest(:lanes::text::uuid[], :seen_seqs::text::bigint[]) AS w (id, seq)
        CROSS JOIN LATERAL (SELECT id FROM audit_lane WHERE id = w.id AND seq = w.seq LIMIT 1 FOR UPDATE SKIP LOCKED) l
        WHERE NOT EXISTS (SELECT FROM terminal t WHERE t.id = ANY(:tills::text::uuid[]) AND t.state <> 'active')
          AND NOT EXISTS (SELECT FROM unnest(:sessions::text::uuid[], :session_tills::text::uuid[]) AS n (id, terminal_id)
                          WHERE (SELECT true FROM terminal_session s
                                 WHERE s.id = n.id AND s.terminal_id = n.terminal_id AND s.expires_at > :now LIMIT 1) IS NULL)
    ), decided AS MATERIALIZED (SELECT * FROM unnest("""
    + CHARGE_ARRAYS
    + """, :signers::text::uuid[], string_to_array(:nonces, chr(30), ''), :operations::text::text[],
           string_to_array(:keys, chr(30)), :fingerprints::text::text[], :codes::text::uuid[], :code_kinds::text::text[],
           :code_ends::text::timestamptz[]) AS a ("""
    + CHARGE_NAMES
    + """, signer_id, nonce, operation, key, fingerprint, code_id, code_kind, code_end)
        WHERE circle_id IS NULL OR (circle_id IN (SELECT id FROM held)) IS TRUE
    ), gained AS MATERIALIZED (SELECT g.* FROM ("""
    + GAINED
    + """) g WHERE (g.circle_id IN (SELECT id FROM held)) IS TRUE
    ), ends AS (SELECT g.* FROM ("""
    + ENDS
    + """) g WHERE (g.id IN (SELECT id FROM held)) IS TRUE
    ), noted AS (
        INSERT INTO request_nonce (signer_id, nonce)
        SELECT signer_id, nonce FROM decided WHERE signer_id IS NOT NULL ORDER BY signer_id, nonce
    ), burnt AS (
        INSERT INTO burnt_code (id, kind, terminal_id, charge_id, expires_at, burnt_at)
        SELECT code_id, code_kind, terminal_id, id, code_end, :now FROM decided WHERE code_id IS NOT NULL ORDER BY code_id
    ), claimed AS (
        INSERT INTO request_key (principal_id, operation, key, fingerprint, charge_id, circle_id, created_at)
        SELECT actor_id, operation, key, decode(fingerprint, 'hex'), id, circle_id, :now FROM decided
        ORDER BY actor_id, operation, key
    ), raised AS (
        UPDATE usage u SET amount_minor = u.amount_minor + g.amount_minor, count = u.count + g.count
        FROM (SELECT g.amount_minor, g.count, there.at
              FROM gained g CROSS JOIN LATERAL (SELECT ctid AS at FROM usage WHERE counter_id = g.counter_id
                                                AND window_start = g.window_start LIMIT 1) there
              WHERE g.known) g
        WHERE u.ctid = g.at
    ), opened AS ("""
    + OPEN_WINDOWS
    + "),"
    + WRITE_ROWS
    + "SELECT id FROM held"
)


async def write_if_still(conn: Connection, requests: Sequence[AuthorizeRequest], written: Written, seen: Seen) -> set[str]:
    """Locks the circles that still stand as seen, claims keys, burns codes, writes; by itself, so that it is then durable.

    `requests` are those that `written` decides, in order. Returns the circles that were written.
    Raises: UniqueViolationError if a key, nonce or code was used before; then nothing is written at all.
    """
    sessions = {(r.signed.signer_id, r.terminal_id) for r in requests if r.signed}
    rows = await WRITE_IF_STILL.rows(
        conn,
        now=seen.now,
        signers=words([r.signed.signer_id if r.signed else None for r in requests]),
        nonces=texts([r.signed.nonce if r.signed else "" for r in requests]),
        operations=words([r.key.operation for r in requests]),
        keys=texts([r.key.key for r in requests]),
        fingerprints=words([r.key.fingerprint.hex() for r in requests]),
        codes=words([r.burn.code_id if r.burn else None for r in requests]),
        code_kinds=words([r.burn.kind if r.burn else None for r in requests]),
        code_ends=moments([r.burn.expires_at if r.burn else None for r in requests]),
        tills=words(list({r.terminal_id for r in requests})),
        sessions=words([session_id for session_id, _ in sessions]),
        session_tills=words([terminal_id for _, terminal_id in sessions]),
        seen_seqs=numbers([seen.heads[lane].seq for lane in written.heads]),
        **rows_of(written, seen.known),
    )
    return {row[0] for row in rows}
