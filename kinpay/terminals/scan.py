"""Scanning a function code, choosing the business type, and using both once for a registration.

Source: [0016]-[0018]; threats A04-A07.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from kinpay.database.audit import Event, record
from kinpay.database.sql import Connection, Record, Sql
from kinpay.primitives.actor import Actor, ActorKind
from kinpay.primitives.errors import (
    CheckCodeAltered,
    CheckCodeExpired,
    CheckCodeOtherTerminal,
    CheckCodeUsed,
    NotFound,
    WrongState,
)
from kinpay.primitives.ids import new_id
from kinpay.terminals.codes import Codes, FunctionCode, RegistrationInformation, still_good
from kinpay.terminals.store import find_terminal
from kinpay.terminals.terminal import Terminal

log = logging.getLogger(__name__)

BUSINESS_TYPES: Final[tuple[Literal["self"], Literal["proxy"]]] = ("self", "proxy")
SCAN_LIFE: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Scanned:
    """A scan and where the scanner stands."""

    scan_id: str
    terminal: Terminal
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Chosen:
    """The decoded information with the chosen business type, as text signed by us ([0017])."""

    information: str
    terminal_id: str
    business_type: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class UsedScan:
    """A scan that a registration now rests on. `person_id` is None if the terminal stood for a person without a phone."""

    scan_id: str
    terminal_id: str
    operator_id: str
    business_type: str
    person_id: str | None


BURN = Sql("""
    INSERT INTO burnt_code (id, kind, terminal_id, expires_at, burnt_at)
    VALUES (:code_id, 'function', :terminal_id, :expires_at, :now) ON CONFLICT DO NOTHING
""")
WRITE = Sql("""
    INSERT INTO scan (id, code_id, terminal_id, person_id, created_at, expires_at)
    VALUES (:scan_id, :code_id, :terminal_id, :person_id, :now, :expires_at)
""")


async def scan_function_code(conn: Connection, codes: Codes, *, text: str, asker: Actor, now: datetime) -> Scanned:
    """Burns a function code for a person, or for the terminal that shows it and stands for a person without a phone.

    A code of a revoked terminal is *expired*: it was genuine and ended early, and what helps is the same, another code.

    Raises: CheckCodeAltered, CheckCodeExpired, CheckCodeUsed, CheckCodeOtherTerminal; NotFound for another operator's.
    """
    code = codes.read(text, FunctionCode)
    code_expires_at = still_good(code.expires_s, now)
    terminal = await find_terminal(conn, code.terminal_id)
    if terminal is None or terminal.operator_id != asker.operator_id:
        raise NotFound()
    by_terminal = asker.kind is ActorKind.TERMINAL
    if by_terminal and asker.id != terminal.id:
        log.warning("code of another terminal", extra={"presented_by": asker.id, "code_of": terminal.id})
        raise CheckCodeOtherTerminal()
    if not terminal.is_active:
        raise CheckCodeExpired()
    if not await BURN.run(conn, code_id=code.code_id, terminal_id=terminal.id, expires_at=code_expires_at, now=now):
        raise CheckCodeUsed()
    scan_id, expires_at = new_id(), (now + SCAN_LIFE).replace(microsecond=0)
    person_id = None if by_terminal else asker.id
    await WRITE.run(
        conn,
        scan_id=scan_id,
        code_id=code.code_id,
        terminal_id=terminal.id,
        person_id=person_id,
        now=now,
        expires_at=expires_at,
    )
    event = Event("scan.made", scan_id, {"terminal_id": terminal.id, "code_id": code.code_id}, asker.id)
    await record(conn, terminal.operator_id, event, now=now)
    return Scanned(scan_id, terminal, expires_at)


CHOOSE = Sql("""
    UPDATE scan SET business_type = :business_type
    WHERE id = :scan_id AND business_type IS NULL AND used_at IS NULL AND expires_at >= :now
""")
FIND = Sql("""
    SELECT s.id, s.terminal_id, s.person_id, s.business_type, s.expires_at, s.used_at, t.operator_id, t.state
    FROM scan s JOIN terminal t ON t.id = s.terminal_id WHERE s.id = :scan_id FOR UPDATE OF s
""")


async def choose_business_type(
    conn: Connection, codes: Codes, *, scan_id: str, business_type: str, asker: Actor, now: datetime
) -> Chosen:
    """Binds the business type to a scan, once; repeating the same choice gives the same information again.

    Raises: NotFound for anybody but the scanner; WrongState for a second, different choice; CheckCodeExpired, CheckCodeUsed.
    """
    row = await FIND.row(conn, scan_id=scan_id)
    if row is None or not _is_of(row, asker):
        raise NotFound()
    _usable(row, now)
    if row["business_type"] is None:
        await CHOOSE.run(conn, scan_id=scan_id, business_type=business_type, now=now)
        event = Event("scan.chosen", scan_id, {"business_type": business_type}, asker.id)
        await record(conn, row["operator_id"], event, now=now)
    elif row["business_type"] != business_type:
        raise WrongState("scan", state=row["business_type"], event=business_type)
    expires_at: datetime = row["expires_at"]
    information = RegistrationInformation(scan_id, row["terminal_id"], business_type, int(expires_at.timestamp()))
    return Chosen(codes.write(information), row["terminal_id"], business_type, expires_at)


USE = Sql("UPDATE scan SET used_at = :now WHERE id = :scan_id AND used_at IS NULL AND business_type = :business_type")


async def use_scan(conn: Connection, codes: Codes, *, information: str, asker: Actor, now: datetime) -> UsedScan:
    """Uses a scan for a registration, once, by who made it. The registration's own event in the audit names the scan.

    Raises: CheckCodeAltered, CheckCodeExpired, CheckCodeUsed; CheckCodeOtherTerminal for another terminal's;
    NotFound for another person's.
    """
    claimed = codes.read(information, RegistrationInformation)
    still_good(claimed.expires_s, now)
    row = await FIND.row(conn, scan_id=claimed.scan_id)
    if row is None or row["terminal_id"] != claimed.terminal_id or row["business_type"] != claimed.business_type:
        raise CheckCodeAltered()
    if not _is_of(row, asker):
        if asker.kind is ActorKind.TERMINAL and row["person_id"] is None and row["operator_id"] == asker.operator_id:
            log.warning("scan of another terminal", extra={"presented_by": asker.id, "scan_of": row["terminal_id"]})
            raise CheckCodeOtherTerminal()
        raise NotFound()
    _usable(row, now)
    if not await USE.run(conn, scan_id=claimed.scan_id, business_type=claimed.business_type, now=now):
        raise CheckCodeUsed()
    return UsedScan(row["id"], row["terminal_id"], row["operator_id"], row["business_type"], row["person_id"])


def _is_of(row: Record, asker: Actor) -> bool:
    if asker.kind is ActorKind.TERMINAL:
        return row["person_id"] is None and bool(row["terminal_id"] == asker.id)
    return bool(row["person_id"] == asker.id)


def _usable(row: Record, now: datetime) -> None:
    if row["used_at"] is not None:
        raise CheckCodeUsed()
    if now > row["expires_at"] or row["state"] != "active":
        raise CheckCodeExpired()
