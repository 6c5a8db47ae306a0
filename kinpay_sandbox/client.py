"""A client: an operator of kinpay as the bank knows it, with its provider-side accounts.

Source: docs/sandbox-bank.md §1.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from urllib.parse import urlsplit

from kinpay_sandbox.books import Connection, Pool, new_id
from kinpay_sandbox.refusal import bad_request, not_found
from kinpay_sandbox.wire import Fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Who may call `/v1`, with which key, and where the bank calls back and sends people back to."""

    client_id: str
    name: str
    public_key: bytes
    callback_url: str
    return_url_prefix: str
    notify_all: bool

    def takes_back_at(self, return_url: str) -> bool:
        """Tell whether `return_url` lies under the registered prefix; the host and port are compared whole, never as text."""
        prefix, wanted = urlsplit(self.return_url_prefix), urlsplit(return_url)
        if (wanted.scheme, wanted.netloc) != (prefix.scheme, prefix.netloc) or wanted.fragment or "\\" in return_url:
            return False
        if ".." in wanted.path.replace("%2e", ".").replace("%2E", ".").split("/"):
            return False
        folder = prefix.path.rstrip("/")
        return wanted.path == folder or wanted.path.startswith(folder + "/") or prefix.path in ("", "/")


def check_url(url: str) -> str:
    """Return `url` if it is a plain http(s) address. Raises: Refusal(422, bad_request)."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # reading it is what checks it
    except ValueError:
        raise bad_request() from None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or " " in url:
        raise bad_request()
    return url


def _read_public_key(fields: Fields) -> bytes:
    try:
        key = base64.b64decode(fields.text("public_key"), validate=True)
    except binascii.Error:
        raise bad_request() from None
    if len(key) != 32:
        raise bad_request()
    return key


INSERT_CLIENT = """
INSERT INTO clients (client_id, name, public_key, callback_url, return_url_prefix, notify_all)
VALUES ($1, $2, $3, $4, $5, $6)"""
INSERT_CLIENT_ACCOUNT = "INSERT INTO client_accounts (client_id, account, business_types) VALUES ($1, $2, $3)"


async def register_client(conn: Connection, fields: Fields) -> str:
    """Make an operator known and return its `client_id`. Raises: Refusal(422, bad_request)."""
    client_id = new_id("cl")
    values = (
        fields.text("name", longest=100),
        _read_public_key(fields),
        check_url(fields.text("callback_url", longest=500)),
        check_url(fields.text("return_url_prefix", longest=500)),
    )
    accounts: dict[str, list[str]] = {}
    for member in fields.each("accounts"):
        account = Fields(member)
        name = account.text("account", longest=64)
        types = account.each("business_types")
        account.done()
        if name in accounts or not all(isinstance(one, str) and 1 <= len(one) <= 64 for one in types):
            raise bad_request()
        accounts[name] = types
    notify_all = fields.yes("notify_all")
    fields.done()
    await conn.execute(INSERT_CLIENT, client_id, *values, notify_all)
    for name, types in accounts.items():
        await conn.execute(INSERT_CLIENT_ACCOUNT, client_id, name, types)
    return client_id


CHANGE_CLIENT = """
UPDATE clients SET callback_url = coalesce($2, callback_url), return_url_prefix = coalesce($3, return_url_prefix),
    notify_all = coalesce($4, notify_all)
WHERE client_id = $1"""


async def change_client(conn: Connection, client_id: str, *, fields: Fields) -> None:
    """Move a client's callback or return address, or change whether it hears of everything. Raises: Refusal."""
    callback = check_url(fields.text("callback_url", longest=500)) if not fields.absent("callback_url") else None
    prefix = check_url(fields.text("return_url_prefix", longest=500)) if not fields.absent("return_url_prefix") else None
    notify_all = fields.yes("notify_all") if fields.has("notify_all") else None
    fields.absent("notify_all")
    fields.done()
    if await conn.execute(CHANGE_CLIENT, client_id, callback, prefix, notify_all) == "UPDATE 0":
        raise not_found()


SELECT_CLIENT = """
SELECT client_id, name, public_key, callback_url, return_url_prefix, notify_all FROM clients WHERE client_id = $1"""


async def find_client(db: Connection | Pool, client_id: str) -> Client | None:
    """Return the client, or None."""
    row = await db.fetchrow(SELECT_CLIENT, client_id)
    return None if row is None else Client(**dict(row))


SELECT_BUSINESS_TYPES = "SELECT business_types FROM client_accounts WHERE client_id = $1 AND account = $2"


async def business_types_of(conn: Connection, client: Client, *, account: str) -> list[str] | None:
    """Return what the provider-side account may be used for, or None if the client has no such account."""
    types: list[str] | None = await conn.fetchval(SELECT_BUSINESS_TYPES, client.client_id, account)
    return types


SPEND_NONCE = "INSERT INTO nonces (client_id, nonce) VALUES ($1, $2) ON CONFLICT DO NOTHING"


async def spend_nonce(db: Pool, client_id: str, *, nonce: str) -> bool:
    """Use a nonce up; False if it was used before."""
    return bool(await db.execute(SPEND_NONCE, client_id, nonce) == "INSERT 0 1")


FORGET_NONCES = "DELETE FROM nonces WHERE seen_at < now() - interval '20 minutes'"


async def forget_nonces(db: Pool) -> None:
    """Drop the nonces whose requests are stale by any clock the window allows."""
    await db.execute(FORGET_NONCES)
