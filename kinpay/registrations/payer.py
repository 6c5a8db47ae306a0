"""Finding the payer whom a request names, and deciding whether they are disturbed at all.

Whoever asks learns nothing of it: a payer who is not there, a minor, one who has blocked the spender, or who has enough open
requests, and a payer who simply does not answer, all look the same, by the same number of statements.
Source: [0020]-[0021]; semantics.md "Registration"; threats A02, A03.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from kinpay.database import audit
from kinpay.database.sql import Connection, Sql
from kinpay.people.person import Person, PersonState, is_adult
from kinpay.people.store import find_by_account, person_row
from kinpay.primitives.clock import local_date
from kinpay.primitives.ids import new_id
from kinpay.registrations.registration import CARD_MARK, Rules
from kinpay.terminals.codes import CardCode

_DAY: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """How the asker named a payer: by account, or by a card that was held to the terminal (already verified as ours)."""

    account: str | None = None
    card: CardCode | None = None

    def as_kept(self) -> str:
        """What is kept in `payer_account`; a card stands for an account that the asker need not learn."""
        return f"{CARD_MARK}{self.card.credential_id}" if self.card is not None else str(self.account)


TAKE_TURN = Sql("SELECT pg_advisory_xact_lock(hashtextextended(:operator_id || '/' || :named, 0))")


async def take_turn(conn: Connection, operator_id: str, named: Named) -> None:
    """Lets requests to one name pass one at a time, whether or not somebody has that name, so that the caps hold."""
    await TAKE_TURN.value(conn, operator_id=operator_id, named=named.as_kept())


CARD_OWNER = Sql("""
    SELECT p.account FROM credential c JOIN person p ON p.id = c.person_id
    WHERE c.id = :credential_id AND c.kind = 'card' AND c.state = 'active'
""")

# A payer who has blocked a spender, or taken the block back, says so by events in the payer's own lane.
STANDING = Sql("""
    SELECT (SELECT count(*) FROM registration WHERE payer_id = :payer_id AND state = 'open' AND expires_at > :now) AS open,
           (SELECT count(*) FROM registration WHERE payer_id = :payer_id AND created_at > :day_ago) AS day,
           EXISTS (SELECT FROM registration WHERE payer_id = :payer_id AND spender_id = :spender_id AND state = 'refused'
                   AND closed_at > :cool_since) AS refused,
           coalesce((SELECT kind = 'registration.blocked' FROM audit_event
                     WHERE subject_id = :spender_id AND actor_id = :payer_id
                       AND kind IN ('registration.blocked', 'registration.unblocked')
                     ORDER BY seq DESC LIMIT 1), false) AS blocked
""")


async def reach_payer(
    conn: Connection, named: Named, *, operator_id: str, spender_id: str, today_zone: str, rules: Rules, now: datetime
) -> str | None:
    """The payer who will be told of the request, or None: always three statements, whatever the reason."""
    credential_id = new_id() if named.card is None else named.card.credential_id
    by_card: str | None = await CARD_OWNER.value(conn, credential_id=credential_id)
    account = named.account if named.card is None else by_card
    found = await find_by_account(conn, operator_id, account or "")
    standing = await STANDING.row(
        conn,
        payer_id=new_id() if found is None else found.id,
        spender_id=spender_id,
        now=now,
        day_ago=now - _DAY,
        cool_since=now - rules.cool_down,
    )
    assert standing is not None
    may_be_told = (
        standing["open"] < rules.open_per_payer
        and standing["day"] < rules.per_payer_per_day
        and not standing["refused"]
        and not standing["blocked"]
    )
    able = found is not None and can_pay(found, now=now, zone_name=today_zone) and found.id != spender_id
    return found.id if found is not None and able and may_be_told else None


def can_pay(person: Person, *, now: datetime, zone_name: str) -> bool:
    """Whether somebody may be a payer at all: active, reachable, of age on the operator's calendar."""
    is_reachable = person.state is PersonState.ACTIVE and not person.assisted
    return is_reachable and is_adult(person.birth_date, local_date(now, zone_name))


async def block(conn: Connection, payer_id: str, spender_id: str, *, now: datetime) -> None:
    """Keeps a spender from reaching this payer until it is taken back; the spender is not told."""
    await audit.record(conn, payer_id, audit.Event("registration.blocked", spender_id, {}, payer_id), now=now)


async def unblock(conn: Connection, payer_id: str, spender_id: str, *, now: datetime) -> None:
    """Takes a block back; without one it changes nothing that counts."""
    await audit.record(conn, payer_id, audit.Event("registration.unblocked", spender_id, {}, payer_id), now=now)


BLOCKED = Sql("""
    SELECT spender_id, since FROM (
        SELECT DISTINCT ON (subject_id) subject_id AS spender_id, kind, at AS since FROM audit_event
        WHERE lane = :payer_id AND kind IN ('registration.blocked', 'registration.unblocked')
        ORDER BY subject_id, seq DESC) last
    WHERE kind = 'registration.blocked' ORDER BY spender_id LIMIT 100
""")


async def blocked_spenders(conn: Connection, payer_id: str) -> list[tuple[Person, datetime]]:
    """Whom this payer has blocked, and since when; at most a hundred."""
    found: list[tuple[Person, datetime]] = []
    for row in await BLOCKED.rows(conn, payer_id=payer_id):
        person = await person_row(conn, row["spender_id"])
        if person is not None:
            found.append((person, row["since"]))
    return found
