"""One-time codes: six digits that leave by the code channel and are kept only as a keyed hash.

Sign-in codes belong to an account name, whether anybody has it or not: their ids begin with a keyed hash of the name, so that
counting how many were asked for is one range of the primary key, the same for an account that exists and for one that does not.
Source: threats A03, A26; ASVS 6.5 (one-time, short-lived, capped).
"""

from __future__ import annotations

import hmac
import math
import secrets
from base64 import b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from kinpay.database import outbox
from kinpay.database.sql import Connection, Record, Sql
from kinpay.primitives.errors import TooMany
from kinpay.primitives.ids import new_digits
from kinpay.primitives.sealed import Sealed
from kinpay.primitives.server_keys import ServerKeys

DIGITS: Final = 6
LIFE: Final = timedelta(minutes=5)
ATTEMPTS: Final = 5
TOPIC: Final = "code.send"
CODE_PATTERN: Final = r"^[0-9]{6}$"


@dataclass(frozen=True, slots=True)
class Cap:
    """At most `most` codes within `within`."""

    most: int
    within: timedelta


SIGN_IN_CAPS: Final = (Cap(5, timedelta(hours=1)), Cap(20, timedelta(days=1)))
"""A day's 20 codes of five attempts leave a guesser one chance in ten thousand, without locking the owner out for long."""
STRANGE_ADDRESS_CAPS: Final = (Cap(10, timedelta(hours=1)), Cap(30, timedelta(days=1)))
"""Codes to an address that nobody has shown to be theirs: enough for a family's one phone, too few to pester a stranger."""
PROOF_CAPS: Final = (Cap(10, timedelta(hours=1)), Cap(60, timedelta(days=1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCode:
    """A code just made: its row's id, the digits, and how long they count."""

    id: str
    digits: Sealed[str]
    expires_at: datetime


def account_ref(keys: ServerKeys, operator_id: str, account: str) -> str:
    """Sixteen hexadecimal digits that stand for an account name in the ids of its sign-in codes; a keyed hash."""
    return keys.mac("account", operator_id.encode(), account.encode())[:8].hex()


def code_hash(keys: ServerKeys, code_id: str, digits: str) -> bytes:
    """What is kept of a code: useless without the server's key, and bound to its row."""
    return keys.mac("one-time-code", code_id.encode(), digits.encode())


LOCK_NAME = Sql("SELECT pg_advisory_xact_lock(:number)")


async def lock_name(conn: Connection, ref: str) -> None:
    """Waits for whoever else asks for codes of the same account (or person), so that a cap holds under any concurrency."""
    await LOCK_NAME.value(conn, number=int.from_bytes(bytes.fromhex(ref[:16]), "big", signed=True))


RECENT_OF_ACCOUNT = Sql("""
    SELECT created_at FROM one_time_code
    WHERE id BETWEEN :first AND :last AND purpose = 'sign_in' AND created_at > :since ORDER BY created_at DESC LIMIT :most
""")
RECENT_OF_PERSON = Sql("""
    SELECT created_at FROM one_time_code
    WHERE person_id = :person_id AND purpose = 'proof' AND created_at > :since ORDER BY created_at DESC LIMIT :most
""")


async def cap_sign_ins(conn: Connection, ref: str, *, now: datetime) -> None:
    """Raises: TooMany, with `retry_after_s`, when too many codes were asked for that account name lately."""
    await _cap_account(conn, ref, SIGN_IN_CAPS, now=now)


async def _cap_account(conn: Connection, ref: str, caps: tuple[Cap, ...], *, now: datetime) -> None:
    bounds = {"first": ref + "0" * 16, "last": ref + "f" * 16}
    longest = max(cap.within for cap in caps)
    rows = await RECENT_OF_ACCOUNT.rows(conn, **bounds, since=now - longest, most=max(cap.most for cap in caps))
    _refuse_above([row["created_at"] for row in rows], caps, now=now)


async def cap_proofs(conn: Connection, person_id: str, *, now: datetime) -> None:
    """Raises: TooMany, with `retry_after_s`, when the person asked for too many proofs lately."""
    longest = max(cap.within for cap in PROOF_CAPS)
    most = max(cap.most for cap in PROOF_CAPS)
    rows = await RECENT_OF_PERSON.rows(conn, person_id=person_id, since=now - longest, most=most)
    _refuse_above([row["created_at"] for row in rows], PROOF_CAPS, now=now)


def _refuse_above(newest_first: list[datetime], caps: tuple[Cap, ...], *, now: datetime) -> None:
    waits = [
        newest_first[cap.most - 1] + cap.within - now
        for cap in caps
        if len(newest_first) >= cap.most and newest_first[cap.most - 1] > now - cap.within
    ]
    if waits:
        raise TooMany(retry_after_s=max(1, math.ceil(max(waits).total_seconds())))


INSERT_CODE = Sql("""
    INSERT INTO one_time_code (id, person_id, purpose, content_hash, code_hash, created_at, expires_at)
    VALUES (:id, :person_id, :purpose, :content_hash, :code_hash, :now, :expires_at)
""")


async def keep_code(
    conn: Connection,
    keys: ServerKeys,
    *,
    code_id: str,
    person_id: str | None,
    content_hash: bytes | None,
    now: datetime,
) -> NewCode:
    """Makes a code and keeps its hash: a proof's if there is a content, else a sign-in's. `person_id` None: nobody's."""
    digits = new_digits(DIGITS)
    # Nobody's code gets a hash that no digits have, so that a lucky guess meets nothing either.
    hashed = code_hash(keys, code_id, digits) if person_id is not None else secrets.token_bytes(32)
    expires_at = now + LIFE
    await INSERT_CODE.run(
        conn,
        id=code_id,
        person_id=person_id,
        purpose="sign_in" if content_hash is None else "proof",
        content_hash=content_hash,
        code_hash=hashed,
        now=now,
        expires_at=expires_at,
    )
    return NewCode(id=code_id, digits=Sealed(digits), expires_at=expires_at)


def sign_in_code_id(ref: str) -> str:
    """A fresh id in the range of an account name."""
    return ref + secrets.token_hex(8)


async def may_send_to_stranger(conn: Connection, keys: ServerKeys, *, operator_id: str, address: str, now: datetime) -> bool:
    """Whether another code may leave for an address that nobody has verified; counts this one, always by three statements.

    However many accounts are opened with somebody's number, they are not sent more. No account name holds a slash.
    """
    ref = account_ref(keys, operator_id, f"/{address}")
    await lock_name(conn, ref)
    try:
        await _cap_account(conn, ref, STRANGE_ADDRESS_CAPS, now=now)
        may_send = True
    except TooMany:
        may_send = False
    await keep_code(conn, keys, code_id=sign_in_code_id(ref), person_id=None, content_hash=None, now=now)
    return may_send


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """Where a code goes. `address` None: to nobody, by the same steps."""

    address: str | None
    account: str
    locale: str


async def enqueue_code(
    conn: Connection, keys: ServerKeys, *, code: NewCode, recipient: Recipient, purpose: str, now: datetime
) -> None:
    """Puts a code into the outbox; everything personal in it is sealed, and opened by `channel.send_code` alone."""
    secret: dict[str, Any] = {"code": code.digits.open(), "address": recipient.address, "account": recipient.account}
    sealed = keys.seal(msgspec.json.encode(secret), purpose="code", bound_to=code.id)
    body = {
        "sealed": b64encode(sealed).decode(),
        "locale": recipient.locale,
        "purpose": purpose,
        "asked_at": now.isoformat(),
        "expires_at": code.expires_at.isoformat(),
    }
    # Each code is its own lane, so that an address that hangs holds up nobody.
    await outbox.enqueue(conn, TOPIC, lane=code.id, subject_id=code.id, body=body, now=now)


TAKE_ATTEMPT = Sql("""
    UPDATE one_time_code SET attempts = attempts + 1
    WHERE id = :id AND purpose = :purpose
      AND (attempts < :most AND expires_at > :now OR purpose = 'proof' AND used_at IS NOT NULL)
      AND (:owner::uuid IS NULL OR person_id = :owner)
    RETURNING person_id, content_hash, code_hash, used_at
""")


async def take_attempt(
    conn: Connection, code_id: str, *, purpose: str, now: datetime, owner: str | None = None
) -> Record | None:
    """Counts one attempt at a live code and returns its row, locked; None if it is dead. The caller commits either way.

    `owner`: only that person's code; somebody else's attempt is not even counted. A proof that was used stays readable, since
    nothing can come of it any more (see `proof.verify_proof`).
    """
    return await TAKE_ATTEMPT.row(conn, id=code_id, purpose=purpose, most=ATTEMPTS, now=now, owner=owner)


def fits(keys: ServerKeys, row: Record, *, code_id: str, digits: str) -> bool:
    """Whether `digits` are the row's code; compared in constant time."""
    return hmac.compare_digest(row["code_hash"], code_hash(keys, code_id, digits))


BURN = Sql("UPDATE one_time_code SET used_at = :now WHERE id = :id AND used_at IS NULL RETURNING 1")


async def burn(conn: Connection, code_id: str, *, now: datetime) -> bool:
    """Marks a code used; False if it already was."""
    return await BURN.value(conn, id=code_id, now=now) is not None
