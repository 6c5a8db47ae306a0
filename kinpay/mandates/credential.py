"""What a spender carries that selects the circle: a printed card with its own low cap and a PIN, or the phone itself.

Source: story S2 (elder without a phone); product.md §4 (PBOC tier: static codes 500 a day).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from kinpay.database import audit
from kinpay.database.pool import database_now
from kinpay.database.sql import Connection, Record, Sql
from kinpay.mandates.counters import ensure_counters
from kinpay.mandates.limit import Limit
from kinpay.mandates.pin import pin_hash
from kinpay.mandates.store import names_of
from kinpay.mandates.tell import tell
from kinpay.mandates.terms import Terms, require_no_cooling
from kinpay.people.lock import LockedCircle, lock_circle, rules_changed
from kinpay.people.store import member_roles, people_of
from kinpay.primitives.errors import NotFound
from kinpay.primitives.ids import new_id
from kinpay.primitives.money import EXPONENTS
from kinpay.primitives.server_keys import ServerKeys
from kinpay.terminals.codes import CardCode, Codes, PayCode

PAY_CODE_LIFE: Final = timedelta(seconds=60)
_CARD_PER_PAYMENT: Final = 200
_CARD_PER_DAY: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A row of `credential`, without its secrets. `terms` None: no cap of its own."""

    id: str
    circle_id: str
    person_id: str
    kind: str
    state: str
    terms: Terms | None
    has_pin: bool
    pin_locked_until: datetime | None
    issued_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCode:
    """A code that was just made, for its bearer only. `expires_at` None: static, until revoked."""

    credential_id: str
    code: str
    expires_at: datetime | None


def card_terms(currency: str) -> Terms:
    """The cap of a card for which nothing else was set: 200 a payment, 500 a day, in whole units of `currency`."""
    unit = 10 ** EXPONENTS[currency]
    return Terms(
        currency=currency,
        limits=[
            Limit(metric="amount", window="per_payment", at_most=_CARD_PER_PAYMENT * unit),
            Limit(metric="amount", window="day", at_most=_CARD_PER_DAY * unit),
        ],
    )


CREDENTIAL = Sql("""
    SELECT id, circle_id, person_id, kind, state, terms, pin_hash IS NOT NULL AS has_pin, pin_locked_until,
           issued_at, revoked_at
    FROM credential WHERE id = :credential_id
""")
CREDENTIALS_OF = Sql("""
    SELECT id, circle_id, person_id, kind, state, terms, pin_hash IS NOT NULL AS has_pin, pin_locked_until,
           issued_at, revoked_at
    FROM credential WHERE circle_id = :circle_id AND kind = 'card' AND (:person_id::uuid IS NULL OR person_id = :person_id)
      AND (:after::uuid IS NULL OR id > :after) ORDER BY id LIMIT :most
""")


def _read(row: Record) -> Credential:
    return Credential(**{**row, "terms": None if row["terms"] is None else Terms.kept(row["terms"])})


async def credential_row(conn: Connection, credential_id: str) -> Credential | None:
    """The credential, revoked or not, or None."""
    row = await CREDENTIAL.row(conn, credential_id=credential_id)
    return None if row is None else _read(row)


async def cards_of(
    conn: Connection, circle_id: str, *, person_id: str | None, after: str | None, limit: int
) -> list[Credential]:
    """The circle's cards (of one person, if named), revoked ones too, in the order of their ids."""
    rows = await CREDENTIALS_OF.rows(conn, circle_id=circle_id, person_id=person_id, after=after, most=limit)
    return [_read(row) for row in rows]


INSERT_CREDENTIAL = Sql("""
    INSERT INTO credential (id, circle_id, person_id, kind, state, terms, pin_hash, issued_at)
    VALUES (:id, :circle_id, :person_id, :kind, 'active', :terms, :pin_hash, :now)
""")
ACTIVE = Sql("""
    SELECT id FROM credential
    WHERE circle_id = :circle_id AND person_id = :person_id AND kind = :kind AND state = 'active' ORDER BY id
""")


async def issue_card(
    conn: Connection,
    codes: Codes,
    *,
    keys: ServerKeys,
    circle_id: str,
    person_id: str,
    terms: Terms,
    pin: str | None,
    now: datetime,
    actor_id: str | None = None,
) -> NewCode:
    """Makes a card for a person in a circle; the person's older cards there are revoked, so that a lost one is worthless.

    `terms` is the card's own cap (`card_terms` is the preset), which binds beside the mandates; `pin` is kept as a keyed hash.
    Raises: NotFound for a circle that is not there; Invalid for terms that would cool down.
    """
    require_no_cooling(terms)
    circle = await lock_circle(conn, circle_id)
    older = await _active(conn, circle_id, person_id, "card")
    await _revoke(conn, circle, older, actor_id=actor_id, now=now)
    credential_id = new_id()
    await INSERT_CREDENTIAL.run(
        conn,
        id=credential_id,
        circle_id=circle_id,
        person_id=person_id,
        kind="card",
        terms=terms.canonical(),
        pin_hash=None if pin is None else pin_hash(keys, credential_id, pin),
        now=now,
    )
    await ensure_counters(
        conn, circle=circle, scope="credential", scope_id=credential_id, terms=terms, consented_at=now, now=now
    )
    await rules_changed(conn, circle_id)
    await _tell(conn, "card_issued", circle, credential_id, person_id=person_id, now=now)
    body = {"person": person_id, "terms_hash": terms.hash().hex(), "pin": pin is not None}
    await audit.record(conn, circle_id, audit.Event("card.issued", credential_id, body, actor_id), now=now)
    return NewCode(credential_id=credential_id, code=await card_code(conn, codes, credential_id), expires_at=None)


OPERATOR_OF = Sql("SELECT operator_id FROM circle WHERE id = :circle_id")


async def card_code(conn: Connection, codes: Codes, credential_id: str) -> str:
    """What is printed on a card: always the same for it, under the same server key. Raises: NotFound."""
    card = await credential_row(conn, credential_id)
    if card is None or card.kind != "card":
        raise NotFound()
    return codes.write(
        CardCode(
            operator_id=await OPERATOR_OF.value(conn, circle_id=card.circle_id),
            circle_id=card.circle_id,
            spender_id=card.person_id,
            credential_id=credential_id,
        )
    )


async def _active(conn: Connection, circle_id: str, person_id: str, kind: str) -> list[str]:
    return [row["id"] for row in await ACTIVE.rows(conn, circle_id=circle_id, person_id=person_id, kind=kind)]


REVOKE = Sql("""
    UPDATE credential SET state = 'revoked', revoked_at = :now WHERE id = ANY(:ids) AND state = 'active'
    RETURNING id, person_id, kind
""")


async def _revoke(conn: Connection, circle: LockedCircle, ids: Sequence[str], *, actor_id: str | None, now: datetime) -> None:
    rows = await REVOKE.rows(conn, ids=list(ids), now=now)
    if not rows:
        return
    await rules_changed(conn, circle.id)
    for row in rows:
        await _tell(conn, f"{row['kind']}_revoked", circle, row["id"], person_id=row["person_id"], now=now)
    events = [audit.Event(f"{row['kind']}.revoked", row["id"], {"person": row["person_id"]}, actor_id) for row in rows]
    await audit.record(conn, circle.id, *events, now=now)


async def revoke_card(conn: Connection, *, credential_id: str, person_id: str) -> Credential:
    """Makes a card worthless, at once; its bearer and the circle's payers may. Twice is as good as once.

    Raises: NotFound for anybody else.
    """
    found = await credential_row(conn, credential_id)
    if found is None or found.kind != "card":
        raise NotFound()
    circle = await lock_circle(conn, found.circle_id)
    payer = "payer" in await member_roles(conn, circle.id, person_id)
    if not payer and person_id != found.person_id:
        raise NotFound()
    await _revoke(conn, circle, [credential_id], actor_id=person_id, now=await database_now(conn))
    revoked = await credential_row(conn, credential_id)
    assert revoked is not None
    return revoked


async def ensure_phone(conn: Connection, *, circle_id: str, person_id: str, now: datetime) -> str:
    """The credential that the person's phone is in that circle, made if there is none. Returns its id."""
    circle = await lock_circle(conn, circle_id)
    for credential_id in await _active(conn, circle_id, person_id, "phone"):
        return credential_id
    credential_id = new_id()
    await INSERT_CREDENTIAL.run(
        conn, id=credential_id, circle_id=circle_id, person_id=person_id, kind="phone", terms=None, pin_hash=None, now=now
    )
    await rules_changed(conn, circle.id)
    event = audit.Event("phone.issued", credential_id, {"person": person_id})
    await audit.record(conn, circle_id, event, now=now)
    return credential_id


async def make_pay_code(conn: Connection, codes: Codes, *, circle_id: str, person_id: str) -> NewCode:
    """What a spender's phone shows for one payment; sixty seconds of life, burnt by the charge.

    Raises: NotFound for whoever is not a spender of that circle with a phone.
    """
    roles = await member_roles(conn, circle_id, person_id)
    phones = await _active(conn, circle_id, person_id, "phone")
    if "spender" not in roles or not phones:
        raise NotFound()
    expires_at = (await database_now(conn)).replace(microsecond=0) + PAY_CODE_LIFE
    code = PayCode(
        code_id=new_id(),
        operator_id=await OPERATOR_OF.value(conn, circle_id=circle_id),
        circle_id=circle_id,
        spender_id=person_id,
        credential_id=phones[0],
        expires_s=int(expires_at.timestamp()),
    )
    return NewCode(credential_id=phones[0], code=codes.write(code), expires_at=expires_at)


async def _tell(
    conn: Connection, kind: str, circle: LockedCircle, credential_id: str, *, person_id: str, now: datetime
) -> None:
    """Tells the bearer and the circle's payers."""
    name = (await names_of(conn, [person_id])).get(person_id, "")
    body = {
        "circle_id": circle.id,
        "circle_name": circle.name,
        "credential_id": credential_id,
        "spender_id": person_id,
        "spender_name": name,
    }
    people = [person_id, *await people_of(conn, circle.id, "payer")]
    await tell(conn, kind, circle_id=circle.id, subject_id=credential_id, people=people, body=body, now=now)
