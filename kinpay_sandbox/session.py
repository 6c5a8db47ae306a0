"""The browser's session at the bank: who has signed in, and the token without which no form counts.

Source: docs/sandbox-bank.md §3 (the bank's own pages).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from kinpay_sandbox.books import Pool, now_utc

LIFE = timedelta(minutes=30)
FRESH = timedelta(minutes=5)
COOKIE = "kinbank_session"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One browser; `login` is None until somebody has signed in. Only a hash of `session_id` is kept."""

    session_id: str
    csrf: str
    login: str | None
    signed_in_at: datetime | None

    def accepts(self, csrf: str) -> bool:
        """Tell whether a form came from one of our own pages in this browser."""
        return hmac.compare_digest(self.csrf.encode(), csrf.encode())

    def is_fresh(self, now: datetime) -> bool:
        """Tell whether the password was given recently enough to sign an agreement with."""
        return self.signed_in_at is not None and now - self.signed_in_at < FRESH


def _hash(session_id: str) -> bytes:
    return hashlib.sha256(session_id.encode()).digest()


SELECT_SESSION = "SELECT csrf, login, signed_in_at FROM sessions WHERE session_hash = $1 AND expires_at > now()"


async def find_session(db: Pool, session_id: str) -> Session | None:
    """Return the session of a cookie, or None if it has run out or never was."""
    row = await db.fetchrow(SELECT_SESSION, _hash(session_id))
    return None if row is None else Session(session_id=session_id, **dict(row))


INSERT_SESSION = """
INSERT INTO sessions (session_hash, csrf, login, signed_in_at, expires_at) VALUES ($1, $2, $3, $4, $5)"""


async def begin_session(db: Pool, login: str | None = None) -> Session:
    """Begin a session under a new number; signing in always begins a new one, so that none can be planted."""
    now = now_utc()
    session = Session(
        session_id=secrets.token_urlsafe(32),
        csrf=secrets.token_urlsafe(24),
        login=login,
        signed_in_at=None if login is None else now,
    )
    values = (session.csrf, session.login, session.signed_in_at, now + LIFE)
    await db.execute(INSERT_SESSION, _hash(session.session_id), *values)
    return session


DELETE_SESSION = "DELETE FROM sessions WHERE session_hash = $1"


async def end_session(db: Pool, session: Session) -> None:
    """End a session at once."""
    await db.execute(DELETE_SESSION, _hash(session.session_id))
