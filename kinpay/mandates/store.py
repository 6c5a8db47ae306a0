"""How mandates, their versions and their funding are kept. Writers hold the circle's lock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from kinpay.database import audit
from kinpay.database.sql import Connection, Record, Sql
from kinpay.mandates.mandate import MANDATE_LIFE, Debited, Funding, Mandate, MandateEvent, MandateState, MandateVersion
from kinpay.mandates.terms import Terms
from kinpay.people.lock import LockedCircle, lock_circle, rules_changed
from kinpay.primitives.errors import Conflict, NotFound
from kinpay.primitives.ids import new_id


def read_mandate(row: Record) -> Mandate:
    """A mandate from a row that has exactly its columns."""
    return Mandate(**{**row, "state": MandateState(row["state"])})


MANDATE = Sql("""
    SELECT id, circle_id, payer_id, spender_id, state, reason, version, position, created_at, active_at, ended_at
    FROM mandate WHERE id = :mandate_id
""")


async def mandate_row(conn: Connection, mandate_id: str) -> Mandate | None:
    """The mandate, in whatever state, or None."""
    row = await MANDATE.row(conn, mandate_id=mandate_id)
    return None if row is None else read_mandate(row)


async def lock_mandate(conn: Connection, mandate_id: str) -> tuple[LockedCircle, Mandate]:
    """The mandate as it is once its circle is locked. Raises: NotFound."""
    found = await mandate_row(conn, mandate_id)
    if found is None:
        raise NotFound()
    circle = await lock_circle(conn, found.circle_id)
    locked = await mandate_row(conn, mandate_id)
    assert locked is not None, "mandates are never deleted"
    return circle, locked


OPEN_MANDATE = Sql("""
    SELECT id, circle_id, payer_id, spender_id, state, reason, version, position, created_at, active_at, ended_at
    FROM mandate
    WHERE circle_id = :circle_id AND payer_id = :payer_id AND spender_id = :spender_id AND state <> 'ended'
""")


async def open_mandate(conn: Connection, *, circle_id: str, payer_id: str, spender_id: str) -> Mandate | None:
    """The one mandate between the two that has not ended, or None."""
    row = await OPEN_MANDATE.row(conn, circle_id=circle_id, payer_id=payer_id, spender_id=spender_id)
    return None if row is None else read_mandate(row)


MANDATES_OF = Sql("""
    SELECT id, circle_id, payer_id, spender_id, state, reason, version, position, created_at, active_at, ended_at
    FROM mandate
    WHERE (payer_id = :person_id OR spender_id = :person_id) AND (:after::uuid IS NULL OR id > :after)
    ORDER BY id LIMIT :most
""")


async def mandates_of(conn: Connection, person_id: str, *, after: str | None, limit: int) -> list[Mandate]:
    """The mandates in which a person pays or spends, ended ones too, in the order of their ids."""
    return [read_mandate(row) for row in await MANDATES_OF.rows(conn, person_id=person_id, after=after, most=limit)]


INSERT_MANDATE = Sql("""
    INSERT INTO mandate (id, circle_id, payer_id, spender_id, state, version, position, created_at)
    SELECT :id, :circle_id, :payer_id, :spender_id, 'pending', 0, coalesce(max(position) + 1, 0), :now
    FROM mandate WHERE circle_id = :circle_id AND spender_id = :spender_id AND state <> 'ended'
""")


async def insert_mandate(conn: Connection, *, circle_id: str, payer_id: str, spender_id: str, now: datetime) -> Mandate:
    """A pending mandate without a version yet, tried after the spender's other ones."""
    mandate_id = new_id()
    await INSERT_MANDATE.run(conn, id=mandate_id, circle_id=circle_id, payer_id=payer_id, spender_id=spender_id, now=now)
    made = await mandate_row(conn, mandate_id)
    assert made is not None
    return made


INSERT_VERSION = Sql("""
    INSERT INTO mandate_version (mandate_id, circle_id, version, terms, terms_hash, agreed_by, proof_id, from_charge_seq, since,
                                 cools_until)
    VALUES (:mandate_id, :circle_id, :version, :terms, :terms_hash, :agreed_by, :proof_id, :from_charge_seq, :now, :cools_until)
""")
MOVE_MANDATE_VERSION = Sql("UPDATE mandate SET version = :version WHERE id = :mandate_id AND version = :version - 1")


async def add_version(
    conn: Connection,
    mandate: Mandate,
    terms: Terms,
    *,
    circle: LockedCircle,
    proof_id: str | None,
    cools_until: datetime | None,
    now: datetime,
) -> int:
    """Writes the payer's next version of the terms, for every reservation after this one. Returns its number.

    `cools_until`: until when the version before binds besides.
    """
    version = mandate.version + 1
    if await MOVE_MANDATE_VERSION.run(conn, mandate_id=mandate.id, version=version) != 1:
        raise Conflict(thing="mandate", version=mandate.version)
    await INSERT_VERSION.run(
        conn,
        mandate_id=mandate.id,
        circle_id=mandate.circle_id,
        version=version,
        terms=terms.canonical(),
        terms_hash=terms.hash(),
        agreed_by=mandate.payer_id,
        proof_id=proof_id,
        from_charge_seq=circle.charge_seq,
        cools_until=cools_until,
        now=now,
    )
    return version


VERSIONS = Sql("""
    SELECT mandate_id, version, terms, terms_hash, agreed_by, proof_id, from_charge_seq, since, cools_until
    FROM mandate_version WHERE mandate_id = :mandate_id ORDER BY version DESC LIMIT :most
""")


async def versions(conn: Connection, mandate_id: str, *, limit: int = 100) -> list[MandateVersion]:
    """What was consented to, the newest first."""
    return [MandateVersion(**row) for row in await VERSIONS.rows(conn, mandate_id=mandate_id, most=limit)]


async def current_terms(conn: Connection, mandate: Mandate) -> Terms:
    """The terms now in force."""
    (newest,) = await versions(conn, mandate.id, limit=1)
    return Terms.kept(newest.terms)


FUNDING = Sql("""
    SELECT version, agreement_ids, debited, since FROM settlement_rule
    WHERE mandate_id = :mandate_id ORDER BY version DESC LIMIT 1
""")


async def funding_of(conn: Connection, mandate_id: str) -> Funding | None:
    """The settlement rule now in force, or None before the first."""
    row = await FUNDING.row(conn, mandate_id=mandate_id)
    if row is None:
        return None
    return Funding(
        version=row["version"], agreement_ids=tuple(row["agreement_ids"]), debited=row["debited"], since=row["since"]
    )


INSERT_FUNDING = Sql("""
    INSERT INTO settlement_rule (mandate_id, circle_id, version, agreement_ids, debited, since)
    VALUES (:mandate_id, :circle_id, :version, :agreement_ids, :debited, :now)
""")


async def add_funding(
    conn: Connection, mandate: Mandate, agreement_ids: Sequence[str], *, now: datetime, debited: Debited | None = None
) -> int:
    """Writes the next settlement rule: these agreements in this order, debited as said or, unsaid, as before.

    Returns its number.
    """
    before = await funding_of(conn, mandate.id)
    version = 1 if before is None else before.version + 1
    await INSERT_FUNDING.run(
        conn,
        mandate_id=mandate.id,
        circle_id=mandate.circle_id,
        version=version,
        agreement_ids=list(agreement_ids),
        debited=debited or (before.debited if before else "each_charge"),
        now=now,
    )
    return version


MOVE_MANDATE = Sql("""
    UPDATE mandate SET state = :to_state, reason = :reason,
        active_at = CASE WHEN :to_state = 'active' THEN coalesce(active_at, :now) ELSE active_at END,
        ended_at = CASE WHEN :to_state = 'ended' THEN :now ELSE ended_at END
    WHERE id = :mandate_id AND state = :from_state
    RETURNING id, circle_id, payer_id, spender_id, state, reason, version, position, created_at, active_at, ended_at
""")


async def move_mandate(
    conn: Connection,
    mandate: Mandate,
    event: MandateEvent,
    *,
    now: datetime,
    reason: str | None = None,
    actor_id: str | None = None,
) -> Mandate:
    """Moves a mandate along its life cycle, notes it and moves the circle's version; the caller holds the circle's lock.

    Raises: WrongState; Conflict if the row is not in the state that the caller saw.
    """
    following = MANDATE_LIFE.after(mandate.state, event)
    row = await MOVE_MANDATE.row(
        conn, mandate_id=mandate.id, from_state=mandate.state, to_state=following, reason=reason, now=now
    )
    if row is None:
        raise Conflict(thing="mandate")
    await rules_changed(conn, mandate.circle_id)
    body = {"from": str(mandate.state), "to": str(following), "reason": reason}
    noted = audit.Event(f"mandate.{event}", mandate.id, body, actor_id)
    await audit.record(conn, mandate.circle_id, noted, now=now)
    return read_mandate(row)


RESTING_ON = Sql("""
    SELECT m.id, m.circle_id, m.payer_id, m.spender_id, m.state, m.reason, m.version, m.position, m.created_at,
           m.active_at, m.ended_at
    FROM mandate m
    JOIN LATERAL (SELECT agreement_ids FROM settlement_rule s WHERE s.mandate_id = m.id ORDER BY version DESC LIMIT 1) f
        ON :agreement_id = ANY(f.agreement_ids)
    WHERE m.circle_id = :circle_id AND m.state <> 'ended' ORDER BY m.id
""")


async def mandates_resting_on(conn: Connection, agreement_id: str, *, circle_id: str) -> list[Mandate]:
    """The mandates not ended whose settlement rule now in force names the agreement."""
    return [read_mandate(row) for row in await RESTING_ON.rows(conn, agreement_id=agreement_id, circle_id=circle_id)]


IS_FUNDED = Sql("""
    SELECT EXISTS (
        SELECT 1 FROM agreement a
        WHERE a.id = ANY(:agreement_ids) AND a.state = 'active' AND NOT EXISTS (
            SELECT 1 FROM agreement_spender s
            WHERE s.agreement_id = a.id AND s.spender_id = :spender_id AND s.state = 'removed'))
""")


async def is_funded(conn: Connection, mandate: Mandate) -> bool:
    """Whether some agreement of its settlement rule is active and still has the spender."""
    funding = await funding_of(conn, mandate.id)
    ids = [] if funding is None else list(funding.agreement_ids)
    answer: bool = await IS_FUNDED.value(conn, agreement_ids=ids, spender_id=mandate.spender_id)
    return answer


NAMES = Sql("SELECT id, display_name FROM person WHERE id = ANY(:ids)")


async def names_of(conn: Connection, ids: Iterable[str]) -> dict[str, str]:
    """The names that people are shown by, by id."""
    return {row["id"]: row["display_name"] for row in await NAMES.rows(conn, ids=sorted(set(ids)))}
