"""Requests that change consent: under one request key, with a proof where one is given, and the kept answer on a repetition."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from kinpay.database.idempotency import Answer, RequestKey, once
from kinpay.database.pool import Database
from kinpay.database.sql import Connection
from kinpay.people.proof import ProofGiven, verify_proof
from kinpay.primitives.actor import Actor
from kinpay.primitives.server_keys import ServerKeys

Effect = Callable[[Connection, str | None], Awaitable[Answer]]
"""What is done in the transaction of the key; the second argument is the verified proof's id, if one was given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """What a proof must be bound to: the operation, its subject and the content."""

    operation: str
    subject_id: str
    content: dict[str, Any]


class _KeyIsNew(Exception):
    """Rolls back the look whether a key was used before."""


async def once_consented(
    db: Database,
    keys: ServerKeys,
    key: RequestKey,
    *,
    actor: Actor,
    consent: Consent,
    proof: ProofGiven | None,
    effect: Effect,
) -> Answer:
    """Carries out `effect` once under `key`. A proof, if given, is verified before and burnt by the effect.

    A repetition gets its kept answer before the proof is looked at: by then it is used up, and may have expired.

    Raises: ProofInvalid; KeyReused; whatever the effect raises, ProofRequired among it.
    """
    if proof is None:
        return await once(db, key, lambda conn: effect(conn, None))

    async def only_look(_: Connection) -> Answer:
        raise _KeyIsNew

    try:
        return await once(db, key, only_look)
    except _KeyIsNew:
        proof_id = await verify_proof(
            db,
            actor,
            keys=keys,
            operation=consent.operation,
            subject_id=consent.subject_id,
            content=consent.content,
            proof=proof,
        )
    return await once(db, key, lambda conn: effect(conn, proof_id))
