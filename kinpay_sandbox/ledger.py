"""The bank's own double-entry ledger: every movement is an entry whose postings sum to nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from kinpay_sandbox.books import Connection

EntryKind = Literal["adjustment", "debit", "hold", "capture", "release", "refund"]
AccountKind = Literal["customer", "settlement", "clearing", "vault"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """`amount_minor` leaves one ledger account and reaches another, because of `reference` (a debit, a refund, a login)."""

    kind: EntryKind
    reference: str
    client_id: str | None
    from_account: int
    to_account: int
    amount_minor: int
    posted_at: datetime


OPEN_ACCOUNT = """
WITH made AS (
    INSERT INTO ledger_accounts (kind, owner, currency, balance_minor)
    VALUES ($1, $2, $3, CASE WHEN $1 = 'customer' THEN 0 END)
    ON CONFLICT (kind, owner, currency) DO NOTHING
    RETURNING ledger_account_id)
SELECT ledger_account_id FROM made
UNION ALL
SELECT ledger_account_id FROM ledger_accounts WHERE kind = $1 AND owner = $2 AND currency = $3
LIMIT 1"""


async def open_account(conn: Connection, kind: AccountKind, *, owner: str, currency: str) -> int:
    """Return the number of the ledger account of `owner`, opening it when there is none."""
    number = await conn.fetchval(OPEN_ACCOUNT, kind, owner, currency)
    if number is None:  # another transaction opened it between the two halves of the statement
        number = await conn.fetchval(OPEN_ACCOUNT, kind, owner, currency)
    return int(number)


LOCK_BALANCE = "SELECT balance_minor FROM ledger_accounts WHERE ledger_account_id = $1 FOR NO KEY UPDATE"


async def lock_balance(conn: Connection, account: int) -> int:
    """Lock a customer's ledger account until the transaction ends and return what is on it, in minor units."""
    return int(await conn.fetchval(LOCK_BALANCE, account))


WRITE_MOVEMENT = """
WITH entry AS (
    INSERT INTO entries (kind, client_id, reference, posted_at) VALUES ($1, $2, $3, $4) RETURNING entry_id),
lines AS (
    INSERT INTO postings (entry_id, ledger_account_id, amount_minor)
    SELECT entry_id, line.account, line.amount
    FROM entry, (VALUES ($5::bigint, -$7::bigint), ($6::bigint, $7::bigint)) line (account, amount))
UPDATE ledger_accounts SET balance_minor = balance_minor + CASE ledger_account_id WHEN $5 THEN -$7::bigint ELSE $7::bigint END
WHERE ledger_account_id IN ($5, $6) AND kind = 'customer'"""


async def post(conn: Connection, movement: Movement) -> None:
    """Write one balanced entry and move the customer's balance with it.

    The caller holds the customer's lock (`lock_balance`); the database refuses an overdraft and a second booking.
    """
    await conn.execute(
        WRITE_MOVEMENT,
        movement.kind,
        movement.client_id,
        movement.reference,
        movement.posted_at,
        movement.from_account,
        movement.to_account,
        movement.amount_minor,
    )


UNBALANCED_ENTRIES = """
SELECT 'entry ' || entry_id || ' does not sum to nothing' AS fault
FROM entries LEFT JOIN postings USING (entry_id)
GROUP BY entry_id HAVING coalesce(sum(amount_minor), 1) <> 0 OR count(*) <> 2"""

MIXED_CURRENCIES = """
SELECT 'entry ' || entry_id || ' mixes currencies' AS fault
FROM postings JOIN ledger_accounts USING (ledger_account_id)
GROUP BY entry_id HAVING count(DISTINCT currency) > 1"""

WRONG_BALANCES = """
SELECT 'balance of ' || owner || ' is not the sum of its postings' AS fault
FROM ledger_accounts LEFT JOIN postings USING (ledger_account_id)
WHERE kind = 'customer'
GROUP BY ledger_account_id HAVING balance_minor <> coalesce(sum(amount_minor), 0)"""

NEGATIVE_ACCOUNTS = """
SELECT kind || ' ' || owner || ' is below nothing' AS fault
FROM ledger_accounts JOIN postings USING (ledger_account_id)
WHERE kind IN ('settlement', 'clearing')
GROUP BY ledger_account_id HAVING sum(amount_minor) < 0"""

UNBOOKED_DEBITS = """
SELECT 'debit ' || debit_id || ' is ' || state || ' but booked otherwise' AS fault
FROM debits d
LEFT JOIN LATERAL (
    SELECT coalesce(string_agg(e.kind, '+' ORDER BY e.entry_id), '') AS kinds,
        coalesce(bool_and(p.amount_minor = d.amount_minor), true) AS right_amount
    FROM entries e JOIN postings p USING (entry_id)
    WHERE e.reference = d.debit_id AND p.amount_minor > 0) booked ON true
WHERE NOT right_amount OR kinds <> ALL (CASE state
    WHEN 'succeeded' THEN ARRAY['debit', 'hold+capture']
    WHEN 'pending' THEN ARRAY['hold']
    ELSE ARRAY['', 'hold+release'] END)"""

UNBOOKED_REFUNDS = """
SELECT 'refund ' || refund_id || ' is ' || state || ' but booked otherwise' AS fault
FROM refunds r
LEFT JOIN LATERAL (
    SELECT coalesce(sum(p.amount_minor), 0) AS amount_minor
    FROM entries e JOIN postings p USING (entry_id)
    WHERE e.reference = r.refund_id AND p.amount_minor > 0) booked ON true
WHERE booked.amount_minor <> CASE state WHEN 'succeeded' THEN r.amount_minor ELSE 0 END"""

WRONG_REFUND_SUMS = """
SELECT 'debit ' || d.debit_id || ' has another sum of refunds' AS fault
FROM debits d LEFT JOIN refunds r ON r.client_id = d.client_id AND r.debit_key = d.key
GROUP BY d.debit_id
HAVING d.refunded_minor <> coalesce(sum(r.amount_minor) FILTER (WHERE r.state = 'succeeded'), 0)
    OR d.refunding_minor <> coalesce(sum(r.amount_minor) FILTER (WHERE r.state = 'pending'), 0)"""

STRAY_ENTRIES = """
SELECT 'entry ' || entry_id || ' belongs to nothing' AS fault
FROM entries e
WHERE kind <> 'adjustment' AND NOT EXISTS (SELECT FROM debits WHERE debit_id = e.reference)
    AND NOT EXISTS (SELECT FROM refunds WHERE refund_id = e.reference)"""

CHECKS = (
    UNBALANCED_ENTRIES,
    MIXED_CURRENCIES,
    WRONG_BALANCES,
    NEGATIVE_ACCOUNTS,
    UNBOOKED_DEBITS,
    UNBOOKED_REFUNDS,
    WRONG_REFUND_SUMS,
    STRAY_ENTRIES,
)

BOOKS_BY_CUSTOMER = """
SELECT c.login, c.currency, l.balance_minor, c.frozen,
    count(d.debit_id) FILTER (WHERE d.state = 'succeeded') AS debits,
    coalesce(sum(d.amount_minor) FILTER (WHERE d.state = 'succeeded'), 0)::bigint AS debited_minor,
    coalesce(sum(d.amount_minor) FILTER (WHERE d.state = 'pending'), 0)::bigint AS pending_minor,
    coalesce(sum(d.refunded_minor), 0)::bigint AS refunded_minor
FROM customers c JOIN ledger_accounts l USING (ledger_account_id)
LEFT JOIN agreements a USING (login) LEFT JOIN debits d USING (agreement_id)
GROUP BY c.login, l.ledger_account_id ORDER BY c.login"""

BOOKS_BY_CLIENT = """
SELECT a.client_id, a.account, a.currency,
    count(d.debit_id) FILTER (WHERE d.state = 'succeeded') AS debits,
    coalesce(sum(d.amount_minor) FILTER (WHERE d.state = 'succeeded'), 0)::bigint AS debited_minor,
    coalesce(sum(d.amount_minor) FILTER (WHERE d.state = 'pending'), 0)::bigint AS pending_minor,
    coalesce(sum(d.refunded_minor), 0)::bigint AS refunded_minor,
    (SELECT coalesce(sum(p.amount_minor), 0)::bigint FROM postings p
        WHERE p.ledger_account_id = a.settlement_id) AS balance_minor
FROM agreements a LEFT JOIN debits d USING (agreement_id)
GROUP BY a.client_id, a.account, a.currency, a.settlement_id ORDER BY 1, 2, 3"""


async def read_books(conn: Connection) -> dict[str, Any]:
    """Return the bank's own truth: sums by customer and by client account, and every way in which the books are wrong.

    `conn` should be in a REPEATABLE READ transaction, so that all of it is of one moment.
    """
    faults = [str(row["fault"]) for check in CHECKS for row in await conn.fetch(check)]
    clients = [dict(row) for row in await conn.fetch(BOOKS_BY_CLIENT)]
    for client in clients:
        if client["balance_minor"] != client["debited_minor"] - client["refunded_minor"]:
            faults.append(f"settlement of {client['client_id']}/{client['account']} is not its debits less its refunds")
    customers = [dict(row) for row in await conn.fetch(BOOKS_BY_CUSTOMER)]
    return {"balanced": not faults, "faults": faults, "customers": customers, "clients": clients}
