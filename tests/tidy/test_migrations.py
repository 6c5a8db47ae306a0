"""A migration named `…_beside` is one that servers of the version before do not notice (docs/upgrading.md); any other says why.

The rule holds from `SINCE` on.
"""

from __future__ import annotations

import re

import pytest

from kinpay.database.migrate import BESIDE, Migration, migrations

SINCE = 11
MARK = "-- Contracts:"
"""Says why nobody uses any more what a migration takes away that is not `_beside`."""

_STATEMENT = re.compile(r"[^;]+", re.DOTALL)
_FUNCTION = re.compile(r"\$\$.*?\$\$", re.DOTALL)
_COMMENT = re.compile(r"--[^\n]*")
_MADE = re.compile(r"CREATE (?:UNLOGGED )?TABLE (?:IF NOT EXISTS )?(\w+)", re.IGNORECASE)
_FORBIDDEN = {
    "takes something away": re.compile(r"\bDROP\s+(TABLE|COLUMN|TYPE|FUNCTION|DOMAIN|INDEX|CONSTRAINT)\b", re.IGNORECASE),
    "renames something": re.compile(r"\bRENAME\b", re.IGNORECASE),
    "makes older programs' rows invalid": re.compile(
        r"\bSET\s+NOT\s+NULL\b|\bADD\s+COLUMN\s+(?:(?!\bDEFAULT\b)[^,;])*\bNOT\s+NULL\b(?:(?!\bDEFAULT\b)[^,;])*(?=,|$)",
        re.IGNORECASE,
    ),
    "changes a type, which rewrites the table": re.compile(r"\bALTER\s+COLUMN\s+\w+\s+(SET\s+DATA\s+)?TYPE\b", re.IGNORECASE),
    "reads the whole table under a lock": re.compile(
        r"\bADD\s+(CONSTRAINT\s+\w+\s+)?(CHECK|FOREIGN\s+KEY|UNIQUE|PRIMARY\s+KEY)\b(?!.*\bNOT\s+VALID\b)",
        re.IGNORECASE | re.DOTALL,
    ),
    "empties or locks a table": re.compile(r"^\s*(TRUNCATE|LOCK)\b", re.IGNORECASE),
}
_ALTERED = re.compile(r"\bALTER\s+TABLE\s+(?:ONLY\s+)?(\w+)", re.IGNORECASE)
_INDEXED = re.compile(r"\bCREATE\s+(?:UNIQUE\s+)?INDEX\s+(?:IF\s+NOT\s+EXISTS\s+)?\w+\s+ON\s+(\w+)", re.IGNORECASE)


def objections(text: str) -> list[str]:
    """What servers of the version before would notice of a migration."""
    bare = _FUNCTION.sub("''", _COMMENT.sub("", text))
    made = {name.lower() for name in _MADE.findall(bare)}
    found: list[str] = []
    touched: set[str] = set()
    for statement in _STATEMENT.findall(bare):
        altered = {name.lower() for name in _ALTERED.findall(statement)} - made
        touched |= altered
        if altered or not _ALTERED.search(statement):
            found += [said for said, pattern in _FORBIDDEN.items() if pattern.search(statement)]
        if {name.lower() for name in _INDEXED.findall(statement)} - made and "IF NOT EXISTS" not in statement.upper():
            found.append("reads the whole table under a lock")
    if len(touched) > 1:
        found.append("holds several tables at once, which can deadlock with servers")
    return found


@pytest.mark.parametrize("migration", [one for one in migrations() if one.version >= SINCE], ids=lambda one: one.name)
def test_a_new_migration_can_be_applied_while_servers_run(migration: Migration) -> None:
    if migration.name.endswith(BESIDE):
        assert objections(migration.text) == []
    else:
        assert MARK in migration.text, "what is not beside says why"


@pytest.mark.parametrize(
    "text",
    [
        "DROP TABLE charge;",
        "ALTER TABLE charge DROP COLUMN reference;",
        "ALTER TABLE charge RENAME COLUMN reference TO remark;",
        "ALTER TABLE charge ADD COLUMN more text NOT NULL;",
        "ALTER TABLE charge ALTER COLUMN reference SET NOT NULL;",
        "ALTER TABLE charge ALTER COLUMN amount_minor TYPE numeric;",
        "ALTER TABLE charge ADD CONSTRAINT more CHECK (amount_minor > 1);",
        "CREATE INDEX more ON charge (reference);",
        "ALTER TABLE charge ADD COLUMN a text; ALTER TABLE debit ADD COLUMN b text;",
        "TRUNCATE outbox;",
    ],
)
def test_what_servers_would_notice_is_found(text: str) -> None:
    assert objections(text) != []


@pytest.mark.parametrize(
    "text",
    [
        "ALTER TABLE charge ADD COLUMN more text;",
        "ALTER TABLE charge ADD COLUMN more integer NOT NULL DEFAULT 0;",
        "ALTER TABLE charge ADD CONSTRAINT more CHECK (amount_minor > 1) NOT VALID;",
        "CREATE TABLE more (id uuid PRIMARY KEY, note text NOT NULL); CREATE INDEX more_note ON more (note);",
        "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN DROP TABLE x; END $$;",
        "CREATE INDEX IF NOT EXISTS more ON charge (reference);",
    ],
)
def test_what_servers_do_not_notice_is_let_through(text: str) -> None:
    assert objections(text) == []
