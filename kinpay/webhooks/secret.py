"""The secrets that endpoints' messages are signed with: made by us, sealed under the server's key, replaced with an overlap."""

from __future__ import annotations

import hashlib
import os
from datetime import datetime, timedelta
from typing import Final

from kinpay.database.pool import Database
from kinpay.database.sql import Connection, Sql
from kinpay.primitives.errors import TooMany
from kinpay.primitives.ids import new_id
from kinpay.primitives.sealed import Sealed
from kinpay.primitives.server_keys import ServerKeys
from kinpay.webhooks.signature import SECRET_BYTES

PURPOSE: Final = "webhook-secret"
MAX_SECRETS: Final = 4
"""That sign at the same time: each is a signature in every request."""
_AT_ONCE: Final = 200

INSERT = Sql("""
    INSERT INTO webhook_secret (id, endpoint_id, sealed, sealed_by, created_at)
    VALUES (:id, :endpoint_id, :sealed, :sealed_by, :now)
""")


async def add_secret(conn: Connection, keys: ServerKeys, endpoint_id: str, *, now: datetime) -> Sealed[bytes]:
    """Makes an endpoint's newest secret."""
    secret_id, secret = new_id(), Sealed(os.urandom(SECRET_BYTES))
    sealed = keys.seal(secret.open(), purpose=PURPOSE, bound_to=secret_id)
    await INSERT.run(conn, id=secret_id, endpoint_id=endpoint_id, sealed=sealed, sealed_by=_sealer(keys), now=now)
    return secret


LIVE = Sql("""
    SELECT count(*) AS number, min(expires_at) AS first FROM webhook_secret
    WHERE endpoint_id = :endpoint_id AND (expires_at IS NULL OR expires_at > :now)
""")
RETIRE = Sql("""
    UPDATE webhook_secret SET expires_at = :until
    WHERE endpoint_id = :endpoint_id AND (expires_at IS NULL OR expires_at > :until)
""")
FORGET = Sql("DELETE FROM webhook_secret WHERE endpoint_id = :endpoint_id AND expires_at <= :now")


async def replace_secret(
    conn: Connection, keys: ServerKeys, endpoint_id: str, *, overlap: timedelta, now: datetime
) -> Sealed[bytes]:
    """Makes a new secret, which signs from now on; the ones before sign besides until `overlap` is over. The endpoint's row is
    locked by the caller.

    Raises: TooMany while several older ones still sign.
    """
    await FORGET.run(conn, endpoint_id=endpoint_id, now=now)
    live = await LIVE.row(conn, endpoint_id=endpoint_id, now=now)
    if live is not None and live["number"] >= MAX_SECRETS and overlap > timedelta(0):
        raise TooMany(retry_after_s=max(1, int((live["first"] - now).total_seconds())))
    await RETIRE.run(conn, endpoint_id=endpoint_id, until=now + overlap)
    return await add_secret(conn, keys, endpoint_id, now=now)


OLD = Sql("""
    SELECT id, sealed FROM webhook_secret WHERE sealed_by <> :sealed_by ORDER BY id LIMIT :at_most FOR UPDATE SKIP LOCKED
""")
RESEAL = Sql("UPDATE webhook_secret SET sealed = :sealed, sealed_by = :sealed_by WHERE id = :id")


async def seal_anew(db: Database, keys: ServerKeys) -> int:
    """After a rotation of the server's root secret: seals under the newest what an older one had sealed; returns how many.

    Raises: SealBroken for what no root opens.
    """
    count = 0
    while True:
        async with db.transaction() as conn:
            rows = await OLD.rows(conn, sealed_by=_sealer(keys), at_most=_AT_ONCE)
            for row in rows:
                plain = keys.unseal(row["sealed"], purpose=PURPOSE, bound_to=row["id"])
                sealed = keys.seal(plain, purpose=PURPOSE, bound_to=row["id"])
                await RESEAL.run(conn, id=row["id"], sealed=sealed, sealed_by=_sealer(keys))
        count += len(rows)
        if len(rows) < _AT_ONCE:
            return count


def _sealer(keys: ServerKeys) -> bytes:
    """Names the server's newest key without telling it."""
    return hashlib.sha256(b"webhook sealer" + keys.key(PURPOSE)).digest()[:8]
