"""Signing in by a one-time code, the session that follows, and its end.

Source: threats A26 (uniform error, few attempts); OWASP ASVS 7 (sessions: random, hashed, absolute life).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from kinpay.database import audit
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection, Sql
from kinpay.people import code, store
from kinpay.people.open_account import Started
from kinpay.people.person import Person, PersonState
from kinpay.primitives.actor import Actor, ActorKind
from kinpay.primitives.errors import Unauthenticated
from kinpay.primitives.ids import new_id, new_secret
from kinpay.primitives.sealed import Sealed
from kinpay.primitives.server_keys import ServerKeys

SESSION_LIFE: Final = timedelta(days=30)
TOKEN_BYTES: Final = 32
_TOKEN_LENGTHS: Final = range(32, 129)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """A new session: its token is shown once and kept only as a hash."""

    token: Sealed[str]
    expires_at: datetime
    person: Person


# A phone before a mailbox, and what was verified before what was not.
CONTACT_OF_ACCOUNT = Sql("""
    SELECT p.id, p.locale, c.address, c.verified_at IS NOT NULL AS verified
    FROM person p JOIN person_contact c ON c.person_id = p.id
    WHERE p.operator_id = :operator_id AND p.account = :account AND p.state IN ('unverified', 'active')
    ORDER BY c.verified_at IS NULL, c.channel DESC LIMIT 1
""")


async def start_sign_in(db: Database, keys: ServerKeys, *, operator_id: str, account: str) -> Started:
    """Sends a sign-in code to the person of that (normalised) account; for a name that nobody has, goes through the same steps.

    Raises: TooMany, with `retry_after_s`; also for names that nobody has.
    """
    ref = code.account_ref(keys, operator_id, account)
    async with db.transaction() as conn:
        await code.lock_name(conn, ref)
        now = await database_now(conn)
        await code.cap_sign_ins(conn, ref, now=now)
        found = await CONTACT_OF_ACCOUNT.row(conn, operator_id=operator_id, account=account)
        person_id, address, locale = (found["id"], found["address"], found["locale"]) if found else (None, None, "zh")
        stranger = found is not None and not found["verified"]
        asked = str(address) if stranger else new_id()
        if not await code.may_send_to_stranger(conn, keys, operator_id=operator_id, address=asked, now=now):
            address = None
        sent = await code.keep_code(
            conn, keys, code_id=code.sign_in_code_id(ref), person_id=person_id, content_hash=None, now=now
        )
        recipient = code.Recipient(address=address, account=account, locale=locale)
        await code.enqueue_code(conn, keys, code=sent, recipient=recipient, purpose="sign_in", now=now)
    return Started(sign_in_id=sent.id, expires_at=sent.expires_at)


async def finish_sign_in(db: Database, keys: ServerKeys, *, sign_in_id: str, digits: str) -> SignedIn:
    """Opens a session for whoever holds the code. Every attempt is counted, whatever comes of it.

    Raises: Unauthenticated, the same for a wrong, used, expired, worn-out or unknown code.
    """
    async with db.transaction() as conn:
        now = await database_now(conn)
        row = await code.take_attempt(conn, sign_in_id, purpose="sign_in", now=now)
        right = row is not None and code.fits(keys, row, code_id=sign_in_id, digits=digits)
        signed_in = None
        if row is not None and right and row["person_id"] is not None and await code.burn(conn, sign_in_id, now=now):
            signed_in = await _open_session(conn, row["person_id"], now=now)
    # Only now, outside: an exception inside would undo the counting.
    if signed_in is None:
        raise Unauthenticated()
    return signed_in


VERIFY_PERSON = Sql("UPDATE person SET state = 'active' WHERE id = :person_id AND state = 'unverified' RETURNING 1")
VERIFY_CONTACT = Sql("""
    UPDATE person_contact SET verified_at = :now WHERE person_id = :person_id AND verified_at IS NULL AND channel = (
        SELECT channel FROM person_contact WHERE person_id = :person_id
        ORDER BY verified_at IS NULL, channel DESC LIMIT 1)
""")
INSERT_SESSION = Sql("""
    INSERT INTO session (token_hash, person_id, created_at, expires_at) VALUES (:token_hash, :person_id, :now, :expires_at)
""")


async def _open_session(conn: Connection, person_id: str, *, now: datetime) -> SignedIn | None:
    verified = await VERIFY_PERSON.value(conn, person_id=person_id) is not None
    await VERIFY_CONTACT.run(conn, person_id=person_id, now=now)
    person = await store.person_row(conn, person_id)
    if person is None or person.state is not PersonState.ACTIVE:
        return None
    token, expires_at = new_secret(TOKEN_BYTES), now + SESSION_LIFE
    await INSERT_SESSION.run(conn, token_hash=_token_hash(token), person_id=person_id, now=now, expires_at=expires_at)
    events = [audit.Event("person.verified", person_id, {}, person_id)] if verified else []
    events.append(audit.Event("person.signed_in", person_id, {}, person_id))
    await audit.record(conn, person.operator_id, *events, now=now)
    return SignedIn(token=Sealed(token), expires_at=expires_at, person=person)


def _token_hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


AUTHENTICATE = Sql("""
    SELECT p.id, p.operator_id,
           ARRAY(SELECT role FROM staff WHERE operator_id = p.operator_id AND person_id = p.id AND ended_at IS NULL) AS roles
    FROM session s JOIN person p ON p.id = s.person_id
    WHERE s.token_hash = :token_hash AND s.ended_at IS NULL AND s.expires_at > kinpay_now() AND p.state = 'active'
""")


async def authenticate_person(db: Database, token: str) -> Actor | None:
    """Who holds this session token: one query a request, so that a sign-out or a lost role counts at once; None for nobody."""
    if len(token) not in _TOKEN_LENGTHS or not token.isascii():
        return None
    async with db.connection() as conn:
        row = await AUTHENTICATE.row(conn, token_hash=_token_hash(token))
    if row is None:
        return None
    return Actor(ActorKind.PERSON, row["id"], row["operator_id"], frozenset(row["roles"]))


END_SESSION = Sql("""
    UPDATE session s SET ended_at = :now FROM person p
    WHERE s.token_hash = :token_hash AND s.ended_at IS NULL AND p.id = s.person_id RETURNING p.id, p.operator_id
""")


async def sign_out(db: Database, token: str) -> None:
    """Ends the session of this token; nothing happens if there is none."""
    async with db.transaction() as conn:
        now = await database_now(conn)
        row = await END_SESSION.row(conn, token_hash=_token_hash(token), now=now)
        if row is not None:
            event = audit.Event("person.signed_out", row["id"], {}, row["id"])
            await audit.record(conn, row["operator_id"], event, now=now)
