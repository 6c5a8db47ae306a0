"""A person's own PIN beside their face: a keyed hash, chosen when the face is enrolled. Its failures are the person's lock.

It is not a card's PIN: whoever finds a card and guesses knows nothing of this one. Source: story S2 (face and PIN).
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from datetime import date, datetime
from typing import Final

from kinpay.database.sql import Connection, Sql
from kinpay.primitives.errors import Invalid
from kinpay.primitives.server_keys import ServerKeys

_PURPOSE: Final = "face-pin"
_RUNS: Final = ("0123456789012", "9876543210987")


def require_hard(pin: str, *, birth_date: date | None) -> None:
    """Refuses what whoever guesses tries first: one digit or two in turn, a run, a year, the person's own birthday.

    Raises: Invalid.
    """
    born = set() if birth_date is None else {birth_date.strftime(form) for form in ("%m%d", "%d%m", "%Y", "%y%m%d", "%Y%m%d")}
    in_turn = pin == (pin[:2] * len(pin))[: len(pin)]
    year = len(pin) == 4 and pin[:2] in ("19", "20")
    if in_turn or year or pin in born or any(pin in run for run in _RUNS):
        raise Invalid("pin_too_simple", field="pin")


SET = Sql("""
    INSERT INTO face_pin (person_id, pin_hash, set_at) VALUES (:person_id, :pin_hash, :now)
    ON CONFLICT (person_id) DO UPDATE SET pin_hash = excluded.pin_hash, set_at = excluded.set_at
""")
HASHES = Sql("SELECT person_id, pin_hash FROM face_pin WHERE person_id = ANY(:person_ids)")
FORGET = Sql("DELETE FROM face_pin WHERE person_id = :person_id")


async def set_pin(conn: Connection, keys: ServerKeys, person_id: str, *, pin: str, now: datetime) -> None:
    """Keeps a PIN, instead of an earlier one."""
    await SET.run(conn, person_id=person_id, pin_hash=keys.mac(_PURPOSE, person_id.encode(), pin.encode()), now=now)


HAS = Sql("SELECT EXISTS (SELECT FROM face_pin WHERE person_id = :person_id)")


async def has_pin(conn: Connection, person_id: str) -> bool:
    """Whether one was chosen."""
    return bool(await HAS.value(conn, person_id=person_id))


async def forget_pin(conn: Connection, person_id: str) -> None:
    """Together with the face."""
    await FORGET.run(conn, person_id=person_id)


async def whose_pin(conn: Connection, keys: ServerKeys, person_ids: Sequence[str], *, pin: str) -> str | None:
    """The one among `person_ids` whose PIN it is; None for nobody, and for two who happen to have the same."""
    rows = await HASHES.rows(conn, person_ids=list(person_ids))
    fitting = [row["person_id"] for row in rows if _fits(keys, row["pin_hash"], row["person_id"], pin=pin)]
    return fitting[0] if len(fitting) == 1 else None


def _fits(keys: ServerKeys, kept: bytes, person_id: str, *, pin: str) -> bool:
    made = keys.macs(_PURPOSE, person_id.encode(), pin.encode())
    return sum(hmac.compare_digest(kept, other) for other in made) > 0
