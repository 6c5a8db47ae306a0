"""Past charges in bulk: by set-based statements, with every row that a till's charge leaves behind, so that the audit passes.

They are reservations of the last six days that are still open: charge, request key, burnt pay code, outbox message (delivered),
link of the audit chain, usage of every window, and the ends of sequence and chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from bench.circles import HOLD_S, World
from kinpay.charges.charge import ChargeState
from kinpay.charges.kept import audited
from kinpay.charges.request import Charge
from tests.charges.seeds import Family

AMOUNT_MINOR: Final = 100
_SPREAD: Final = timedelta(days=6)
_HOLD_MARK: Final = "@hold@"
_COLUMNS: Final = ("n", "circle_id", "spender_id", "payer_id", "mandate_id", "agreement_id", "credential_id", "body")

PAST = """
    CREATE TEMP TABLE past (n int, circle_id uuid PRIMARY KEY, spender_id uuid, payer_id uuid, mandate_id uuid,
                            agreement_id uuid, credential_id uuid, body text)
"""
# One charge in each circle. The link's text is the one of `database.audit.link_hash`; a wrong letter fails the audit.
ONE_EACH = """
    WITH made AS (
        SELECT p.*, uuidv7($1::timestamptz - now()) AS id, l.seq + 1 AS seq, l.charge_seq + 1 AS charge_seq, l.hash AS last,
               $1::timestamptz + make_interval(secs => (p.n % 900000 + 1) / 1e6) AS at
        FROM past p JOIN audit_lane l ON l.id = p.circle_id
    ), charges AS (
        INSERT INTO charge (id, circle_id, seq, operator_id, merchant_id, terminal_id, spender_id, mandate_id, mandate_version,
                            agreement_id, payer_id, credential_id, method, mcc, currency, amount_minor, state, capture_at_once,
                            decided_at, hold_expires_at)
        SELECT id, circle_id, charge_seq, $2::uuid, $3::uuid, $4::uuid, spender_id, mandate_id, 1, agreement_id, payer_id,
               credential_id, 'pay_code', $5, 'CNY', $6::bigint, 'held', false, at, at + make_interval(secs => $7::int)
        FROM made
    ), keys AS (
        INSERT INTO request_key (principal_id, operation, key, fingerprint, charge_id, circle_id, created_at)
        SELECT $4::uuid, 'charge', replace(gen_random_uuid()::text, '-', ''), sha256(uuid_send(id)), id, circle_id, at FROM made
    ), codes AS (
        INSERT INTO burnt_code (id, kind, terminal_id, charge_id, expires_at, burnt_at)
        SELECT uuidv7($1::timestamptz - now()), 'pay', $4::uuid, id, at + interval '1 minute', at FROM made
    ), told AS (
        INSERT INTO outbox (lane, topic, subject_id, created_at, available_at, done_at)
        SELECT circle_id, 'charge.held', id, at, at, at FROM made
    ), worded AS (
        SELECT m.*, replace(body, '@hold@', to_char((at + make_interval(secs => $7::int)) AT TIME ZONE 'UTC',
                                                    'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')) AS said FROM made m
    ), hashed AS (
        SELECT w.*, sha256(last || convert_to(
            replace(circle_id::text, '-', '') || E'\\n' || seq || E'\\n'
            || to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || E'\\ncharge.held\\n'
            || replace(id::text, '-', '') || E'\\n' || replace($4::uuid::text, '-', '') || E'\\n' || said, 'UTF8')) AS hash
        FROM worded w
    ), links AS (
        INSERT INTO audit_event (lane, seq, at, kind, subject_id, actor_id, body, hash)
        SELECT circle_id, seq, at, 'charge.held', id, $4::uuid, said, hash FROM hashed
    )
    UPDATE audit_lane l SET seq = h.seq, hash = h.hash, charge_seq = h.charge_seq FROM hashed h WHERE l.id = h.circle_id
"""
COUNT_ALL = """
    INSERT INTO usage (circle_id, counter_id, window_start, window_end, amount_minor, count)
    SELECT w.circle_id, w.counter_id, w.wall AT TIME ZONE w.time_zone,
           (w.wall + ('1 ' || w.period)::interval) AT TIME ZONE w.time_zone, sum(w.amount_minor), count(*)
    FROM (SELECT h.circle_id, k.id AS counter_id, k.period, c.time_zone, h.amount_minor,
                 date_trunc(k.period, h.decided_at AT TIME ZONE c.time_zone) AS wall
          FROM charge h JOIN circle c ON c.id = h.circle_id
          JOIN counter k ON k.scope = 'mandate' AND k.scope_id = h.mandate_id) w
    GROUP BY 1, 2, 3, 4
"""


async def load_history(conn: Any, world: World, count: int) -> None:
    """Writes `count` past charges, the same number (give or take one) in each circle, into a database that has none."""
    now: datetime = (await conn.fetchval("SELECT kinpay_now()")).replace(microsecond=0)
    rounds = max(1, -(-count // len(world.families)))
    shop = world.shop
    await conn.execute(PAST)
    left = count
    for number in range(rounds):
        circles = min(len(world.families), left)
        left -= circles
        if number == 0 or circles < len(world.families):
            await _name(conn, world, world.families[:circles], now)
        at = now - _SPREAD + _SPREAD / (rounds + 1) * (number + 1)
        arguments = (shop.operator_id, shop.merchant_id, shop.terminal_id, shop.mcc, AMOUNT_MINOR, HOLD_S)
        await conn.execute(ONE_EACH, at, *arguments)
    await conn.execute("DROP TABLE past")
    await conn.execute(COUNT_ALL)
    await conn.execute("VACUUM (FREEZE, ANALYZE)")


async def _name(conn: Any, world: World, families: Sequence[Family], now: datetime) -> None:
    """Writes down whose charges are made next."""
    await conn.execute("TRUNCATE past")
    rows = [
        (n, f.circle_id, f.spender_id, f.payer_id, f.mandate_id, f.agreement_id, f.credential_id, _body(world, f, now))
        for n, f in enumerate(families)
    ]
    await conn.copy_records_to_table("past", records=rows, columns=_COLUMNS)
    await conn.execute("ANALYZE past")


def _body(world: World, family: Family, now: datetime) -> str:
    """What the audit keeps of such a charge, as the batch itself would word it, but for the end of the hold."""
    shop = world.shop
    charge = Charge(
        id=family.circle_id, circle_id=family.circle_id, operator_id=shop.operator_id, merchant_id=shop.merchant_id,
        terminal_id=shop.terminal_id, spender_id=family.spender_id, mandate_id=family.mandate_id, mandate_version=1,
        agreement_id=family.agreement_id, payer_id=family.payer_id, credential_id=family.credential_id, method="pay_code",
        mcc=shop.mcc, currency="CNY", amount_minor=AMOUNT_MINOR, captured_minor=None, refunded_minor=0, state=ChargeState.HELD,
        capture_at_once=False, delivered=False, void_requested=False, late=False, reference=None, refusal=None,
        decided_at=now, hold_expires_at=now, finished_at=None,
    )  # fmt: skip
    kept = audited(charge)
    if kept.hold_expires_at is not None:
        kept.hold_expires_at = _HOLD_MARK
    return msgspec.json.encode(kept, order="sorted").decode()
