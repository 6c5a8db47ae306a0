"""A debit: one withdrawal from a payer under an agreement, once per (client, key), for ever.

The order of locks is always: the debit's row, the agreement, the customer's ledger account.
Source: docs/sandbox-bank.md §4; CN109191092A [0032].
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal

from kinpay_sandbox import events, ledger
from kinpay_sandbox.agreement import Agreement, find_agreement, lock_agreement
from kinpay_sandbox.books import DEADLINES_CHANNEL, Connection, Pool, Row, new_id, now_utc, stamp
from kinpay_sandbox.client import Client
from kinpay_sandbox.customer import Customer, find_customer
from kinpay_sandbox.refusal import Refusal, bad_request, not_found
from kinpay_sandbox.wire import REF, Fields

State = Literal["pending", "succeeded", "failed", "cancelled"]
FAILURE_CODES = frozenset(
    {
        "insufficient_funds",
        "limit_exceeded",
        "agreement_inactive",
        "spender_removed",
        "account_frozen",
        "risk",
        "closed",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Debit:
    """One debit; a tombstone (a key closed before anything came) has no agreement and no amount."""

    debit_id: str
    client_id: str
    key: str
    state: State
    failure_code: str | None
    agreement_id: str | None
    spender_ref: str | None
    amount_minor: int | None
    currency: str | None
    description: str
    refunded_minor: int
    refunding_minor: int
    created_at: datetime
    finished_at: datetime | None
    finish_code: str | None

    def as_json(self) -> dict[str, Any]:
        """Write it as the protocol shows it."""
        return {
            "debit_id": self.debit_id,
            "key": self.key,
            "state": self.state,
            "failure": None if self.failure_code is None else {"code": self.failure_code},
            "amount_minor": self.amount_minor,
            "currency": self.currency,
            "agreement_id": self.agreement_id,
            "spender_ref": self.spender_ref,
            "description": self.description,
            "refunded_minor": self.refunded_minor,
            "created_at": stamp(self.created_at),
            "finished_at": stamp(self.finished_at),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The body of `POST /v1/debits`."""

    key: str
    agreement_id: str
    spender_ref: str | None
    amount_minor: int
    currency: str
    description: str

    def is_of(self, debit: Debit) -> bool:
        """Tell whether an earlier debit of this key was ordered in the same words."""
        mine = (self.agreement_id, self.spender_ref, self.amount_minor, self.currency, self.description)
        theirs = (debit.agreement_id, debit.spender_ref, debit.amount_minor, debit.currency, debit.description)
        return mine == theirs


@dataclass(frozen=True, slots=True, kw_only=True)
class Whim:
    """What a fault makes of the next debit or refund: refused, or accepted now and finished later."""

    pending: bool
    after: timedelta | None
    code: str | None


def read_order(fields: Fields) -> Order:
    """Read the body of `POST /v1/debits`. Raises: Refusal(422, bad_request)."""
    order = Order(
        key=fields.key(),
        agreement_id=fields.text("agreement_id", longest=64),
        spender_ref=None if fields.absent("spender_ref") else fields.matching("spender_ref", REF),
        amount_minor=fields.amount(),
        currency=fields.currency(),
        description=fields.text("description", longest=200, shortest=0),
    )
    fields.done()
    return order


COLUMNS = """
SELECT debit_id, client_id, key, state, failure_code, agreement_id, spender_ref, amount_minor, currency, description,
    refunded_minor, refunding_minor, created_at, finished_at, finish_code
FROM debits """

SELECT_BY_KEY = COLUMNS + "WHERE client_id = $1 AND key = $2"


async def find_debit(db: Connection | Pool, client_id: str, *, key: str) -> Debit | None:
    """Return the debit (or tombstone) of this key, or None if the key was never received."""
    return _of(await db.fetchrow(SELECT_BY_KEY, client_id, key))


def _of(row: Row | None) -> Debit | None:
    return None if row is None else Debit(**dict(row))


LOCK_BY_KEY = SELECT_BY_KEY + " FOR NO KEY UPDATE"


async def lock_debit(conn: Connection, client_id: str, *, key: str) -> Debit | None:
    """Lock the debit of this key until the transaction ends; None if there is none."""
    return _of(await conn.fetchrow(LOCK_BY_KEY, client_id, key))


INSERT_DEBIT = """
INSERT INTO debits (debit_id, client_id, key, state, agreement_id, spender_ref, amount_minor, currency, description, created_at)
VALUES ($1, $2, $3, 'pending', $4, $5, $6, $7, $8, $9)
ON CONFLICT (client_id, key) DO NOTHING"""


async def make_debit(conn: Connection, client: Client, *, order: Order, whim: Whim | None = None) -> Debit:
    """Debit the payer, or say why not; a repeated key gets the same debit again and moves nothing.

    The row is written before anything is decided: whoever comes second with the key waits for the first to commit.
    Raises: Refusal(409, key_reused), Refusal(422, unknown_agreement | bad_request), leaving nothing behind.
    """
    known = await find_debit(conn, client.client_id, key=order.key)
    if known is not None:
        return _again(known, order)
    agreement = await find_agreement(conn, order.agreement_id, client_id=client.client_id)
    if agreement is None:
        raise Refusal(422, "unknown_agreement")
    if order.currency != agreement.currency:
        raise bad_request()
    debit_id = new_id("db")
    values = (order.agreement_id, order.spender_ref, order.amount_minor, order.currency, order.description)
    made = await conn.execute(INSERT_DEBIT, debit_id, client.client_id, order.key, *values, now_utc())
    if made != "INSERT 0 1":
        known = await find_debit(conn, client.client_id, key=order.key)
        assert known is not None
        return _again(known, order)
    locked = await lock_agreement(conn, order.agreement_id)
    assert locked is not None
    debit = await _decide(conn, locked, debit_id=debit_id, order=order, whim=whim)
    if client.notify_all and debit.state != "pending":
        await events.tell(conn, client.client_id, type=f"debit.{debit.state}", data=debit.as_json())
    return debit


def _again(debit: Debit, order: Order) -> Debit:
    if debit.agreement_id is None:  # a tombstone: this key was closed for good, whatever comes with it
        return Debit(
            debit_id=debit.debit_id,
            client_id=debit.client_id,
            key=debit.key,
            state="failed",
            failure_code="closed",
            agreement_id=order.agreement_id,
            spender_ref=order.spender_ref,
            amount_minor=order.amount_minor,
            currency=order.currency,
            description=order.description,
            refunded_minor=0,
            refunding_minor=0,
            created_at=debit.created_at,
            finished_at=debit.finished_at,
            finish_code=None,
        )
    if not order.is_of(debit):
        raise Refusal(409, "key_reused")
    return debit


FINISH = """
UPDATE debits SET state = $2, failure_code = $3, finished_at = $4, finish_at = NULL WHERE debit_id = $1
RETURNING debit_id, client_id, key, state, failure_code, agreement_id, spender_ref, amount_minor, currency, description,
    refunded_minor, refunding_minor, created_at, finished_at, finish_code"""
POSTPONE = "UPDATE debits SET finish_at = $2, finish_code = $3, counted_on = $4 WHERE debit_id = $1"
WAKE_DEADLINES = f"SELECT pg_notify('{DEADLINES_CHANNEL}', '')"


async def _decide(conn: Connection, agreement: Agreement, *, debit_id: str, order: Order, whim: Whim | None) -> Debit:
    """Finish a debit whose agreement is locked, or (by a whim) hold its money and leave it pending."""
    customer = await find_customer(conn, agreement.login)
    assert customer is not None
    balance_minor = await ledger.lock_balance(conn, customer.ledger_account_id)
    now = now_utc()
    code = _standing(agreement, customer, order=order, now=now)
    if code is None and balance_minor < order.amount_minor:
        code = "insufficient_funds"
    if code is None and whim is not None and not whim.pending:
        code = whim.code or "risk"
    if code is None and not await _use_day(conn, agreement, amount_minor=order.amount_minor, day=now.date()):
        code = "limit_exceeded"
    if code is not None:
        return await _finish(conn, debit_id, state="failed", code=code, now=now)
    if whim is None:
        await _move_money(conn, agreement, customer, debit_id=debit_id, kind="debit", amount_minor=order.amount_minor, now=now)
        return await _finish(conn, debit_id, state="succeeded", code=None, now=now)
    await _move_money(conn, agreement, customer, debit_id=debit_id, kind="hold", amount_minor=order.amount_minor, now=now)
    await conn.execute(POSTPONE, debit_id, None if whim.after is None else now + whim.after, whim.code, now.date())
    await conn.execute(WAKE_DEADLINES)
    held = await find_debit(conn, agreement.client_id, key=order.key)
    assert held is not None
    return held


def _standing(agreement: Agreement, customer: Customer, *, order: Order, now: datetime) -> str | None:
    """Return why this order may not be debited, whatever there is on the account; None if it may."""
    if not agreement.is_active(now):
        return "agreement_inactive"
    if order.spender_ref is not None:
        spender = agreement.spender(order.spender_ref)
        if spender is None or spender.state != "active":
            return "spender_removed"
    if customer.frozen:
        return "account_frozen"
    if agreement.per_debit_minor is not None and order.amount_minor > agreement.per_debit_minor:
        return "limit_exceeded"
    return None


USE_DAY = """
INSERT INTO agreement_days AS d (agreement_id, day, debited_minor) SELECT $1, $2, $3 WHERE $3 <= $4::bigint
ON CONFLICT (agreement_id, day) DO UPDATE SET debited_minor = d.debited_minor + $3 WHERE d.debited_minor + $3 <= $4"""


async def _use_day(conn: Connection, agreement: Agreement, *, amount_minor: int, day: date) -> bool:
    """Count the amount towards the agreement's UTC day; False if it would go over the daily limit."""
    if agreement.per_day_minor is None:
        return True
    done = await conn.execute(USE_DAY, agreement.agreement_id, day, amount_minor, agreement.per_day_minor)
    return bool(done == "INSERT 0 1")


GIVE_DAY_BACK = """
UPDATE agreement_days d SET debited_minor = d.debited_minor - debits.amount_minor
FROM debits WHERE debits.debit_id = $1 AND d.agreement_id = debits.agreement_id AND d.day = debits.counted_on"""


async def _move_money(
    conn: Connection,
    agreement: Agreement,
    customer: Customer,
    *,
    debit_id: str,
    kind: Literal["debit", "hold", "capture", "release"],
    amount_minor: int,
    now: datetime,
) -> None:
    payer, settlement = customer.ledger_account_id, agreement.settlement_id
    if kind == "debit":
        giver, taker = payer, settlement
    else:
        clearing = await ledger.open_account(conn, "clearing", owner="bank", currency=agreement.currency)
        routes = {"hold": (payer, clearing), "capture": (clearing, settlement), "release": (clearing, payer)}
        giver, taker = routes[kind]
    movement = ledger.Movement(
        kind=kind,
        reference=debit_id,
        client_id=agreement.client_id,
        from_account=giver,
        to_account=taker,
        amount_minor=amount_minor,
        posted_at=now,
    )
    await ledger.post(conn, movement)


async def _finish(conn: Connection, debit_id: str, *, state: State, code: str | None, now: datetime) -> Debit:
    finished = _of(await conn.fetchrow(FINISH, debit_id, state, code, now))
    assert finished is not None
    return finished


async def finish_debit(conn: Connection, debit: Debit, *, state: State, code: str | None = None) -> Debit:
    """Finish a locked pending debit, give back what it held unless it succeeded, and tell the client.

    Raises: Refusal(409, not_pending).
    """
    if debit.state != "pending" or debit.agreement_id is None or debit.amount_minor is None:
        raise Refusal(409, "not_pending")
    agreement = await lock_agreement(conn, debit.agreement_id)
    assert agreement is not None
    customer = await find_customer(conn, agreement.login)
    assert customer is not None
    await ledger.lock_balance(conn, customer.ledger_account_id)
    now = now_utc()
    kind: Literal["capture", "release"] = "capture" if state == "succeeded" else "release"
    await _move_money(conn, agreement, customer, debit_id=debit.debit_id, kind=kind, amount_minor=debit.amount_minor, now=now)
    if kind == "release" and agreement.per_day_minor is not None:
        await conn.execute(GIVE_DAY_BACK, debit.debit_id)
    failure = (code or "risk") if state == "failed" else None
    finished = await _finish(conn, debit.debit_id, state=state, code=failure, now=now)
    await events.tell(conn, debit.client_id, type=f"debit.{state}", data=finished.as_json())
    return finished


INSERT_TOMBSTONE = """
INSERT INTO debits (debit_id, client_id, key, state, description, created_at, finished_at)
VALUES ($1, $2, $3, 'cancelled', '', $4, $4)
ON CONFLICT (client_id, key) DO NOTHING"""


async def cancel_debit(conn: Connection, client: Client, *, key: str) -> Debit:
    """Make the key's story final: pending is cancelled, finished stands, never received is closed for good."""
    await conn.execute(INSERT_TOMBSTONE, new_id("db"), client.client_id, key, now_utc())
    debit = await lock_debit(conn, client.client_id, key=key)
    assert debit is not None
    return await finish_debit(conn, debit, state="cancelled") if debit.state == "pending" else debit


LOCK_PENDING = COLUMNS + "WHERE key = $1 AND ($2::text IS NULL OR client_id = $2) FOR NO KEY UPDATE"


async def lock_debit_of_anybody(conn: Connection, key: str, *, client_id: str | None) -> Debit:
    """Lock the one debit of this key, for the control. Raises: Refusal(404, not_found), Refusal(409, ambiguous)."""
    rows = await conn.fetch(LOCK_PENDING, key, client_id)
    if len(rows) > 1:
        raise Refusal(409, "ambiguous")
    debit = _of(rows[0]) if rows else None
    if debit is None:
        raise not_found()
    return debit
