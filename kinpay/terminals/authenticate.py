"""From a signed request to an asker: the signature by itself, then nonce, session and terminal in one look at the database.

The hot route calls `check_signature` (no database when the session is remembered) and `note_requests` inside its batch;
every other route goes through `authenticate_terminal`, which does both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from kinpay.database.pool import Database
from kinpay.database.sql import Connection, Sql
from kinpay.primitives.actor import Actor, ActorKind, terminal_of
from kinpay.primitives.errors import (
    KinpayError,
    RequestReplayed,
    SignatureInvalid,
    TerminalSessionEnded,
    Unauthenticated,
)
from kinpay.terminals.session import TerminalSessions
from kinpay.terminals.signature import Algorithm, RequestParts, read_claims, verify_ecdsa, verify_hmac
from kinpay.terminals.terminal import SessionFacts

INSTALL_PATH: Final = "/v1/terminals/install"
"""The one signed request whose key is not known before it is answered; its route verifies it."""


@dataclass(frozen=True, slots=True)
class TerminalActor(Actor):
    """A terminal that signed this request; `own_key`: with its own key, not with a session's."""

    own_key: bool = False


class SignedRequest(msgspec.Struct, frozen=True, gc=False):
    """A request under a session key whose signature holds; freshness and standing are still to be asked (`note_requests`)."""

    facts: SessionFacts
    signer_id: str
    nonce: str


def by_own_key(state: object) -> Actor:
    """The asking terminal, which signed with its own key: captures and registrations demand it.

    Raises: Unauthenticated; Forbidden for a person; SignatureInvalid for a session's signature.
    """
    actor = terminal_of(state)
    if not (isinstance(actor, TerminalActor) and actor.own_key):
        raise SignatureInvalid(reason="own-key-wanted")
    return actor


async def check_signature(
    parts: RequestParts, sessions: TerminalSessions, *, clock: Callable[[], float] = time.time
) -> SignedRequest:
    """Verifies a request of the hot route; it must be signed with a session key.

    Raises: SignatureInvalid, RequestStale, TerminalSessionEnded.
    """
    claims = read_claims(parts.headers)
    if claims.algorithm is not Algorithm.HMAC:
        raise SignatureInvalid(reason="session-wanted")
    facts = sessions.remembered(claims.signer_id) or await sessions.find(claims.signer_id)
    if facts is None:
        raise TerminalSessionEnded()
    verified = verify_hmac(parts, facts, now_s=clock(), claims=claims)
    return SignedRequest(facts, verified.signer_id, verified.nonce)


NOTE_REQUESTS = Sql("""
    WITH asked AS (
        SELECT a.signer_id, a.nonce, a.terminal_id, a.place,
               row_number() OVER (PARTITION BY a.signer_id, a.nonce ORDER BY a.place) AS turn
        FROM unnest(:signers::uuid[], :nonces::text[], :terminals::uuid[]) WITH ORDINALITY
             AS a (signer_id, nonce, terminal_id, place)
    ), noted AS (
        INSERT INTO request_nonce (signer_id, nonce)
        SELECT signer_id, nonce FROM asked WHERE turn = 1 ORDER BY signer_id, nonce
        ON CONFLICT DO NOTHING RETURNING signer_id, nonce
    )
    SELECT coalesce(t.state = 'active', false) AS active,
           a.signer_id = a.terminal_id OR coalesce(s.terminal_id = a.terminal_id AND s.expires_at > kinpay_now(), false)
               AS in_session,
           a.turn = 1 AND n.nonce IS NOT NULL AS fresh
    FROM asked a
    LEFT JOIN noted n ON n.signer_id = a.signer_id AND n.nonce = a.nonce
    LEFT JOIN terminal_session s ON s.id = a.signer_id
    LEFT JOIN terminal t ON t.id = a.terminal_id
    ORDER BY a.place
""")


async def note_requests(conn: Connection, requests: Sequence[tuple[str, str, str]]) -> list[KinpayError | None]:
    """Records (signer id, nonce, terminal id) of several requests; for each None, or why it must not be believed.

    A nonce counts once, also within one call and between transactions under way. After a crash of the database nonces are
    forgotten, but sessions with them, so that nothing signed before it under a session key passes again.
    """
    rows = await NOTE_REQUESTS.rows(
        conn,
        signers=[signer for signer, _, _ in requests],
        nonces=[nonce for _, nonce, _ in requests],
        terminals=[terminal for _, _, terminal in requests],
    )
    return [_objection(active=row["active"], in_session=row["in_session"], fresh=row["fresh"]) for row in rows]


def _objection(*, active: bool, in_session: bool, fresh: bool) -> KinpayError | None:
    if not active:
        return Unauthenticated()
    if not in_session:
        return TerminalSessionEnded()
    return None if fresh else RequestReplayed()


FIND_KEY = Sql("SELECT operator_id, public_key FROM terminal WHERE id = :terminal_id AND state = 'active'")


async def authenticate_terminal(
    db: Database, parts: RequestParts, *, sessions: TerminalSessions, clock: Callable[[], float] = time.time
) -> Actor | None:
    """The terminal that signed this request, once; None for an installing one, which nobody knows yet.

    Raises: SignatureInvalid, RequestStale, RequestReplayed, TerminalSessionEnded, Unauthenticated.
    """
    if parts.path == INSTALL_PATH:
        return None
    claims = read_claims(parts.headers)
    if claims.algorithm is Algorithm.HMAC:
        signed = await check_signature(parts, sessions, clock=clock)
        terminal_id, operator_id = signed.facts.terminal_id, signed.facts.operator_id
    else:
        terminal_id = claims.signer_id
        operator_id = await _by_its_own_key(db, parts, terminal_id=terminal_id, now_s=clock())
    async with db.connection() as conn:
        (objection,) = await note_requests(conn, [(claims.signer_id, claims.nonce, terminal_id)])
    if objection is not None:
        if not isinstance(objection, RequestReplayed):
            sessions.forget(claims.signer_id)
        raise objection
    own_key = claims.algorithm is Algorithm.ECDSA
    return TerminalActor(ActorKind.TERMINAL, terminal_id, operator_id, own_key=own_key)


async def _by_its_own_key(db: Database, parts: RequestParts, *, terminal_id: str, now_s: float) -> str:
    async with db.connection() as conn:
        row = await FIND_KEY.row(conn, terminal_id=terminal_id)
    if row is None:
        raise Unauthenticated()
    verify_ecdsa(parts, row["public_key"], signer_id=terminal_id, now_s=now_s)
    operator_id: str = row["operator_id"]
    return operator_id
