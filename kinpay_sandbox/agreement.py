"""An agreement: a customer's standing permission that a client debits them without a password.

Source: docs/sandbox-bank.md §3; CN109191092A [0026], claim 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from kinpay_sandbox.books import Connection, Pool, Row, stamp

State = Literal["pending", "active", "refused", "expired", "ended"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spender:
    """Somebody who spends under the payer's agreement (a sub-account)."""

    ref: str
    name: str
    state: Literal["active", "removed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """One agreement and the spenders under it; amounts in minor units of `currency`."""

    agreement_id: str
    client_id: str
    key: str
    request_hash: str
    state: State
    login: str
    payer_account_id: str
    account: str
    business_type: str
    per_debit_minor: int | None
    per_day_minor: int | None
    currency: str
    valid_until: datetime | None
    return_url: str
    approve_token: str
    expires_at: datetime
    signed_at: datetime | None
    ended_by: Literal["client", "payer", "bank"] | None
    settlement_id: int
    spenders: tuple[Spender, ...]

    def is_active(self, now: datetime) -> bool:
        """Tell whether it may be debited at `now`; running out counts before anybody has noticed it."""
        return self.state == "active" and (self.valid_until is None or now < self.valid_until)

    def spender(self, ref: str) -> Spender | None:
        """Return the spender bound under `ref`, removed or not."""
        return next((one for one in self.spenders if one.ref == ref), None)

    def as_json(self, base_url: str) -> dict[str, Any]:
        """Write it as the protocol shows it; the payer's account id stays hidden until they have signed."""
        return {
            "agreement_id": self.agreement_id,
            "key": self.key,
            "state": self.state,
            "approve_url": f"{base_url}/approve/{self.approve_token}",
            "expires_at": stamp(self.expires_at),
            "payer_account_id": self.payer_account_id if self.signed_at is not None else None,
            "account": self.account,
            "business_type": self.business_type,
            "limits": {
                "per_debit_minor": self.per_debit_minor,
                "per_day_minor": self.per_day_minor,
                "currency": self.currency,
            },
            "valid_until": stamp(self.valid_until),
            "ended_by": self.ended_by,
            "spenders": [{"ref": one.ref, "name": one.name, "state": one.state} for one in self.spenders],
        }


COLUMNS = """
SELECT a.agreement_id, a.client_id, a.key, a.request_hash, a.state, a.login, c.payer_account_id, a.account, a.business_type,
    a.per_debit_minor, a.per_day_minor, a.currency, a.valid_until, a.return_url, a.approve_token, a.expires_at, a.signed_at,
    a.ended_by, a.settlement_id
FROM agreements a JOIN customers c USING (login) """

SELECT_SPENDERS = "SELECT ref, name, state FROM agreement_spenders WHERE agreement_id = $1 ORDER BY bound_at, ref"


async def _whole(db: Connection | Pool, row: Row | None) -> Agreement | None:
    if row is None:
        return None
    spenders = tuple(Spender(**dict(one)) for one in await db.fetch(SELECT_SPENDERS, row["agreement_id"]))
    return Agreement(**dict(row), spenders=spenders)


SELECT_BY_ID = COLUMNS + "WHERE a.agreement_id = $1 AND ($2::text IS NULL OR a.client_id = $2)"


async def find_agreement(db: Connection | Pool, agreement_id: str, *, client_id: str | None = None) -> Agreement | None:
    """Return the agreement (of that client), or None."""
    return await _whole(db, await db.fetchrow(SELECT_BY_ID, agreement_id, client_id))


SELECT_BY_KEY = COLUMNS + "WHERE a.client_id = $1 AND a.key = $2"


async def find_agreement_by_key(db: Connection | Pool, client_id: str, *, key: str) -> Agreement | None:
    """Return the agreement the client asked for under `key`, or None."""
    return await _whole(db, await db.fetchrow(SELECT_BY_KEY, client_id, key))


SELECT_BY_TOKEN = COLUMNS + "WHERE a.approve_token = $1"


async def find_agreement_by_token(db: Connection | Pool, token: str) -> Agreement | None:
    """Return the agreement whose approval page has this secret address, or None."""
    return await _whole(db, await db.fetchrow(SELECT_BY_TOKEN, token))


# Weaker than FOR UPDATE on purpose: a debit's foreign key already shares the row, and two debits must not wait for each other.
LOCK_AGREEMENT = "SELECT FROM agreements WHERE agreement_id = $1 FOR NO KEY UPDATE"


async def lock_agreement(conn: Connection, agreement_id: str, *, client_id: str | None = None) -> Agreement | None:
    """Lock the agreement until the transaction ends and return it as it is under the lock, or None."""
    await conn.execute(LOCK_AGREEMENT, agreement_id)
    return await find_agreement(conn, agreement_id, client_id=client_id)


SELECT_OF_CUSTOMER = """
SELECT agreement_id FROM agreements WHERE login = $1 AND signed_at IS NOT NULL ORDER BY created_at DESC LIMIT 100"""


async def agreements_of(db: Pool, login: str) -> list[Agreement]:
    """Return what a customer has signed, newest first, at most a hundred."""
    found = [await find_agreement(db, row["agreement_id"]) for row in await db.fetch(SELECT_OF_CUSTOMER, login)]
    return [one for one in found if one is not None]
