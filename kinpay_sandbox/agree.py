"""The life of an agreement: asked for, signed or refused, ended or run out.

Every step locks the agreement, moves it, and tells the client in the same transaction.
Source: docs/sandbox-bank.md §3, §5.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from datetime import datetime, timedelta
from typing import Any, Literal

from kinpay_sandbox import events, ledger
from kinpay_sandbox.agreement import Agreement, find_agreement, find_agreement_by_key, lock_agreement
from kinpay_sandbox.books import DEADLINES_CHANNEL, Connection, new_id, now_utc
from kinpay_sandbox.client import Client, business_types_of, check_url
from kinpay_sandbox.customer import find_customer
from kinpay_sandbox.refusal import Refusal, bad_request, not_found
from kinpay_sandbox.spender import INSERT_SPENDER, read_spender
from kinpay_sandbox.wire import Fields

APPROVAL_LIFE = timedelta(minutes=15)


def _read_request(fields: Fields) -> dict[str, Any]:
    """Read the body of `POST /v1/agreements` into plain values (what the same key must repeat)."""
    limits = fields.inside("limits")
    asked: dict[str, Any] = {
        "key": fields.key(),
        "payer_account": fields.text("payer_account", longest=64),
        "account": fields.text("account", longest=64),
        "business_type": fields.text("business_type", longest=64),
        "per_debit_minor": limits.amount_or_none("per_debit_minor"),
        "per_day_minor": limits.amount_or_none("per_day_minor"),
        "currency": limits.currency(),
        "valid_until": fields.time_or_none("valid_until"),
        "return_url": check_url(fields.text("return_url", longest=1000)),
        "spender": None if fields.absent("spender") else read_spender(fields.inside("spender")),
    }
    limits.done()
    fields.done()
    return asked


INSERT_AGREEMENT = """
INSERT INTO agreements (agreement_id, client_id, key, request_hash, state, login, account, business_type, per_debit_minor,
    per_day_minor, currency, valid_until, return_url, approve_token, created_at, expires_at, settlement_id)
VALUES ($1, $2, $3, $4, 'pending', $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
ON CONFLICT (client_id, key) DO NOTHING"""
WAKE_DEADLINES = f"SELECT pg_notify('{DEADLINES_CHANNEL}', '')"


async def request_agreement(conn: Connection, client: Client, *, fields: Fields) -> tuple[Agreement, bool]:
    """Put an agreement before the payer and tell whether it is new; the same key and body is the same agreement.

    Raises: Refusal(409, key_reused); Refusal(422, unknown_payer_account | unknown_account | business_type_not_allowed |
    account_frozen | return_url_not_allowed | bad_request), which leave nothing behind.
    """
    asked = _read_request(fields)
    request_hash = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()
    known = await find_agreement_by_key(conn, client.client_id, key=asked["key"])
    if known is None:
        agreement_id = await _insert(conn, client, asked=asked, request_hash=request_hash)
        if agreement_id is not None:
            made = await find_agreement(conn, agreement_id)
            assert made is not None
            return made, True
        known = await find_agreement_by_key(conn, client.client_id, key=asked["key"])
        assert known is not None
    if known.request_hash != request_hash:
        raise Refusal(409, "key_reused")
    return known, False


async def _insert(conn: Connection, client: Client, *, asked: dict[str, Any], request_hash: str) -> str | None:
    customer = await find_customer(conn, asked["payer_account"])
    if customer is None:
        raise Refusal(422, "unknown_payer_account")
    business_types = await business_types_of(conn, client, account=asked["account"])
    if business_types is None:
        raise Refusal(422, "unknown_account")
    if asked["business_type"] not in business_types:
        raise Refusal(422, "business_type_not_allowed")
    if customer.frozen:
        raise Refusal(422, "account_frozen")
    now = now_utc()
    if customer.currency != asked["currency"] or (asked["valid_until"] is not None and asked["valid_until"] <= now):
        raise bad_request()
    if not client.takes_back_at(asked["return_url"]):
        raise Refusal(422, "return_url_not_allowed")
    owner = f"{client.client_id}/{asked['account']}"
    settlement = await ledger.open_account(conn, "settlement", owner=owner, currency=asked["currency"])
    agreement_id = new_id("ag")
    values = (
        asked["account"],
        asked["business_type"],
        asked["per_debit_minor"],
        asked["per_day_minor"],
        asked["currency"],
    )
    made = await conn.execute(
        INSERT_AGREEMENT,
        agreement_id,
        client.client_id,
        asked["key"],
        request_hash,
        customer.login,
        *values,
        asked["valid_until"],
        asked["return_url"],
        secrets.token_urlsafe(32),
        now,
        now + APPROVAL_LIFE,
        settlement,
    )
    if made != "INSERT 0 1":
        return None
    if asked["spender"] is not None:
        await conn.execute(INSERT_SPENDER, agreement_id, *asked["spender"])
    await conn.execute(WAKE_DEADLINES)
    return agreement_id


MOVE = """
UPDATE agreements SET state = $2, ended_by = $3, end_reason = $4, signed_at = coalesce(signed_at, $5)
WHERE agreement_id = $1"""


async def _move(
    conn: Connection,
    agreement: Agreement,
    *,
    state: Literal["active", "refused", "expired", "ended"],
    ended_by: str | None = None,
    reason: str | None = None,
    signed_at: datetime | None = None,
    base_url: str,
    quietly: bool = False,
) -> Agreement:
    await conn.execute(MOVE, agreement.agreement_id, state, ended_by, reason, signed_at)
    if state == "active":
        await conn.execute(WAKE_DEADLINES)
    moved = await find_agreement(conn, agreement.agreement_id)
    assert moved is not None
    if not quietly:
        await events.tell(conn, moved.client_id, type=f"agreement.{state}", data=moved.as_json(base_url))
    return moved


async def answer_agreement(conn: Connection, agreement_id: str, *, login: str, agrees: bool, base_url: str) -> Agreement:
    """Record what the payer decided on the bank's own page; a second decision changes nothing.

    Raises: Refusal(404, not_found) for anybody but the payer; Refusal(422, account_frozen).
    """
    agreement = await lock_agreement(conn, agreement_id)
    if agreement is None or agreement.login != login:
        raise not_found()
    now = now_utc()
    if agreement.state != "pending":
        return agreement
    if agreement.expires_at <= now:
        return await _move(conn, agreement, state="expired", base_url=base_url)
    if not agrees:
        return await _move(conn, agreement, state="refused", base_url=base_url)
    customer = await find_customer(conn, login)
    if customer is None or customer.frozen:
        raise Refusal(422, "account_frozen")
    return await _move(conn, agreement, state="active", signed_at=now, base_url=base_url)


async def end_agreement(
    conn: Connection,
    agreement: Agreement | None,
    *,
    by: Literal["client", "payer", "bank"],
    reason: str,
    base_url: str,
    quietly: bool = False,
) -> Agreement:
    """End a locked agreement; one that is over is returned as it is. Raises: Refusal(404, not_found)."""
    if agreement is None:
        raise not_found()
    if agreement.state not in ("pending", "active"):
        return agreement
    return await _move(conn, agreement, state="ended", ended_by=by, reason=reason, base_url=base_url, quietly=quietly)


async def lapse_agreement(
    conn: Connection, agreement_id: str, *, base_url: str, now: datetime, early: bool = False
) -> Agreement:
    """Let an agreement run out if its time has come (`early`: now, whatever its time). Raises: Refusal(404, not_found)."""
    agreement = await lock_agreement(conn, agreement_id)
    if agreement is None:
        raise not_found()
    late = {
        "pending": agreement.expires_at <= now,
        "active": agreement.valid_until is not None and agreement.valid_until <= now,
    }
    if agreement.state in late and (early or late[agreement.state]):
        return await _move(conn, agreement, state="expired", base_url=base_url)
    return agreement
