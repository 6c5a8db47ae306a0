"""What is looked at around every request: the answer's form, and whether anything changed."""

from __future__ import annotations

from typing import Any, Final

import httpx

from kinpay.database.pool import Database

FREE: Final = frozenset({"request_nonce"})
"""The one table that a refused request may change: whatever a signed request asks, its nonce is used up, or it could be sent
again. Nothing else: not a request key (a refused form is not kept), not an attempt at a code (a malformed one is not looked
at), not the audit."""

TABLES = """
    SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'public' AND c.relkind = 'r' ORDER BY 1
"""


DIGEST = "SELECT '{0}' AS name, count(*) AS rows, coalesce(sum(hashtextextended(t::text, 0)), 0)::text AS sum FROM {0} t"


class Standing:
    """A digest of every row of every table."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._sql = ""

    async def now(self) -> dict[str, tuple[int, int]]:
        """Table → how many rows, and the sum of their hashes."""
        async with self._db.connection() as conn:
            if not self._sql:
                names = [row["relname"] for row in await conn.fetch(TABLES) if row["relname"] not in FREE]
                self._sql = " UNION ALL ".join(DIGEST.format(name) for name in names)
            return {row["name"]: (row["rows"], int(row["sum"])) for row in await conn.fetch(self._sql)}


def changed(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> list[str]:
    """The tables that differ, with by how many rows."""
    return [f"{name} ({after[name][0] - before[name][0]:+d} rows)" for name in before if before[name] != after[name]]


def code_of(response: httpx.Response) -> str:
    """The problem's code, or nothing."""
    told = as_json(response)
    return str(told.get("code", "")) if isinstance(told, dict) else ""


def as_json(response: httpx.Response) -> Any:
    """The body as JSON, or None."""
    try:
        return response.json()
    except ValueError:
        return None


def malformed(response: httpx.Response) -> str | None:
    """What is wrong with an answer's form: an error of ours, or no problem document where there has to be one."""
    if response.status_code >= 500:
        return f"answers {response.status_code}"
    if response.status_code < 400:
        return None
    if response.headers.get("content-type") != "application/problem+json":
        return f"{response.status_code} is no problem document but {response.headers.get('content-type')}"
    told = as_json(response)
    if not isinstance(told, dict):
        return "the problem is no object"
    kinds = {"type": str, "title": str, "status": int, "code": str}
    wrong = [name for name, kind in kinds.items() if not isinstance(told.get(name), kind)]
    if wrong or told["status"] != response.status_code or told["type"] != f"/problems/{told['code']}":
        return f"the problem's members are wrong: {wrong or told}"
    return None
