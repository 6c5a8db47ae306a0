"""How agreements are kept. Writers hold the circle's lock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from kinpay.database import audit
from kinpay.database.sql import Connection, Record, Sql
from kinpay.mandates.agreement import AGREEMENT_LIFE, Agreement, AgreementEvent, AgreementState
from kinpay.people.lock import LockedCircle, lock_circle, rules_changed
from kinpay.primitives.errors import Conflict, NotFound


def read_agreement(row: Record) -> Agreement:
    """An agreement from a row that has exactly its columns."""
    return Agreement(**{**row, "state": AgreementState(row["state"])})


AGREEMENT = Sql("""
    SELECT id, circle_id, operator_id, provider_account_id, payer_id, payer_account, payer_account_id, business_type, currency,
           per_debit_minor, per_day_minor, state, provider_ref, action_url, created_at, expires_at, active_at, ended_at,
           ended_by, next_check_at
    FROM agreement WHERE id = :agreement_id
""")


async def agreement_row(conn: Connection, agreement_id: str) -> Agreement | None:
    """The agreement, in whatever state, or None."""
    row = await AGREEMENT.row(conn, agreement_id=agreement_id)
    return None if row is None else read_agreement(row)


async def lock_agreement(conn: Connection, agreement_id: str) -> tuple[LockedCircle, Agreement]:
    """The agreement as it is once its circle is locked. Raises: NotFound."""
    found = await agreement_row(conn, agreement_id)
    if found is None:
        raise NotFound()
    circle = await lock_circle(conn, found.circle_id)
    locked = await agreement_row(conn, agreement_id)
    assert locked is not None, "agreements are never deleted"
    return circle, locked


AGREEMENTS = Sql("""
    SELECT id, circle_id, operator_id, provider_account_id, payer_id, payer_account, payer_account_id, business_type, currency,
           per_debit_minor, per_day_minor, state, provider_ref, action_url, created_at, expires_at, active_at, ended_at,
           ended_by, next_check_at
    FROM agreement WHERE id = ANY(:ids)
""")


async def agreements(conn: Connection, ids: Sequence[str]) -> list[Agreement]:
    """Those of `ids` that exist, in the order of `ids`."""
    found = {row["id"]: read_agreement(row) for row in await AGREEMENTS.rows(conn, ids=list(ids))}
    return [found[agreement_id] for agreement_id in ids if agreement_id in found]


AGREEMENTS_OF = Sql("""
    SELECT id, circle_id, operator_id, provider_account_id, payer_id, payer_account, payer_account_id, business_type, currency,
           per_debit_minor, per_day_minor, state, provider_ref, action_url, created_at, expires_at, active_at, ended_at,
           ended_by, next_check_at
    FROM agreement WHERE payer_id = :payer_id AND (:after::uuid IS NULL OR id > :after) ORDER BY id LIMIT :most
""")


async def agreements_of(conn: Connection, payer_id: str, *, after: str | None, limit: int) -> list[Agreement]:
    """A payer's agreements, final ones too, in the order of their ids."""
    return [read_agreement(row) for row in await AGREEMENTS_OF.rows(conn, payer_id=payer_id, after=after, most=limit)]


REUSABLE = Sql("""
    SELECT id FROM agreement
    WHERE circle_id = :circle_id AND payer_id = :payer_id AND provider_account_id = :provider_account_id
      AND currency = :currency AND state = 'active'
    ORDER BY active_at DESC, id DESC LIMIT 1
""")


async def find_reusable(
    conn: Connection, *, circle_id: str, payer_id: str, provider_account_id: str, currency: str
) -> str | None:
    """The payer's active agreement with that provider account in the circle, or None: then only the spender is bound (24a).

    Source: [0024], claim 5.
    """
    found: str | None = await REUSABLE.value(
        conn, circle_id=circle_id, payer_id=payer_id, provider_account_id=provider_account_id, currency=currency
    )
    return found


INSERT_AGREEMENT = Sql("""
    INSERT INTO agreement (id, circle_id, operator_id, provider_account_id, payer_id, payer_account, business_type, currency,
                           per_debit_minor, per_day_minor, state, created_at, next_check_at)
    VALUES (:id, :circle_id, :operator_id, :provider_account_id, :payer_id, :payer_account, :business_type, :currency,
            :per_debit_minor, :per_day_minor, 'created', :created_at, :next_check_at)
""")


async def insert_agreement(conn: Connection, agreement: Agreement) -> None:
    """Writes a new agreement, which is in state *created*."""
    await INSERT_AGREEMENT.run(conn, **{name: getattr(agreement, name) for name in INSERT_AGREEMENT.names})


MOVE_AGREEMENT = Sql("""
    UPDATE agreement SET state = :to_state,
        active_at = CASE WHEN :to_state = 'active' THEN :now ELSE active_at END,
        ended_at = CASE WHEN :to_state IN ('ended', 'refused') THEN :now ELSE ended_at END,
        ended_by = coalesce(:ended_by, ended_by),
        next_check_at = CASE WHEN :to_state = 'pending' THEN next_check_at END
    WHERE id = :agreement_id AND state = :from_state
    RETURNING id, circle_id, operator_id, provider_account_id, payer_id, payer_account, payer_account_id, business_type,
              currency, per_debit_minor, per_day_minor, state, provider_ref, action_url, created_at, expires_at, active_at,
              ended_at, ended_by, next_check_at
""")


async def move_agreement(
    conn: Connection,
    agreement: Agreement,
    event: AgreementEvent,
    *,
    now: datetime,
    ended_by: str | None = None,
    actor_id: str | None = None,
) -> Agreement:
    """Moves an agreement along its life cycle, notes it and moves the circle's version; the caller holds the circle's lock.

    Raises: WrongState; Conflict if the row is not in the state that the caller saw.
    """
    following = AGREEMENT_LIFE.after(agreement.state, event)
    row = await MOVE_AGREEMENT.row(
        conn, agreement_id=agreement.id, from_state=agreement.state, to_state=following, ended_by=ended_by, now=now
    )
    if row is None:
        raise Conflict(thing="agreement")
    await rules_changed(conn, agreement.circle_id)
    body = {"from": str(agreement.state), "to": str(following), "by": ended_by}
    noted = audit.Event(f"agreement.{event}", agreement.id, body, actor_id)
    await audit.record(conn, agreement.circle_id, noted, now=now)
    return read_agreement(row)


NOTE_FACTS = Sql("""
    UPDATE agreement SET provider_ref = coalesce(:provider_ref, provider_ref), action_url = :action_url,
        expires_at = coalesce(:expires_at, expires_at), payer_account_id = coalesce(:payer_account_id, payer_account_id)
    WHERE id = :agreement_id
""")


async def note_facts(
    conn: Connection,
    agreement_id: str,
    *,
    provider_ref: str | None,
    action_url: str | None,
    expires_at: datetime | None,
    payer_account_id: str | None,
) -> None:
    """Keeps what the provider calls the agreement and the payer, and where the payer signs while it is pending."""
    await NOTE_FACTS.run(
        conn,
        agreement_id=agreement_id,
        provider_ref=provider_ref,
        action_url=action_url,
        expires_at=expires_at,
        payer_account_id=payer_account_id,
    )


CHECK_AT = Sql("""
    UPDATE agreement SET next_check_at = :moment WHERE id = :agreement_id AND state IN ('created', 'pending')
""")


async def check_at(conn: Connection, agreement_id: str, moment: datetime) -> None:
    """Sets when the provider is asked again about an agreement that is not decided."""
    await CHECK_AT.run(conn, agreement_id=agreement_id, moment=moment)


DUE = Sql("""
    SELECT id FROM agreement WHERE next_check_at <= kinpay_now() ORDER BY next_check_at LIMIT :most
""")


async def due_agreements(conn: Connection, *, limit: int) -> list[str]:
    """The undecided agreements that the provider is to be asked about now, the longest overdue first."""
    return [row["id"] for row in await DUE.rows(conn, most=limit)]
