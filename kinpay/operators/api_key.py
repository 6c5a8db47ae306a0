"""API keys: how a merchant's or the operator's back office asks. An opaque token, shown once and kept as a keyed hash.

A key belongs to one merchant, or to the operator for all its merchants; it does what its scopes say and nothing outside.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from kinpay.database import audit
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection, Record, Sql
from kinpay.primitives.actor import Actor, ActorKind, Scope
from kinpay.primitives.errors import Invalid, NotFound
from kinpay.primitives.ids import new_id, new_secret
from kinpay.primitives.sealed import Sealed
from kinpay.primitives.server_keys import ServerKeys

TOKEN_START: Final = "kp_live_"  # noqa: S105
"""What every key begins with: so that a leaked one is recognised by whoever scans for it, and a session never is one."""
_TOKEN_BYTES: Final = 32
_TOKEN_LENGTH: Final = len(TOKEN_START) + 43
_PREFIX_LENGTH: Final = len(TOKEN_START) + 8
_PURPOSE: Final = "api-key"
_USE_NOTED_EVERY: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as its operator's owners see it. `prefix` tells it from others; `last_used_at` is right to the hour."""

    id: str
    merchant_id: str | None
    name: str
    prefix: str
    scopes: Sequence[str]
    created_by: str
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewApiKey:
    """What a key shall be. `merchant_id` None: for all merchants of the operator."""

    name: str
    scopes: frozenset[Scope]
    merchant_id: str | None
    expires_at: datetime | None


INSERT = Sql("""
    INSERT INTO api_key (id, operator_id, merchant_id, name, prefix, token_hash, scopes, created_by, created_at, expires_at)
    SELECT :id, o.id, :merchant_id, :name, :prefix, :token_hash, :scopes, :created_by, :now, :expires_at FROM operator o
    WHERE o.id = :operator_id
      AND (:merchant_id::uuid IS NULL OR EXISTS (SELECT 1 FROM merchant m WHERE m.id = :merchant_id AND m.operator_id = o.id))
    RETURNING 1
""")


async def make_api_key(conn: Connection, keys: ServerKeys, *, owner: Actor, wanted: NewApiKey) -> tuple[ApiKey, Sealed[str]]:
    """Makes a key at the asking owner's operator; returns it and its token, which nobody can read again.

    Raises: NotFound for a merchant that is not the operator's; Invalid for an end that has passed.
    """
    now = await database_now(conn)
    if wanted.expires_at is not None and wanted.expires_at <= now:
        raise Invalid("in_the_past", field="expires_at")
    token = TOKEN_START + new_secret(_TOKEN_BYTES)
    made = ApiKey(
        id=new_id(),
        merchant_id=wanted.merchant_id,
        name=wanted.name,
        prefix=token[:_PREFIX_LENGTH],
        scopes=sorted(wanted.scopes),
        created_by=owner.id,
        created_at=now,
        last_used_at=None,
        expires_at=wanted.expires_at,
        revoked_at=None,
    )
    found = await INSERT.value(
        conn,
        id=made.id,
        operator_id=owner.operator_id,
        merchant_id=made.merchant_id,
        name=made.name,
        prefix=made.prefix,
        token_hash=keys.mac(_PURPOSE, token.encode()),
        scopes=made.scopes,
        created_by=owner.id,
        now=now,
        expires_at=made.expires_at,
    )
    if found is None:
        raise NotFound()
    about = {"merchant": made.merchant_id, "scopes": made.scopes}
    await audit.record(conn, owner.operator_id, audit.Event("api_key.made", made.id, about, owner.id), now=now)
    return made, Sealed(token)


PAGE = Sql("""
    SELECT id, merchant_id, name, prefix, scopes, created_by, created_at, last_used_at, expires_at, revoked_at FROM api_key
    WHERE operator_id = :operator_id AND (:after::uuid IS NULL OR id < :after) ORDER BY id DESC LIMIT :most
""")


async def api_keys_of(conn: Connection, operator_id: str, *, after: str | None, limit: int) -> list[ApiKey]:
    """The operator's keys, newest first, revoked ones too."""
    return [ApiKey(**row) for row in await PAGE.rows(conn, operator_id=operator_id, after=after, most=limit)]


REVOKE = Sql("""
    WITH found AS (SELECT id, revoked_at FROM api_key WHERE id = :id AND operator_id = :operator_id FOR UPDATE)
    UPDATE api_key k SET revoked_at = coalesce(k.revoked_at, :now) FROM found WHERE k.id = found.id
    RETURNING found.revoked_at IS NULL AS fresh
""")


async def revoke_api_key(conn: Connection, api_key_id: str, *, owner: Actor) -> None:
    """Ends a key of the asking owner's operator: its very next request is nobody's. Twice is as good as once.

    Raises: NotFound.
    """
    now = await database_now(conn)
    row = await REVOKE.row(conn, id=api_key_id, operator_id=owner.operator_id, now=now)
    if row is None:
        raise NotFound()
    if row["fresh"]:
        await audit.record(conn, owner.operator_id, audit.Event("api_key.revoked", api_key_id, {}, owner.id), now=now)


FIND = Sql("""
    SELECT id, operator_id, merchant_id, scopes, token_hash,
           last_used_at IS NULL OR last_used_at < kinpay_now() - :coarsely::interval AS note_use
    FROM api_key
    WHERE prefix = :prefix AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > kinpay_now())
""")
NOTE_USE = Sql("UPDATE api_key SET last_used_at = kinpay_now(), token_hash = :token_hash WHERE id = :id")


async def authenticate_api_key(db: Database, keys: ServerKeys, token: str) -> Actor | None:
    """Who holds this token: one query a request, so that a revoked key counts no more at once; None for nobody.

    Its use is noted at most once an hour; then its hash is also renewed, should the server's root secret have changed.
    """
    if len(token) != _TOKEN_LENGTH or not token.startswith(TOKEN_START):
        return None
    newest, *older = keys.macs(_PURPOSE, token.encode())
    async with db.connection() as conn:
        row = await FIND.row(conn, prefix=token[:_PREFIX_LENGTH], coarsely=_USE_NOTED_EVERY)
        if row is None or not any(hmac.compare_digest(row["token_hash"], one) for one in (newest, *older)):
            return None
        if row["note_use"]:
            await NOTE_USE.run(conn, id=row["id"], token_hash=newest)
    return _actor(row)


def _actor(row: Record) -> Actor:
    known = frozenset(Scope) & frozenset(row["scopes"])
    return Actor(ActorKind.API_KEY, row["id"], row["operator_id"], scopes=known, merchant_id=row["merchant_id"])
