"""A fresh proof: a person shows, by a code sent to them, that they want exactly this content, now and once.

A proof is verified in a transaction of its own, where a wrong attempt counts, and burnt in the transaction of the act it is
for: so an act that fails leaves the proof good, and an honest retry under the same `Idempotency-Key` does not hear "used".
Source: semantics.md "Limits" (raising needs a fresh proof of the payer); threats A01, A26.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from pydantic import Field

from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection, Sql
from kinpay.people import code
from kinpay.primitives.actor import Actor
from kinpay.primitives.errors import Invalid, ProofInvalid, ProofRequired, WrongState
from kinpay.primitives.fields import Closed, Id
from kinpay.primitives.ids import new_id
from kinpay.primitives.server_keys import ServerKeys

OPERATION_PATTERN: Final = r"^[a-z][a-z_]{0,31}(\.[a-z][a-z_]{0,31}){0,2}$"
_DEPTH: Final = 20
_INTEGER_MAX: Final = 2**63 - 1
_encoder = msgspec.json.Encoder(order="sorted")


class ProofGiven(Closed):
    """A proof as it comes with a request: which one, and the code that was sent."""

    proof_id: Id
    code: Annotated[str, Field(pattern=code.CODE_PATTERN, examples=["402917"])]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofAsked:
    """A proof under way. `summary_hash`: what it is bound to, 64 hexadecimal digits."""

    proof_id: str
    expires_at: datetime
    summary_hash: str


def summary_hash(*, operation: str, subject_id: str, content: Mapping[str, Any]) -> bytes:
    """SHA-256 over the canonical JSON (sorted keys, UTF-8) of what is to be done to what, exactly as it will be asked for.

    `content` holds plain JSON values without fractions: a number that two readers could read differently binds nobody.

    Raises: Invalid.
    """
    _require_plain(content, depth=0)
    bound = {"operation": operation, "subject_id": subject_id, "content": content}
    try:
        return hashlib.sha256(_encoder.encode(bound)).digest()
    except ValueError as error:
        raise Invalid("content_not_plain", field="content") from error


def _require_plain(value: object, *, depth: int) -> None:
    if depth > _DEPTH:
        raise Invalid("content_too_deep", field="content")
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if not isinstance(name, str):
                raise Invalid("content_not_plain", field="content")
            _require_plain(inner, depth=depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            _require_plain(inner, depth=depth + 1)
    elif isinstance(value, int):
        if abs(value) > _INTEGER_MAX:
            raise Invalid("content_not_plain", field="content")
    elif value is not None and not isinstance(value, str):
        raise Invalid("content_not_plain", field="content")


CONTACT = Sql("""
    SELECT p.account, p.locale, c.address FROM person p JOIN person_contact c ON c.person_id = p.id
    WHERE p.id = :person_id AND p.state = 'active' ORDER BY c.verified_at IS NULL, c.channel DESC LIMIT 1
""")


async def ask_proof(
    db: Database, actor: Actor, *, keys: ServerKeys, operation: str, subject_id: str, content: Mapping[str, Any]
) -> ProofAsked:
    """Sends the asking person a code whose text names the operation, bound to exactly this content for five minutes.

    Raises: Invalid; TooMany, with `retry_after_s`; WrongState for a person who has no contact.
    """
    bound_to = summary_hash(operation=operation, subject_id=subject_id, content=content)
    async with db.transaction() as conn:
        await code.lock_name(conn, actor.id)
        now = await database_now(conn)
        await code.cap_proofs(conn, actor.id, now=now)
        contact = await CONTACT.row(conn, person_id=actor.id)
        if contact is None:
            raise WrongState("person", state="without_contact", event="ask_proof")
        sent = await code.keep_code(conn, keys, code_id=new_id(), person_id=actor.id, content_hash=bound_to, now=now)
        recipient = code.Recipient(address=contact["address"], account=contact["account"], locale=contact["locale"])
        await code.enqueue_code(conn, keys, code=sent, recipient=recipient, purpose=operation, now=now)
    return ProofAsked(proof_id=sent.id, expires_at=sent.expires_at, summary_hash=bound_to.hex())


async def verify_proof(
    db: Database,
    actor: Actor,
    *,
    keys: ServerKeys,
    operation: str,
    subject_id: str,
    content: Mapping[str, Any],
    proof: ProofGiven | None,
) -> str:
    """Checks a proof without using it up and counts the attempt; returns its id, for `burn_proof` in the act's transaction.

    A proof that was used still verifies, for ever: only so does a late repetition under a kept request key reach its kept
    answer. `burn_proof` is what lets a proof act once, so whoever verifies must burn.

    Raises: ProofRequired if none was given; ProofInvalid for a wrong code, another person, content or time; Invalid.
    """
    if proof is None:
        raise ProofRequired(operation=operation)
    bound_to = summary_hash(operation=operation, subject_id=subject_id, content=content)
    async with db.transaction() as conn:
        now = await database_now(conn)
        row = await code.take_attempt(conn, proof.proof_id, purpose="proof", now=now, owner=actor.id)
    if row is None:
        raise ProofInvalid()
    same_content = hmac.compare_digest(row["content_hash"], bound_to)
    if not code.fits(keys, row, code_id=proof.proof_id, digits=proof.code) or not same_content:
        raise ProofInvalid()
    return proof.proof_id


async def burn_proof(conn: Connection, proof_id: str, *, now: datetime) -> None:
    """Uses up a verified proof in the transaction of the act it is for. Raises: ProofInvalid if it was used before."""
    if not await code.burn(conn, proof_id, now=now):
        raise ProofInvalid()


async def check_proof(
    db: Database,
    actor: Actor,
    *,
    keys: ServerKeys,
    operation: str,
    subject_id: str,
    content: Mapping[str, Any],
    proof: ProofGiven | None,
) -> str:
    """Verifies a proof and uses it up at once, in transactions of its own; returns its id.

    For acts that have no request key; the others verify before and burn inside.

    Raises: ProofRequired if none was given; ProofInvalid; Invalid.
    """
    proof_id = await verify_proof(
        db, actor, keys=keys, operation=operation, subject_id=subject_id, content=content, proof=proof
    )
    async with db.transaction() as conn:
        await burn_proof(conn, proof_id, now=await database_now(conn))
    return proof_id
