"""How what a batch decided is written: every row of it by one statement, however many orders there are.

It is written in either of two ways: by a batch that holds its circles' locks (`write_batch`), or by one that has looked before
it locks, and holds only what is still as it was (`ahead_store.py`).
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from kinpay.charges.arrays import moments, numbers, texts, words
from kinpay.charges.order import Item
from kinpay.charges.request import Charge
from kinpay.charges.standing import CounterKey
from kinpay.database.audit import Head, Link
from kinpay.database.sql import Connection, Sql
from kinpay.primitives.clock import Span

CHARGE_ARRAYS: Final = """
    :ids::text::uuid[], :circles::text::uuid[], :seqs::text::bigint[], :operators::text::uuid[], :merchants::text::uuid[],
    :terminals::text::uuid[], :spenders::text::uuid[], :mandates::text::uuid[], :versions::text::int[],
    :agreements::text::uuid[], :payers::text::uuid[], :credentials::text::uuid[], :methods::text::text[], :mccs::text::text[],
    :currencies::text::text[], :amounts::text::bigint[], :states::text::text[], :captures::text::boolean[],
    string_to_array(:references, chr(30), ''), string_to_array(:refusals, chr(30), '')::jsonb[], :holds::text::timestamptz[],
    :link_seqs::text::bigint[], :actors::text::uuid[], string_to_array(:bodies, chr(30)), :hashes::text::text[],
    string_to_array(:items, chr(30), '')::jsonb[], :fares::text::bigint[],
    string_to_array(:faces, chr(30), '')::jsonb[]
"""
CHARGE_NAMES: Final = """
    id, circle_id, seq, operator_id, merchant_id, terminal_id, spender_id, mandate_id, mandate_version, agreement_id, payer_id,
    credential_id, method, mcc, currency, amount_minor, state, capture_at_once, reference, refusal, hold_expires_at, link_seq,
    actor_id, body, hash, items, fare_minor, face
"""
# Lanes are there already. An upsert goes by its index, whatever the planner thought of the table when it was young.
WRITE_ROWS: Final = """
    charges AS (
        INSERT INTO charge (id, circle_id, seq, operator_id, merchant_id, terminal_id, spender_id, mandate_id, mandate_version,
                            agreement_id, payer_id, credential_id, method, mcc, currency, amount_minor, state, capture_at_once,
                            reference, refusal, items, fare_minor, face, decided_at, hold_expires_at, finished_at)
        SELECT id, circle_id, seq, operator_id, merchant_id, terminal_id, spender_id, mandate_id, mandate_version, agreement_id,
               payer_id, credential_id, method, mcc, currency, amount_minor, state, capture_at_once, reference, refusal, items,
               fare_minor, face, :now, hold_expires_at, CASE WHEN state = 'refused' THEN :now::timestamptz END
        FROM decided
    ), told AS (
        INSERT INTO outbox (lane, topic, subject_id, created_at, available_at)
        SELECT circle_id, 'charge.' || state, id, :now, :now FROM decided
    ), audited AS (
        INSERT INTO audit_event (lane, seq, at, kind, subject_id, actor_id, body, hash)
        SELECT circle_id, link_seq, :now, 'charge.' || state, id, actor_id, body, decode(hash, 'hex') FROM decided
    ), moved AS (
        INSERT INTO audit_lane (id, seq, hash, charge_seq)
        SELECT id, seq, decode(hash, 'hex'), charge_seq FROM ends
        ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash, charge_seq = excluded.charge_seq
    )
"""
"""Writes the rows of `decided` and `ends`: charges with their audit links and messages, the ends of lanes."""
GAINED: Final = """
    SELECT s.lanes[u.lane] AS circle_id, u.counter_id, s.starts[u.span] AS window_start, s.ends[u.span] AS window_end,
           u.amount_minor, u.count, u.known
    FROM unnest(:use_lanes::text::int[], :use_counters::text::uuid[], :use_spans::text::int[], :use_amounts::text::bigint[],
                :use_counts::text::int[], :use_known::text::boolean[])
             AS u (lane, counter_id, span, amount_minor, count, known)
    CROSS JOIN (SELECT :lanes::text::uuid[] AS lanes, :span_starts::text::timestamptz[] AS starts,
                       :span_ends::text::timestamptz[] AS ends OFFSET 0) s
"""
"""What windows gained. A batch has but a few windows and circles: each is read once, and then told by its number."""
OPEN_WINDOWS: Final = """
    INSERT INTO usage (circle_id, counter_id, window_start, window_end, amount_minor, count)
    SELECT circle_id, counter_id, window_start, window_end, amount_minor, count FROM gained WHERE NOT known
    ON CONFLICT (counter_id, window_start)
    DO UPDATE SET amount_minor = usage.amount_minor + excluded.amount_minor, count = usage.count + excluded.count
"""
ENDS: Final = """
    SELECT * FROM unnest(:lanes::text::uuid[], :lane_seqs::text::bigint[], :lane_hashes::text::text[],
                         :lane_charges::text::bigint[]) AS e (id, seq, hash, charge_seq)
"""


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


WRITE_BATCH = Sql(
    "WITH decided AS (SELECT * FROM unnest("
    + CHARGE_ARRAYS
    + ") AS d ("
    + CHARGE_NAMES
    + ")), gained AS ("
    + GAINED
    + "), ends AS ("
    + ENDS
    + "), opened AS ("
    + OPEN_WINDOWS
    + "),"
    + WRITE_ROWS
    + "SELECT"
)


async def write_batch(conn: Connection, written: Written, *, now: datetime) -> None:
    """Writes charges, usage, audit and outbox in one statement. Nobody is woken: the worker looks every second anyway."""
    await WRITE_BATCH.run(conn, now=now, **rows_of(written))


def rows_of(written: Written, known: Container[CounterKey] = ()) -> dict[str, Any]:
    """What the statements that write are given, by their names for it, without `now`. `known`: windows that have a row."""
    charges, links, uses, lanes = written.charges, written.links, written.uses.values(), list(written.heads)
    places = {lane: place for place, lane in enumerate(lanes, 1)}
    spans: dict[Span, int] = {}
    for use in uses:
        spans.setdefault(use.span, len(spans) + 1)
    return {
        "ids": words([c.id for c in charges]),
        "circles": words([c.circle_id for c in charges]),
        "seqs": numbers(written.seqs),
        "operators": words([c.operator_id for c in charges]),
        "merchants": words([c.merchant_id for c in charges]),
        "terminals": words([c.terminal_id for c in charges]),
        "spenders": words([c.spender_id for c in charges]),
        "mandates": words([c.mandate_id for c in charges]),
        "versions": numbers([c.mandate_version for c in charges]),
        "agreements": words([c.agreement_id for c in charges]),
        "payers": words([c.payer_id for c in charges]),
        "credentials": words([c.credential_id for c in charges]),
        "methods": words([c.method for c in charges]),
        "mccs": words([c.mcc for c in charges]),
        "currencies": words([c.currency for c in charges]),
        "amounts": numbers([c.amount_minor for c in charges]),
        "states": words([c.state for c in charges]),
        "captures": words(["t" if c.capture_at_once else "f" for c in charges]),
        "references": texts([c.reference or "" for c in charges]),
        "refusals": texts([msgspec.json.encode(c.refusal).decode() if c.refusal else "" for c in charges]),
        "fares": numbers([c.fare_minor for c in charges]),
        "faces": texts([msgspec.json.encode(c.face).decode() if c.face else "" for c in charges]),
        "items": texts([_items_json(c.items) if c.items else "" for c in charges]),
        "holds": moments([c.hold_expires_at for c in charges]),
        "link_seqs": numbers([link.seq for link in links]),
        "actors": words([link.actor_id for link in links]),
        "bodies": texts([link.body for link in links]),
        "hashes": words([link.hash.hex() for link in links]),
        "use_lanes": numbers([places[use.circle_id] for use in uses]),
        "use_counters": words([counter_id for counter_id, _ in written.uses]),
        "use_spans": numbers([spans[use.span] for use in uses]),
        "use_amounts": numbers([use.amount_minor for use in uses]),
        "use_counts": numbers([use.count for use in uses]),
        "use_known": words(["t" if key in known else "f" for key in written.uses]),
        "span_starts": moments([span.start for span in spans]),
        "span_ends": moments([span.end for span in spans]),
        "lanes": words(lanes),
        "lane_seqs": numbers([written.heads[lane].seq for lane in lanes]),
        "lane_hashes": words([written.heads[lane].hash.hex() for lane in lanes]),
        "lane_charges": numbers([written.last_seqs[lane] for lane in lanes]),
    }


def _items_json(items: Sequence[Item]) -> str:
    return msgspec.json.encode(items).decode()
