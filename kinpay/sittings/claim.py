"""Whom a person says they are before they look into the camera: by a card, a code, or the last digits of a phone number.

The same statements run whoever it is, and nobody is told whether there is such a person.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from kinpay.database.sql import Connection, Sql
from kinpay.primitives.errors import CheckCodeAltered, CheckCodeUsed, Invalid
from kinpay.sittings.hidden import Hidden
from kinpay.terminals.codes import CardCode, Codes, PayCode, still_good
from kinpay.terminals.emv_codes import bare_pay_code

SHARED_BY_AT_MOST: Final = 40
"""How many people's numbers may end alike before more digits are wanted."""
_DIGITS: Final = re.compile(r"[0-9]{4,10}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What was said: a scanned `code` (a card's or a phone's), or `phone_digits`, four at least."""

    code: str | None = None
    phone_digits: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """Whom it names. `credential_id`: the card or phone whose own cap binds the payment as well."""

    hidden: Hidden
    credential_id: str | None = None


async def read_claim(
    conn: Connection, codes: Codes, claim: Claim, *, operator_id: str, terminal_id: str, now: datetime
) -> Claimed:
    """Reads a claim. A one-time code is used up by it.

    Raises: Invalid where it is neither or both, for digits that are none, or too few for this operator; CheckCodeAltered,
    CheckCodeExpired, CheckCodeUsed.
    """
    if (claim.code is None) == (claim.phone_digits is None):
        raise Invalid("code_or_digits", field="claim")
    if claim.phone_digits is not None:
        return await _by_digits(conn, claim.phone_digits, operator_id=operator_id)
    text = str(claim.code)
    if text.startswith("K1C."):
        card = codes.read(text, CardCode)
        _same_operator(card.operator_id, operator_id)
        hidden = Hidden(people=(card.spender_id,), circle_id=card.circle_id, factor="card")
        return Claimed(hidden=hidden, credential_id=card.credential_id)
    code = codes.read(bare_pay_code(text), PayCode)
    _same_operator(code.operator_id, operator_id)
    expires_at = still_good(code.expires_s, now)
    if await BURN.value(conn, code_id=code.code_id, terminal_id=terminal_id, expires_at=expires_at, now=now) is None:
        raise CheckCodeUsed()
    hidden = Hidden(people=(code.spender_id,), circle_id=code.circle_id, factor="code")
    return Claimed(hidden=hidden, credential_id=code.credential_id)


BURN = Sql("""
    INSERT INTO burnt_code (id, kind, terminal_id, expires_at, burnt_at)
    VALUES (:code_id, 'pay', :terminal_id, :expires_at, :now) ON CONFLICT DO NOTHING RETURNING id
""")
# Those whose own number ends so; and those who have no phone of their own, by the number of somebody who pays for them.
BY_DIGITS = Sql("""
    WITH named AS (
        SELECT c.person_id FROM person_contact c JOIN person p ON p.id = c.person_id
        WHERE c.channel = 'phone' AND right(c.address, 4) = right(:digits, 4) AND right(c.address, length(:digits)) = :digits
          AND p.operator_id = :operator_id AND p.state = 'active'
    )
    SELECT person_id FROM named
    UNION
    SELECT s.person_id FROM named n
    JOIN circle_member p ON p.person_id = n.person_id AND p.role = 'payer' AND p.ended_at IS NULL
    JOIN circle_member s ON s.circle_id = p.circle_id AND s.role = 'spender' AND s.ended_at IS NULL
    ORDER BY person_id LIMIT :most
""")


async def _by_digits(conn: Connection, digits: str, *, operator_id: str) -> Claimed:
    if not _DIGITS.fullmatch(digits):
        raise Invalid("digits_malformed", field="claim.phone_digits")
    rows = await BY_DIGITS.rows(conn, digits=digits, operator_id=operator_id, most=SHARED_BY_AT_MOST + 1)
    if len(rows) > SHARED_BY_AT_MOST:
        raise Invalid("more_digits", field="claim.phone_digits")
    return Claimed(hidden=Hidden(people=tuple(row["person_id"] for row in rows), factor="phone_digits"))


def _same_operator(of_code: str, operator_id: str) -> None:
    if of_code != operator_id:
        raise CheckCodeAltered()
