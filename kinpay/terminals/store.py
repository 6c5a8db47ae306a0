"""How terminals are kept."""

from __future__ import annotations

from datetime import datetime

from kinpay.database.sql import Connection, Record, Sql
from kinpay.terminals.terminal import Terminal, TerminalKind, TerminalState


def _terminal(row: Record) -> Terminal:
    return Terminal(**{**row, "kind": TerminalKind(row["kind"]), "state": TerminalState(row["state"])})


FIND = Sql("""
    SELECT t.id, t.operator_id, t.merchant_id, m.name AS merchant_name, m.mcc, t.site_id, s.name AS site_name,
           t.name, t.kind, t.state, t.hold_s, t.public_key, t.created_at, t.installed_at, t.revoked_at
    FROM terminal t JOIN merchant m ON m.id = t.merchant_id JOIN site s ON s.id = t.site_id
    WHERE t.id = :terminal_id
""")


async def find_terminal(conn: Connection, terminal_id: str) -> Terminal | None:
    """The terminal and where it stands."""
    row = await FIND.row(conn, terminal_id=terminal_id)
    return None if row is None else _terminal(row)


LIST = Sql("""
    SELECT t.id, t.operator_id, t.merchant_id, m.name AS merchant_name, m.mcc, t.site_id, s.name AS site_name,
           t.name, t.kind, t.state, t.hold_s, t.public_key, t.created_at, t.installed_at, t.revoked_at
    FROM terminal t JOIN merchant m ON m.id = t.merchant_id JOIN site s ON s.id = t.site_id
    WHERE t.operator_id = :operator_id AND (:after::uuid IS NULL OR t.id > :after::uuid)
      AND (:merchant_id::uuid IS NULL OR t.merchant_id = :merchant_id)
    ORDER BY t.id LIMIT :limit
""")


async def list_terminals(
    conn: Connection, operator_id: str, *, merchant_id: str | None = None, limit: int = 100, after: str | None = None
) -> list[Terminal]:
    """An operator's (or one merchant's) terminals in the order of their ids, `limit` of them after the id `after`."""
    rows = await LIST.rows(conn, operator_id=operator_id, merchant_id=merchant_id, after=after, limit=limit)
    return [_terminal(row) for row in rows]


EXPECT = Sql("""
    INSERT INTO terminal (id, operator_id, merchant_id, site_id, name, kind, state, install_code_hash, install_expires_at,
                          hold_s, created_at)
    SELECT :terminal_id, m.operator_id, m.id, s.id, :name, :kind, 'expected', :code_hash, :expires_at, :hold_s, :now
    FROM site s JOIN merchant m ON m.id = s.merchant_id
    WHERE s.id = :site_id AND m.operator_id = :operator_id
    RETURNING id
""")


async def insert_expected(
    conn: Connection,
    terminal_id: str,
    *,
    operator_id: str,
    site_id: str,
    name: str,
    kind: TerminalKind,
    hold_s: int,
    code_hash: bytes,
    expires_at: datetime,
    now: datetime,
) -> bool:
    """Writes an expected terminal; False if the operator has no such site."""
    found = await EXPECT.value(
        conn,
        terminal_id=terminal_id,
        operator_id=operator_id,
        site_id=site_id,
        name=name,
        kind=kind,
        hold_s=hold_s,
        code_hash=code_hash,
        expires_at=expires_at,
        now=now,
    )
    return found is not None


RENEW_CODE = Sql("""
    UPDATE terminal SET install_code_hash = :code_hash, install_expires_at = :expires_at
    WHERE id = :terminal_id AND operator_id = :operator_id AND state = 'expected' RETURNING id
""")


async def renew_code(conn: Connection, terminal_id: str, *, operator_id: str, code_hash: bytes, expires_at: datetime) -> bool:
    """Replaces the install code of an expected terminal; False if it is not expected, or not this operator's."""
    found = await RENEW_CODE.value(
        conn, terminal_id=terminal_id, operator_id=operator_id, code_hash=code_hash, expires_at=expires_at
    )
    return found is not None


ACTIVATE = Sql("""
    UPDATE terminal SET state = 'active', public_key = :public_key, installed_at = :now
    WHERE id = :terminal_id AND state = 'expected' AND install_code_hash = :code_hash AND install_expires_at >= :now
    RETURNING id
""")


async def activate(conn: Connection, terminal_id: str, *, code_hash: bytes, public_key: bytes, now: datetime) -> bool:
    """Expected → active by the install code; False if code, state or time do not fit."""
    found = await ACTIVATE.value(conn, terminal_id=terminal_id, code_hash=code_hash, public_key=public_key, now=now)
    return found is not None


INSTALLED_BY = Sql("""
    SELECT 1 FROM terminal
    WHERE id = :terminal_id AND state = 'active' AND install_code_hash = :code_hash AND public_key = :public_key
      AND install_expires_at >= :now
""")


async def was_installed_by(conn: Connection, terminal_id: str, *, code_hash: bytes, public_key: bytes, now: datetime) -> bool:
    """Whether exactly this code and key installed it just now: the device repeats a request whose answer it never got."""
    found = await INSTALLED_BY.value(conn, terminal_id=terminal_id, code_hash=code_hash, public_key=public_key, now=now)
    return found is not None


REVOKE = Sql("""
    UPDATE terminal SET state = 'revoked', revoked_at = :now
    WHERE id = :terminal_id AND operator_id = :operator_id AND state = 'active' RETURNING id
""")


async def revoke_active(conn: Connection, terminal_id: str, *, operator_id: str, now: datetime) -> bool:
    """Active → revoked; False if it was not active, or not this operator's."""
    return await REVOKE.value(conn, terminal_id=terminal_id, operator_id=operator_id, now=now) is not None


WITHDRAW = Sql("""
    DELETE FROM terminal WHERE id = :terminal_id AND operator_id = :operator_id AND state = 'expected' RETURNING id
""")


async def delete_expected(conn: Connection, terminal_id: str, *, operator_id: str) -> bool:
    """Removes a terminal that was never installed: it has no key, and nothing can refer to it yet."""
    return await WITHDRAW.value(conn, terminal_id=terminal_id, operator_id=operator_id) is not None
