"""Looking after breaks: each has an owner and, in the end, a resolution with a note."""

from __future__ import annotations

from datetime import date, datetime
from hashlib import sha256
from typing import Any, Final

from kinpay.database.audit import Event, record
from kinpay.database.sql import Connection, Record, Sql
from kinpay.primitives.errors import Conflict, NotFound, WrongState
from kinpay.reconciliation.breaks import LINES_SHOWN, Break, Resolution, What

_COLUMNS: Final = f"""
    b.id, b.provider_account_id, b.day, b.what, b.kind, b.key, b.ours, b.theirs, b.state, b.owner_id, b.resolution,
    b.note, b.found_at, b.resolved_at, b.resolved_by,
    (SELECT count(*) FROM recon_break_line x WHERE (x.provider_account_id, x.kind, x.key, x.what)
        = (b.provider_account_id, b.kind, b.key, b.what)) AS lines_told,
    coalesce((SELECT jsonb_agg(jsonb_build_object(
                  'day', t.day, 'number', t.number, 'amount_minor', t.amount_minor, 'currency', t.currency,
                  'debit_key', t.debit_key, 'finished_at', t.finished_at) ORDER BY t.day, t.number)
              FROM (SELECT s.day, l.* FROM recon_break_line x
                    JOIN provider_statement s ON s.id = x.statement_id
                    JOIN provider_line l ON l.statement_id = x.statement_id AND l.number = x.number
                    WHERE (x.provider_account_id, x.kind, x.key, x.what) = (b.provider_account_id, b.kind, b.key, b.what)
                    ORDER BY s.day, l.number LIMIT {LINES_SHOWN}) t), '[]') AS lines
"""
BREAKS = Sql(f"""
    SELECT {_COLUMNS} FROM recon_break b JOIN provider_account a ON a.id = b.provider_account_id
    WHERE a.operator_id = :operator_id AND (:state::text IS NULL OR b.state = :state)
      AND (:after::uuid IS NULL OR (b.found_at, b.id) < (SELECT found_at, id FROM recon_break WHERE id = :after))
    ORDER BY b.found_at DESC, b.id DESC LIMIT :limit
""")


async def breaks_of(conn: Connection, operator_id: str, *, state: str | None, after: str | None, limit: int) -> list[Break]:
    """An operator's breaks, newest first."""
    return [_read(row) for row in await BREAKS.rows(conn, operator_id=operator_id, state=state, after=after, limit=limit)]


def _read(row: Record) -> Break:
    resolution = None if row["resolution"] is None else Resolution(row["resolution"])
    return Break(**{**row, "what": What(row["what"]), "resolution": resolution})


OPEN = Sql(f"""
    SELECT {_COLUMNS} FROM recon_break b JOIN provider_account a ON a.id = b.provider_account_id
    WHERE b.id = :break_id AND a.operator_id = :operator_id
""")


async def open_break(conn: Connection, break_id: str, *, operator_id: str) -> Break:
    """A break that is still to be ended, without a lock. Raises: NotFound; WrongState if it is resolved."""
    return _still_open(await OPEN.row(conn, break_id=break_id, operator_id=operator_id))


LOCK = Sql(f"""
    SELECT {_COLUMNS} FROM recon_break b JOIN provider_account a ON a.id = b.provider_account_id
    WHERE b.id = :break_id AND a.operator_id = :operator_id FOR UPDATE OF b
""")
ASSIGN = Sql("UPDATE recon_break SET owner_id = :owner_id WHERE id = :break_id")
IS_STAFF = Sql("""
    SELECT EXISTS (SELECT FROM staff WHERE operator_id = :operator_id AND person_id = :person_id AND ended_at IS NULL)
""")


async def assign_break(
    conn: Connection, *, operator_id: str, break_id: str, owner_id: str, actor_id: str, now: datetime
) -> Break:
    """Gives an open break to somebody of the staff. Raises: NotFound for either of somebody else; WrongState if resolved."""
    found = await _lock(conn, operator_id, break_id)
    if not await IS_STAFF.value(conn, operator_id=operator_id, person_id=owner_id):
        raise NotFound()
    await ASSIGN.run(conn, break_id=break_id, owner_id=owner_id)
    await record(conn, operator_id, Event("break.assigned", found.id, {"owner": owner_id}, actor_id), now=now)
    return await _again(conn, operator_id, break_id)


RESOLVE = Sql("""
    UPDATE recon_break
    SET state = 'resolved', resolution = :resolution, note = :note, resolved_at = :now, resolved_by = :actor_id,
        owner_id = coalesce(owner_id, :actor_id)
    WHERE id = :break_id
""")


async def resolve_break(
    conn: Connection,
    *,
    operator_id: str,
    break_id: str,
    resolution: Resolution,
    note: str,
    actor_id: str,
    now: datetime,
    shown: Break | None = None,
) -> Break:
    """Ends a break, with what was done and why.

    Raises: NotFound; WrongState if it was resolved before; Conflict if it is no longer what was `shown` to whoever agreed.
    """
    found = await _lock(conn, operator_id, break_id)
    if shown is not None and told(shown) != told(found):
        raise Conflict(thing="break")
    await RESOLVE.run(conn, break_id=break_id, resolution=resolution.value, note=note, now=now, actor_id=actor_id)
    # The note itself may name people; the audit log is for ever, and keeps what proves that it is unchanged.
    body = {"resolution": resolution.value, "by": "person", "note_sha256": sha256(note.encode()).hexdigest(), **told(found)}
    event = Event("break.resolved", found.id, body, actor_id)
    await record(conn, operator_id, event, now=now)
    return await _again(conn, operator_id, break_id)


def told(found: Break) -> dict[str, Any]:
    """What a break is about, as plain values: for the audit log, and for a second person to judge by."""
    return {
        "account": found.provider_account_id,
        "day": found.day.isoformat(),
        "what": found.what.value,
        "kind": found.kind,
        "key": found.key,
        "ours": None if found.ours is None else dict(found.ours),
        "theirs": None if found.theirs is None else dict(found.theirs),
        "lines": [dict(line) for line in found.lines],
        "lines_told": found.lines_told,
    }


async def _lock(conn: Connection, operator_id: str, break_id: str) -> Break:
    return _still_open(await LOCK.row(conn, break_id=break_id, operator_id=operator_id))


def _still_open(row: Record | None) -> Break:
    if row is None:
        raise NotFound()
    if row["state"] != "open":
        raise WrongState("break", state=row["state"])
    return _read(row)


async def _again(conn: Connection, operator_id: str, break_id: str) -> Break:
    row = await LOCK.row(conn, break_id=break_id, operator_id=operator_id)
    assert row is not None
    return _read(row)


DAYS = Sql("""
    SELECT s.provider_account_id, s.day, s.fetched_at, s.lines, s.matched, s.breaks,
           (SELECT count(*) FROM recon_break b WHERE b.provider_account_id = s.provider_account_id AND b.day = s.day
                                                 AND b.state = 'open') AS open
    FROM provider_statement s JOIN provider_account a ON a.id = s.provider_account_id
    WHERE a.operator_id = :operator_id AND (:before::date IS NULL OR s.day < :before)
    ORDER BY s.day DESC, s.provider_account_id LIMIT :limit
""")


async def days_of(conn: Connection, operator_id: str, *, before: date | None, limit: int) -> list[Record]:
    """The days that were reconciled, newest first, each with how many of its breaks are still open."""
    return await DAYS.rows(conn, operator_id=operator_id, before=before, limit=limit)
