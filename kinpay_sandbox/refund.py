"""A refund: money of one debit going back to its payer, in parts if need be, never more than was debited.

The order of locks is always: the refund's row, the debit's row, the customer's ledger account.
Source: docs/sandbox-bank.md §4.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from kinpay_sandbox import events, ledger
from kinpay_sandbox.agreement import find_agreement
from kinpay_sandbox.books import DEADLINES_CHANNEL, Connection, Pool, Row, new_id, now_utc
from kinpay_sandbox.client import Client
from kinpay_sandbox.customer import find_customer
from kinpay_sandbox.debit import Debit, Whim, find_debit, lock_debit
from kinpay_sandbox.refusal import Refusal, bad_request, not_found
from kinpay_sandbox.wire import Fields

State = Literal["pending", "succeeded", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """One refund, once per (client, key)."""

    refund_id: str
    client_id: str
    key: str
    debit_key: str
    state: State
    failure_code: str | None
    amount_minor: int
    currency: str
    created_at: datetime
    finished_at: datetime | None
    finish_code: str | None

    def as_json(self) -> dict[str, Any]:
        """Write it as the protocol shows it."""
        return {
            "refund_id": self.refund_id,
            "key": self.key,
            "debit_key": self.debit_key,
            "state": self.state,
            "failure": None if self.failure_code is None else {"code": self.failure_code},
            "amount_minor": self.amount_minor,
            "currency": self.currency,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundOrder:
    """The body of `POST /v1/refunds`."""

    key: str
    debit_key: str
    amount_minor: int
    currency: str


def read_refund_order(fields: Fields) -> RefundOrder:
    """Read the body of `POST /v1/refunds`. Raises: Refusal(422, bad_request)."""
    order = RefundOrder(
        key=fields.key(), debit_key=fields.key("debit_key"), amount_minor=fields.amount(), currency=fields.currency()
    )
    fields.done()
    return order


COLUMN_NAMES = """refund_id, client_id, key, debit_key, state, failure_code, amount_minor, currency, created_at, finished_at,
    finish_code"""
SELECT_BY_KEY = f"SELECT {COLUMN_NAMES} FROM refunds WHERE client_id = $1 AND key = $2"


async def find_refund(db: Connection | Pool, client_id: str, *, key: str) -> Refund | None:
    """Return the refund of this key, or None if the key was never received."""
    return _of(await db.fetchrow(SELECT_BY_KEY, client_id, key))


def _of(row: Row | None) -> Refund | None:
    return None if row is None else Refund(**dict(row))


INSERT_REFUND = """
INSERT INTO refunds (refund_id, client_id, key, debit_key, state, amount_minor, currency, created_at)
VALUES ($1, $2, $3, $4, 'pending', $5, $6, $7)
ON CONFLICT (client_id, key) DO NOTHING"""


async def make_refund(conn: Connection, client: Client, *, order: RefundOrder, whim: Whim | None = None) -> Refund:
    """Give money of a debit back, or say why not; a repeated key gets the same refund again and moves nothing.

    Raises: Refusal(404, not_found) for a debit that was never received; Refusal(409, key_reused);
    Refusal(422, bad_request) for another currency. None of them leaves anything behind.
    """
    known = await find_refund(conn, client.client_id, key=order.key)
    if known is not None:
        return _again(known, order)
    debit = await find_debit(conn, client.client_id, key=order.debit_key)
    if debit is None:
        raise not_found()
    if debit.currency is not None and debit.currency != order.currency:
        raise bad_request()
    refund_id = new_id("rf")
    values = (order.debit_key, order.amount_minor, order.currency, now_utc())
    made = await conn.execute(INSERT_REFUND, refund_id, client.client_id, order.key, *values)
    if made != "INSERT 0 1":
        known = await find_refund(conn, client.client_id, key=order.key)
        assert known is not None
        return _again(known, order)
    refund = await _decide(conn, client, refund_id=refund_id, order=order, whim=whim)
    if client.notify_all and refund.state != "pending":
        await events.tell(conn, client.client_id, type=f"refund.{refund.state}", data=refund.as_json())
    return refund


def _again(refund: Refund, order: RefundOrder) -> Refund:
    theirs = (refund.debit_key, refund.amount_minor, refund.currency)
    if theirs != (order.debit_key, order.amount_minor, order.currency):
        raise Refusal(409, "key_reused")
    return refund


RESERVE = "UPDATE debits SET refunding_minor = refunding_minor + $2 WHERE debit_id = $1"
POSTPONE = "UPDATE refunds SET finish_at = $2, finish_code = $3 WHERE refund_id = $1"
WAKE_DEADLINES = f"SELECT pg_notify('{DEADLINES_CHANNEL}', '')"


async def _decide(conn: Connection, client: Client, *, refund_id: str, order: RefundOrder, whim: Whim | None) -> Refund:
    debit = await lock_debit(conn, client.client_id, key=order.debit_key)
    assert debit is not None
    code = None
    if debit.state != "succeeded" or debit.amount_minor is None:
        code = "not_refundable"
    elif debit.refunded_minor + debit.refunding_minor + order.amount_minor > debit.amount_minor:
        code = "over_refund"
    elif whim is not None and not whim.pending:
        code = whim.code or "risk"
    if code is not None:
        return await _finish(conn, refund_id, state="failed", code=code, now=now_utc())
    await conn.execute(RESERVE, debit.debit_id, order.amount_minor)
    if whim is None:
        return await _pay_back(conn, debit, refund_id=refund_id, amount_minor=order.amount_minor)
    await conn.execute(POSTPONE, refund_id, None if whim.after is None else now_utc() + whim.after, whim.code)
    await conn.execute(WAKE_DEADLINES)
    waiting = await find_refund(conn, client.client_id, key=order.key)
    assert waiting is not None
    return waiting


MARK_REFUNDED = """
UPDATE debits SET refunding_minor = refunding_minor - $2, refunded_minor = refunded_minor + $2 WHERE debit_id = $1"""


async def _pay_back(conn: Connection, debit: Debit, *, refund_id: str, amount_minor: int) -> Refund:
    """Move what was reserved on a locked debit from the client's settlement account back to the payer."""
    assert debit.agreement_id is not None
    agreement = await find_agreement(conn, debit.agreement_id)
    assert agreement is not None
    customer = await find_customer(conn, agreement.login)
    assert customer is not None
    await ledger.lock_balance(conn, customer.ledger_account_id)
    now = now_utc()
    movement = ledger.Movement(
        kind="refund",
        reference=refund_id,
        client_id=debit.client_id,
        from_account=agreement.settlement_id,
        to_account=customer.ledger_account_id,
        amount_minor=amount_minor,
        posted_at=now,
    )
    await ledger.post(conn, movement)
    await conn.execute(MARK_REFUNDED, debit.debit_id, amount_minor)
    return await _finish(conn, refund_id, state="succeeded", code=None, now=now)


FINISH = f"""
UPDATE refunds SET state = $2, failure_code = $3, finished_at = $4, finish_at = NULL WHERE refund_id = $1
RETURNING {COLUMN_NAMES}"""


async def _finish(conn: Connection, refund_id: str, *, state: State, code: str | None, now: datetime) -> Refund:
    finished = _of(await conn.fetchrow(FINISH, refund_id, state, code, now))
    assert finished is not None
    return finished


RELEASE = "UPDATE debits SET refunding_minor = refunding_minor - $2 WHERE debit_id = $1"


async def finish_refund(conn: Connection, refund: Refund, *, succeeds: bool, code: str | None = None) -> Refund:
    """Finish a locked pending refund and tell the client. Raises: Refusal(409, not_pending)."""
    if refund.state != "pending":
        raise Refusal(409, "not_pending")
    debit = await lock_debit(conn, refund.client_id, key=refund.debit_key)
    assert debit is not None
    if succeeds:
        finished = await _pay_back(conn, debit, refund_id=refund.refund_id, amount_minor=refund.amount_minor)
    else:
        await conn.execute(RELEASE, debit.debit_id, refund.amount_minor)
        finished = await _finish(conn, refund.refund_id, state="failed", code=code or "risk", now=now_utc())
    await events.tell(conn, refund.client_id, type=f"refund.{finished.state}", data=finished.as_json())
    return finished


LOCK_OF_ANYBODY = f"""
SELECT {COLUMN_NAMES} FROM refunds WHERE key = $1 AND ($2::text IS NULL OR client_id = $2) FOR NO KEY UPDATE"""


async def lock_refund_of_anybody(conn: Connection, key: str, *, client_id: str | None) -> Refund:
    """Lock the one refund of this key, for the control. Raises: Refusal(404, not_found), Refusal(409, ambiguous)."""
    rows = await conn.fetch(LOCK_OF_ANYBODY, key, client_id)
    if len(rows) > 1:
        raise Refusal(409, "ambiguous")
    refund = _of(rows[0]) if rows else None
    if refund is None:
        raise not_found()
    return refund
