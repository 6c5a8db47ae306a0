"""A card's PIN: a keyed hash, and three guesses. Source: story S2.6 (3 wrong: 15 minutes, no debit)."""

from __future__ import annotations

import hmac
import math
from datetime import datetime, timedelta
from typing import Final

from kinpay.database import audit
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection, Record, Sql
from kinpay.mandates.store import names_of
from kinpay.mandates.tell import tell
from kinpay.people.store import people_of
from kinpay.primitives.errors import PinLocked, PinRequired, PinWrong
from kinpay.primitives.server_keys import ServerKeys

ATTEMPTS: Final = 3
LOCKED_FOR: Final = timedelta(minutes=15)


def pin_hash(keys: ServerKeys, credential_id: str, pin: str) -> bytes:
    """What is kept of a PIN: useless without the server's key, and bound to its card."""
    return keys.mac("pin", credential_id.encode(), pin.encode())


def _fits(keys: ServerKeys, kept: bytes, *, credential_id: str, pin: str) -> bool:
    """Compares under every root still accepted, in constant time: a PIN outlives a rotation of the server's keys."""
    made = [pin_hash(ServerKeys((root,)), credential_id, pin) for root in keys.roots]
    return any(hmac.compare_digest(kept, other) for other in made)


LOCK_CREDENTIAL = Sql("""
    SELECT id, circle_id, person_id, pin_hash, pin_failures, pin_locked_until FROM credential
    WHERE id = :credential_id AND kind = 'card' AND state = 'active' FOR UPDATE
""")
NOTE_ATTEMPT = Sql("""
    UPDATE credential SET pin_failures = :failures, pin_locked_until = :locked_until WHERE id = :credential_id
""")


async def check_pin(db: Database, keys: ServerKeys, credential_id: str, pin: str | None) -> None:
    """Passes if `pin` is the card's; a wrong one is counted in a transaction of its own, however the payment ends.

    A card without a PIN asks for none, and a revoked one is for the decision to refuse, so that the refusal is kept.

    Raises: PinRequired if none was given; PinWrong with `attempts_left`; PinLocked with `until` and
    `retry_after_s`: from the third wrong one on, for fifteen minutes, also for the right one.
    """
    async with db.transaction() as conn:
        row = await LOCK_CREDENTIAL.row(conn, credential_id=credential_id)
        if row is None or row["pin_hash"] is None:
            return
        if pin is None:
            raise PinRequired()
        now = await database_now(conn)
        until: datetime | None = row["pin_locked_until"]
        if until is not None and now < until:
            raise _locked(until, now)
        if _fits(keys, row["pin_hash"], credential_id=credential_id, pin=pin):
            if row["pin_failures"]:
                await NOTE_ATTEMPT.run(conn, credential_id=credential_id, failures=0, locked_until=None)
            return
        refused = await _count_failure(conn, row, now=now)
    # Raised after the commit: the failure must stay counted.
    raise refused


async def _count_failure(conn: Connection, row: Record, *, now: datetime) -> PinWrong | PinLocked:
    failures = row["pin_failures"] + 1
    until = now + LOCKED_FOR if failures >= ATTEMPTS else None
    await NOTE_ATTEMPT.run(conn, credential_id=row["id"], failures=0 if until is not None else failures, locked_until=until)
    if until is None:
        return PinWrong(attempts_left=ATTEMPTS - failures)
    names = await names_of(conn, [row["person_id"]])
    body = {
        "circle_id": row["circle_id"],
        "credential_id": row["id"],
        "spender_id": row["person_id"],
        "spender_name": names.get(row["person_id"], ""),
        "until": until.isoformat(),
    }
    people = [row["person_id"], *await people_of(conn, row["circle_id"], "payer")]
    await tell(conn, "card_locked", circle_id=row["circle_id"], subject_id=row["id"], people=people, body=body, now=now)
    event = audit.Event("card.locked", row["id"], {"until": until.isoformat()})
    await audit.record(conn, row["circle_id"], event, now=now)
    return _locked(until, now)


def _locked(until: datetime, now: datetime) -> PinLocked:
    return PinLocked(until=until.isoformat(), retry_after_s=max(1, math.ceil((until - now).total_seconds())))
