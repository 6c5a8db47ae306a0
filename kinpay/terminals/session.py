"""Session keys: agreed on by ECDH under the terminal's own signature, never transmitted, known to each process after one look.

Source: semantics.md "Security"; RFC 5869 (HKDF); NIST SP 800-56A (ephemeral unified model).
"""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kinpay.database.pool import Database
from kinpay.database.sql import Connection, Sql
from kinpay.primitives.ids import new_id
from kinpay.primitives.sealed import Sealed
from kinpay.primitives.server_keys import ServerKeys
from kinpay.terminals.terminal import SESSION_LIFE, SessionFacts

PURPOSE: Final = "terminal-session"
_INFO: Final = b"kinpay terminal session"
_KEPT: Final = 4
_REMEMBER_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """What the terminal hears. `agreement_key`: our ephemeral point; `confirmation`: that we hold the same key."""

    session_id: str
    agreement_key: bytes
    expires_at: datetime
    confirmation: bytes


def session_key(shared: bytes, *, nonce: bytes, terminal_id: str, session_id: str) -> bytes:
    """The session's HMAC key (32 bytes) from the shared secret; both sides compute it."""
    info = _INFO + terminal_id.encode() + session_id.encode()
    return HKDF(SHA256(), 32, salt=nonce, info=info).derive(shared)


def confirmation_of(key: bytes, *, session_id: str, theirs: bytes, ours: bytes, nonce: bytes) -> bytes:
    """HMAC over everything that was exchanged: only who derived the same key can make it."""
    return hmac.digest(key, b"kinpay session confirmation" + session_id.encode() + theirs + ours + nonce, "sha256")


WRITE = Sql("""
    INSERT INTO terminal_session (id, terminal_id, hmac_key, created_at, expires_at)
    VALUES (:session_id, :terminal_id, :hmac_key, :now, :expires_at)
""")
DROP_OLDER = Sql("""
    DELETE FROM terminal_session WHERE terminal_id = :terminal_id AND id NOT IN (
        SELECT id FROM terminal_session WHERE terminal_id = :terminal_id ORDER BY created_at DESC, id DESC LIMIT :kept)
""")


async def open_session(
    conn: Connection, keys: ServerKeys, *, terminal_id: str, agreement_key: bytes, nonce: bytes, now: datetime
) -> OpenedSession:
    """Agrees on a session with a terminal whose own key signed the asking.

    The few sessions before it go on, so that requests under way are not cut off; older ones end.
    """
    theirs = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), agreement_key)
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    ours = ephemeral.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    session_id, expires_at = new_id(), now + SESSION_LIFE
    key = session_key(ephemeral.exchange(ec.ECDH(), theirs), nonce=nonce, terminal_id=terminal_id, session_id=session_id)
    sealed = keys.seal(key, purpose=PURPOSE, bound_to=session_id)
    await WRITE.run(conn, session_id=session_id, terminal_id=terminal_id, hmac_key=sealed, now=now, expires_at=expires_at)
    await DROP_OLDER.run(conn, terminal_id=terminal_id, kept=_KEPT)
    confirmation = confirmation_of(key, session_id=session_id, theirs=agreement_key, ours=ours, nonce=nonce)
    return OpenedSession(session_id, ours, expires_at, confirmation)


END_ALL = Sql("DELETE FROM terminal_session WHERE terminal_id = :terminal_id")


async def end_sessions(conn: Connection, terminal_id: str) -> None:
    """Ends every session of a terminal, in all processes: each of them asks the database with every nonce."""
    await END_ALL.run(conn, terminal_id=terminal_id)


FIND = Sql("""
    SELECT s.id AS session_id, s.terminal_id, t.operator_id, t.merchant_id, m.mcc, t.site_id, t.kind, t.hold_s, s.hmac_key,
           s.expires_at
    FROM terminal_session s JOIN terminal t ON t.id = s.terminal_id JOIN merchant m ON m.id = t.merchant_id
    WHERE s.id = :session_id AND s.expires_at > kinpay_now() AND t.state = 'active'
""")


class TerminalSessions:
    """The sessions that this process has met: least recently used go first, each is read anew every minute."""

    def __init__(
        self, db: Database, keys: ServerKeys, *, size: int = 20_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._db = db
        self._keys = keys
        self._size = size
        self._clock = clock
        self._known: OrderedDict[str, tuple[SessionFacts, float]] = OrderedDict()

    def remembered(self, session_id: str) -> SessionFacts | None:
        """The session if this process read it within the last minute; touches no database."""
        entry = self._known.get(session_id)
        if entry is None or entry[1] < self._clock():
            return None
        self._known.move_to_end(session_id)
        return entry[0]

    async def find(self, session_id: str) -> SessionFacts | None:
        """The session, remembered or read. None: there is none, it is over, or its terminal is not active."""
        facts = self.remembered(session_id)
        if facts is not None:
            return facts
        async with self._db.connection() as conn:
            row = await FIND.row(conn, session_id=session_id)
        if row is None:
            self.forget(session_id)
            return None
        key = self._keys.unseal(row["hmac_key"], purpose=PURPOSE, bound_to=session_id)
        facts = SessionFacts(**{**row, "hmac_key": Sealed(key)})
        self._known[session_id] = (facts, self._clock() + _REMEMBER_S)
        self._known.move_to_end(session_id)
        while len(self._known) > self._size:
            self._known.popitem(last=False)
        return facts

    def forget(self, session_id: str) -> None:
        """Drops a session that the database said is over."""
        self._known.pop(session_id, None)


# Nonces are timed by the wall, as the signatures beside them are (`created`), not by the clock of the rules.
PRUNE_NONCES = Sql("DELETE FROM request_nonce WHERE seen_at < clock_timestamp() - interval '10 minutes'")
PRUNE_SESSIONS = Sql("DELETE FROM terminal_session WHERE expires_at <= kinpay_now()")


async def prune_sessions(db: Database) -> tuple[int, int]:
    """Removes nonces older than 10 minutes (a signature is good for 2) and sessions that are over; returns both numbers."""
    async with db.transaction() as conn:
        return await PRUNE_NONCES.run(conn), await PRUNE_SESSIONS.run(conn)
