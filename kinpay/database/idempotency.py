"""Request keys: the same key and body get the same answer, for ever; stored in the transaction of the effect.

Source: reliability.md §1c; the IETF `Idempotency-Key` draft-07.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from kinpay.database.pool import Database
from kinpay.database.sql import Connection, Sql
from kinpay.primitives.errors import KeyReused


class RequestKey(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who asks what under which key. `fingerprint`: keyed hash over method, path and body."""

    principal_id: str
    operation: str
    key: str
    fingerprint: bytes


def mark_of(secret: bytes, key: RequestKey) -> str:
    """What ids made for a request end with: 8 hexadecimal digits that its key alone decides, and that tell nothing of it."""
    said = f"{key.principal_id}\n{key.operation}\n{key.key}".encode()
    return hmac.digest(secret, b"mark\n" + said, "sha256")[:4].hex()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the asker hears: an HTTP status and a JSON body. `replayed`: it was said before."""

    status: int
    body: dict[str, Any]
    replayed: bool = False


CLAIM = Sql("""
    INSERT INTO request_key (principal_id, operation, key, fingerprint, created_at)
    VALUES (:principal_id, :operation, :key, :fingerprint, kinpay_now())
    ON CONFLICT DO NOTHING RETURNING 1
""")
FIND = Sql("""
    SELECT fingerprint, charge_id, circle_id, status, answer FROM request_key
    WHERE principal_id = :principal_id AND operation = :operation AND key = :key
""")
KEEP = Sql("""
    UPDATE request_key SET status = :status, answer = :answer
    WHERE principal_id = :principal_id AND operation = :operation AND key = :key
""")


async def once(db: Database, key: RequestKey, effect: Callable[[Connection], Awaitable[Answer]]) -> Answer:
    """Carries out `effect` in a transaction that also keeps its answer under `key`; a repetition gets the kept answer.

    An exception of `effect` rolls the key back too: a refused form or a missing right is not an answer that is kept.

    Raises: KeyReused if the key was used with another body or path.
    """
    async with db.transaction() as conn:
        named = {"principal_id": key.principal_id, "operation": key.operation, "key": key.key}
        if await CLAIM.value(conn, **named, fingerprint=key.fingerprint) is None:
            return await _kept(conn, key, named)
        answer = await effect(conn)
        await KEEP.run(conn, **named, status=answer.status, answer=msgspec.json.encode(answer.body).decode())
        return answer


async def _kept(conn: Connection, key: RequestKey, named: dict[str, str]) -> Answer:
    row = await FIND.row(conn, **named)
    assert row is not None, "keys are never removed"
    if not hmac.compare_digest(row["fingerprint"], key.fingerprint):
        raise KeyReused()
    return Answer(row["status"], msgspec.json.decode(row["answer"]), replayed=True)
