"""A migration named `…_beside` is one that servers of the version before do not notice (docs/upgrading.md); any other says why.

Only statements of known shapes are let through: what nobody has thought about is noticed.
The rule holds from `SINCE` on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from kinpay.database.migrate import BESIDE, Migration, migrations

SINCE = 9
MARK = "-- Contracts:"
"""Says why nobody uses any more what a migration takes away that is not `_beside`."""
OLDER = {
    "0010_dead_letters_beside": [
        "reads a whole table under a lock: outbox",
        "reads a whole table under a lock: webhook_endpoint",
        "holds several tables at once, which can deadlock with servers",
    ],
    # Statements are only ever added by programs of every version.
    "0013_every_day_is_told_beside": [
        "not one of the shapes that go unnoticed: CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON provid",
        "not one of the shapes that go unnoticed: CREATE TRIGGER append_only_whole BEFORE TRUNCATE ON provider",
    ],
}
"""What was made before the rule knew of it."""

_TOKEN = re.compile(
    r"(?P<text>'(?:[^']|'')*')|(?P<comment>--[^\n]*|/\*.*?\*/)|(?P<body>\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)", re.DOTALL
)
_TYPE = (
    r"(?:text|uuid|boolean|smallint|integer|bigint|numeric|real|double precision|date|timestamptz|interval|jsonb?|bytea|inet"
    r"|(?:char|varchar|numeric)\s?\(\d+(?:,\s?\d+)?\))(?:\s?\[\])?"
)
_CONSTANT = rf"(?:''|-?\d+(?:\.\d+)?|true|false|null)(?:::{_TYPE})?"
_COLUMN = re.compile(
    rf"ADD COLUMN (?:IF NOT EXISTS )?(?P<name>\w+) {_TYPE}"
    rf"(?: NOT NULL DEFAULT {_CONSTANT}| DEFAULT {_CONSTANT}(?: NOT NULL)?| NULL)?",
    re.IGNORECASE,
)
_CHECK = re.compile(r"ADD CONSTRAINT \w+ CHECK \((?P<holds>.*)\) NOT VALID", re.IGNORECASE)
_VALIDATED = re.compile(r"VALIDATE CONSTRAINT \w+", re.IGNORECASE)
_NAMED = re.compile(r"(?<![:\w])[a-z_]\w*\b(?!\s*\()", re.IGNORECASE)
_WORDS = frozenset(
    ["and", "or", "not", "is", "null", "in", "true", "false", "between", "like", "any", "all", "distinct", "from"]
)
_MADE = re.compile(r"CREATE (?:UNLOGGED )?TABLE (?P<name>\w+) \((?!.*\bINHERITS\b).*\)", re.IGNORECASE)
_ALTERED = re.compile(r"ALTER TABLE (?P<table>\w+) (?P<actions>.*)", re.IGNORECASE)
_INDEXED = re.compile(
    r"CREATE (?P<unique>UNIQUE )?INDEX (?:(?P<if>IF NOT EXISTS )?\w+ )?ON (?P<table>\w+) (?:USING \w+ )?\(.*", re.IGNORECASE
)
_OF_NEW_TABLES = re.compile(
    r"(?:INSERT INTO (?P<filled>\w+) .*|CREATE TRIGGER \w+ (?:BEFORE|AFTER) [\w ]+ ON (?P<watched>\w+) .*)", re.IGNORECASE
)
_NEW = re.compile(
    r"CREATE FUNCTION \w+\s?\(.*|CREATE (?:TYPE|DOMAIN|SEQUENCE|VIEW) \w+ .*|CREATE SEQUENCE \w+|COMMENT ON .* IS (?:''|NULL)",
    re.IGNORECASE,
)


def objections(text: str) -> list[str]:
    """What servers of the version before would notice of a migration, or may notice for all we know."""
    statements = list(_statements(text))
    made = {match["name"].lower() for one in statements if (match := _MADE.fullmatch(one))}
    found: list[str] = []
    touched: set[str] = set()
    for one in statements:
        if _MADE.fullmatch(one) or _NEW.fullmatch(one):
            continue
        if match := _ALTERED.fullmatch(one):
            if match["table"].lower() not in made:
                touched.add(match["table"].lower())
                found += _of_actions(match["actions"])
        elif match := _INDEXED.fullmatch(one):
            if match["table"].lower() not in made:
                touched.add(match["table"].lower())
                found += _of_index(match)
        elif not ((match := _OF_NEW_TABLES.fullmatch(one)) and (match["filled"] or match["watched"]).lower() in made):
            found.append(f"not one of the shapes that go unnoticed: {one[:60]}")
    if len(touched) > 1:
        found.append("holds several tables at once, which can deadlock with servers")
    return found


def _statements(text: str) -> Iterator[str]:
    """Each on one line, without comments; words in quotes are empty ones, and the bodies of functions are left out."""

    def bare(match: re.Match[str]) -> str:
        if match["text"]:
            return "''"
        # Outside of a function it is a program that runs now; its quotes make it none of the shapes.
        return "$$" if match["body"] else " "

    for statement in _TOKEN.sub(bare, text).split(";"):
        line = " ".join(statement.split()).replace("( ", "(").replace(" )", ")")
        if line:
            yield line


def _of_actions(actions: str) -> Iterator[str]:
    added: set[str] = set()
    for action in _apart(actions):
        if match := _COLUMN.fullmatch(action):
            added.add(match["name"].lower())
        elif match := _CHECK.fullmatch(action):
            others = {name.lower() for name in _NAMED.findall(match["holds"])} - _WORDS - added
            if others:
                yield f"older programs' rows may be refused: {', '.join(sorted(others))}"
        elif not _VALIDATED.fullmatch(action):
            yield f"not one of the shapes that go unnoticed: {action[:60]}"


def _apart(actions: str) -> Iterator[str]:
    """The actions of one ALTER TABLE, between commas that stand in no parentheses."""
    depth, action = 0, ""
    for letter in actions:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            yield action.strip()
            action = ""
        else:
            action += letter
    yield action.strip()


def _of_index(match: re.Match[str]) -> Iterator[str]:
    if match["unique"]:
        yield f"older programs' rows may be refused: {match['table']}"
    if not match["if"]:
        yield f"reads a whole table under a lock: {match['table']}"


@pytest.mark.parametrize("migration", [one for one in migrations() if one.version >= SINCE], ids=lambda one: one.name)
def test_a_new_migration_can_be_applied_while_servers_run(migration: Migration) -> None:
    if migration.name.endswith(BESIDE):
        assert objections(migration.text) == OLDER.get(migration.name, [])
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
        "UPDATE charge SET reference = '';",
        "DELETE FROM outbox;",
        "INSERT INTO outbox (id) SELECT 1;",
        "DO $$ BEGIN ALTER TABLE charge DROP COLUMN reference; END $$;",
        "ALTER TABLE charge ALTER COLUMN reference DROP DEFAULT;",
        "ALTER TABLE charge ALTER COLUMN reference SET DEFAULT '';",
        "ALTER TABLE charge ADD COLUMN a uuid DEFAULT gen_random_uuid();",
        "ALTER TABLE charge ADD COLUMN a uuid REFERENCES debit;",
        "ALTER TABLE charge ADD COLUMN a text UNIQUE;",
        "ALTER TABLE charge ADD COLUMN a bigserial;",
        "ALTER TABLE charge ADD COLUMN a text CHECK (a <> reference);",
        "ALTER TABLE charge ADD COLUMN a bigint GENERATED ALWAYS AS (amount_minor * 2) STORED;",
        "CREATE INDEX ON charge (reference);",
        "CREATE INDEX more ON ONLY charge (reference);",
        "CREATE UNIQUE INDEX IF NOT EXISTS more ON charge (reference);",
        "CREATE INDEX IF NOT EXISTS a ON charge (x); CREATE INDEX IF NOT EXISTS b ON debit (y);",
        "CREATE TRIGGER t BEFORE INSERT ON charge FOR EACH ROW EXECUTE FUNCTION f();",
        "DROP TRIGGER append_only ON charge;",
        "DROP VIEW v;",
        "ALTER TABLE charge DROP reference;",
        "ALTER TABLE charge ADD a text NOT NULL;",
        "ALTER TABLE charge ALTER reference SET DATA TYPE text;",
        "ALTER TABLE charge ALTER reference TYPE text;",
        "ALTER TABLE charge DISABLE TRIGGER append_only;",
        "REVOKE ALL ON charge FROM PUBLIC;",
        "CREATE OR REPLACE FUNCTION kinpay_now() RETURNS timestamptz LANGUAGE sql AS $$ select now() $$;",
        "ALTER TABLE IF EXISTS charge DROP COLUMN x;",
        "ALTER TABLE charge ADD CONSTRAINT a CHECK (x>1), ADD CONSTRAINT b CHECK (y>1) NOT VALID;",
        "ALTER TABLE charge ADD CONSTRAINT more CHECK (amount_minor > 1) NOT VALID;",
        "ALTER TABLE charge ADD COLUMN a text, ADD CONSTRAINT more CHECK (a IS NULL OR amount_minor > 1) NOT VALID;",
        "ALTER TABLE charge ADD COLUMN IF NOT EXISTS more text NOT NULL;",
        "CREATE TABLE IF NOT EXISTS charge (id uuid); DELETE FROM charge;",
        "CREATE TABLE more (id uuid) INHERITS (charge);",
        "LOCK TABLE charge;",
    ],
)
def test_what_servers_would_notice_is_found(text: str) -> None:
    assert objections(text) != []


@pytest.mark.parametrize(
    "text",
    [
        "ALTER TABLE charge ADD COLUMN more text;",
        "ALTER TABLE charge ADD COLUMN more integer NOT NULL DEFAULT 0;",
        "ALTER TABLE charge ADD COLUMN note text DEFAULT 'NOT NULL; DROP TABLE charge';",
        "ALTER TABLE charge ADD COLUMN a text, ADD COLUMN b char(3)[], ADD COLUMN c jsonb DEFAULT '{}'::jsonb NOT NULL;",
        "ALTER TABLE charge ADD COLUMN a text, ADD CONSTRAINT more CHECK (length(a) > 1 AND a IN ('x')) NOT VALID;",
        "ALTER TABLE charge VALIDATE CONSTRAINT more;",
        "CREATE TABLE more (id uuid PRIMARY KEY, note text NOT NULL); CREATE INDEX more_note ON more (note);",
        "CREATE TABLE more (id uuid); INSERT INTO more VALUES (NULL); ALTER TABLE more ADD UNIQUE (id);",
        "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN DROP TABLE x; END $$;",
        "CREATE INDEX IF NOT EXISTS more ON charge (reference);",
    ],
)
def test_what_servers_do_not_notice_is_let_through(text: str) -> None:
    assert objections(text) == []
