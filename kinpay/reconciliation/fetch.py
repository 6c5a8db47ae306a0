"""Reading a provider's statement of a day into our tables, line by line, however long it is."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterable, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from kinpay.database.sql import Connection
from kinpay.providers.contract import StatementLine

_AT_ONCE: Final = 2_000
"""Lines kept in memory before they are written: few, so that whoever else is served by this process does not wait."""
_COLUMNS: Final = (
    "statement_id", "number", "provider_account_id", "kind", "key", "debit_key", "currency", "amount_minor", "finished_at",
)  # fmt: skip

Row = tuple[str, int, str, str, str, str | None, str, int, datetime]


class StatementDigest:
    """SHA-256 over a statement's account, day and lines in their order: what the audit log keeps of it."""

    def __init__(self, provider_account_id: str, day: date) -> None:
        self._digest = hashlib.sha256(f"{provider_account_id}\n{day.isoformat()}\n".encode())

    def add(self, line: Iterable[object]) -> None:
        """A line's kind, key, debit key, currency, amount in minor units and moment in UTC."""
        self._digest.update("\x1f".join(map(str, line)).encode() + b"\n")

    @property
    def value(self) -> bytes:
        """Of what was added so far."""
        return self._digest.digest()


@dataclass(frozen=True, slots=True)
class Read:
    """How many lines there were, and their SHA-256."""

    lines: int
    sha256: bytes


async def read_lines(
    conn: Connection, lines: AsyncIterable[StatementLine], *, statement_id: str, provider_account_id: str, day: date
) -> Read:
    """Writes every line in its order. Raises: what the provider raises while it is read."""
    digest = StatementDigest(provider_account_id, day)
    rows: list[Row] = []
    number = 0
    async for line in lines:
        number += 1
        row = (
            statement_id,
            number,
            provider_account_id,
            line.kind,
            line.key,
            line.debit_key,
            line.amount.currency,
            line.amount.minor,
            line.finished_at,
        )
        digest.add(row[3:])
        rows.append(row)
        if len(rows) >= _AT_ONCE:
            await conn.copy_records_to_table("provider_line", records=rows, columns=_COLUMNS)
            rows = []
    if rows:
        await conn.copy_records_to_table("provider_line", records=rows, columns=_COLUMNS)
    return Read(number, digest.value)
