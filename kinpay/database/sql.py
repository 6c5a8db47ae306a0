"""SQL as upper-case constants with named parameters, run through asyncpg.

asyncpg speaks `$1`; people read `:circle_id`. The translation happens once, when the constant is made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, LiteralString

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[Record]
else:
    Connection = Any
    Record = Any

__all__ = ["Connection", "Record", "Sql"]

_NAME = re.compile(r"(?<![:\w]):([a-z_][a-z0-9_]*)")


class Sql:
    """One statement. Parameters are given by name; a missing or surplus one is a TypeError before the database is asked."""

    __slots__ = ("names", "text")

    def __init__(self, text: LiteralString) -> None:
        names: list[str] = []

        def number(match: re.Match[str]) -> str:
            name = match.group(1)
            if name not in names:
                names.append(name)
            return f"${names.index(name) + 1}"

        self.text = _NAME.sub(number, text)
        self.names = tuple(names)

    def _values(self, given: dict[str, Any]) -> Iterable[Any]:
        if len(given) != len(self.names) or any(name not in given for name in self.names):
            raise TypeError(f"statement wants {self.names}, got {tuple(given)}")
        return [given[name] for name in self.names]

    async def run(self, conn: Connection, **given: Any) -> int:
        """Executes; returns the number of rows touched."""
        status = await conn.execute(self.text, *self._values(given))
        last = status.rsplit(" ", 1)[-1]
        return int(last) if last.isdigit() else 0

    async def rows(self, conn: Connection, **given: Any) -> list[Record]:
        """All rows."""
        return await conn.fetch(self.text, *self._values(given))

    async def row(self, conn: Connection, **given: Any) -> Record | None:
        """The first row or None."""
        return await conn.fetchrow(self.text, *self._values(given))

    async def value(self, conn: Connection, **given: Any) -> Any:
        """The first column of the first row, or None."""
        return await conn.fetchval(self.text, *self._values(given))
