"""A customer of the bank: somebody with money, a login and a password.

Source: docs/sandbox-bank.md §1.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta

from kinpay_sandbox import ledger
from kinpay_sandbox.books import Connection, Pool, new_id, now_utc
from kinpay_sandbox.refusal import Refusal, bad_request, not_found
from kinpay_sandbox.wire import Fields

FAILURES_BEFORE_PAUSE = 5
PAUSE = timedelta(seconds=60)
SCRYPT_COST = 2**14
NO_PASSWORD = "00" * 16 + ":" + "00" * 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """A payer, as the bank knows them; `payer_account_id` is given out only after their signature."""

    login: str
    name: str
    payer_account_id: str
    currency: str
    frozen: bool
    ledger_account_id: int
    balance_minor: int


def _hash(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=SCRYPT_COST, r=8, p=1, dklen=32)


def _seal_password(password: str) -> str:
    salt = secrets.token_bytes(16)
    return salt.hex() + ":" + _hash(password, salt).hex()


def _opens(password: str, sealed: str) -> bool:
    salt, _, wanted = sealed.partition(":")
    return hmac.compare_digest(_hash(password, bytes.fromhex(salt)).hex(), wanted)


INSERT_CUSTOMER = """
INSERT INTO customers (login, name, password_hash, payer_account_id, currency, ledger_account_id)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (login) DO NOTHING"""


async def open_customer(conn: Connection, fields: Fields) -> tuple[str, str]:
    """Open an account with money on it; return the login and the payer account id.

    Raises: Refusal(409, login_taken), Refusal(422, bad_request).
    """
    login = fields.text("login", longest=64)
    password = fields.text("password", longest=200)
    name = fields.text("name", longest=100)
    balance_minor = fields.whole("balance_minor")
    currency = "CNY" if fields.absent("currency") else fields.currency()
    fields.done()
    sealed = await asyncio.to_thread(_seal_password, password)
    account = await ledger.open_account(conn, "customer", owner=login, currency=currency)
    payer_account_id = new_id("pa")
    made = await conn.execute(INSERT_CUSTOMER, login, name, sealed, payer_account_id, currency, account)
    if made != "INSERT 0 1":
        raise Refusal(409, "login_taken")
    await _set_balance(conn, login, account=account, currency=currency, balance_minor=balance_minor)
    return login, payer_account_id


async def _set_balance(conn: Connection, login: str, *, account: int, currency: str, balance_minor: int) -> None:
    """Bring money in from the vault, or carry it out, until the account shows `balance_minor`."""
    difference = balance_minor - await ledger.lock_balance(conn, account)
    if difference == 0:
        return
    vault = await ledger.open_account(conn, "vault", owner="bank", currency=currency)
    giver, taker = (vault, account) if difference > 0 else (account, vault)
    movement = ledger.Movement(
        kind="adjustment",
        reference=login,
        client_id=None,
        from_account=giver,
        to_account=taker,
        amount_minor=abs(difference),
        posted_at=now_utc(),
    )
    await ledger.post(conn, movement)


FREEZE = "UPDATE customers SET frozen = $2 WHERE login = $1"


async def change_customer(conn: Connection, login: str, *, fields: Fields) -> Customer:
    """Set a customer's balance or freeze them, and return them as they are then. Raises: Refusal(404 | 422)."""
    balance_minor = None if fields.absent("balance_minor") else fields.whole("balance_minor")
    frozen = fields.yes("frozen") if fields.has("frozen") else None
    fields.absent("frozen")
    fields.done()
    customer = await find_customer(conn, login)
    if customer is None:
        raise not_found()
    if balance_minor is not None:
        account = customer.ledger_account_id
        await _set_balance(conn, login, account=account, currency=customer.currency, balance_minor=balance_minor)
    if frozen is not None:
        await conn.execute(FREEZE, login, frozen)
    changed = await find_customer(conn, login)
    assert changed is not None
    return changed


SELECT_CUSTOMER = """
SELECT c.login, c.name, c.payer_account_id, c.currency, c.frozen, c.ledger_account_id, l.balance_minor
FROM customers c JOIN ledger_accounts l USING (ledger_account_id) WHERE c.login = $1"""


async def find_customer(db: Connection | Pool, login: str) -> Customer | None:
    """Return the customer, or None."""
    row = await db.fetchrow(SELECT_CUSTOMER, login)
    return None if row is None else Customer(**dict(row))


SELECT_SEALED = "SELECT password_hash FROM customers WHERE login = $1"
COUNT_TRY = """
INSERT INTO login_failures AS f (login, failures, paused_until) VALUES ($1, 1, now() + $2)
ON CONFLICT (login) DO UPDATE SET
    failures = CASE WHEN f.paused_until < now() THEN 1 ELSE f.failures + 1 END,
    paused_until = CASE WHEN f.failures >= $3 AND f.paused_until >= now() THEN f.paused_until ELSE now() + $2 END
RETURNING failures"""
FORGET_FAILURES = "DELETE FROM login_failures WHERE login = $1"


async def check_password(db: Pool, login: str, *, password: str) -> bool:
    """Tell whether this is the customer's password; a guess at nobody's login costs the same work.

    A try is counted before the password is looked at, so that guesses made at once are counted too.
    Raises: Refusal(429, paused) after five failures, for a minute, even with the right password.
    """
    if len(login) > 64 or len(password) > 200 or "\x00" in login:
        raise bad_request()
    if await db.fetchval(COUNT_TRY, login, PAUSE, FAILURES_BEFORE_PAUSE) > FAILURES_BEFORE_PAUSE:
        raise Refusal(429, "paused")
    sealed = await db.fetchval(SELECT_SEALED, login)
    right = await asyncio.to_thread(_opens, password, sealed or NO_PASSWORD)
    if not right or sealed is None:
        return False
    await db.execute(FORGET_FAILURES, login)
    return True
