"""`docs/flow.md`: every row of the patent has a function that exists and a test that exists."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.tidy.source import ROOT

ROWS = (
    "first user terminal",
    "second user terminal",
    "registration terminal",
    "provider's server",
    "third-party provider",
    "one or many of each",
    "21",
    "22",
    "23",
    "24",
    "24a",
    "24b",
    "25",
    "26",
    "27",
    "order A",
    "order B",
    "order C",
    "self-registration",
    "by scan",
    "by biometric",
    "no account or no money",
    "nobody there to authorise",
    "the month's total",
    "bound by the server",
    "a provisional capture",
    "minors: consent first",
    "a face is never certain",
    "frames are bound",
    "withdrawn at any time",
)
"""Parties, steps, orders, paying, pains, and what is done more carefully: the digest of the patent."""
LATER = frozenset(("nobody there to authorise", "third-party provider"))
"""Rows that may not claim to be whole."""


@dataclass(frozen=True)
class Row:
    """A row of the page."""

    name: str
    told: str
    source: str
    functions: tuple[str, ...]
    tests: tuple[str, ...]


def rows() -> list[Row]:
    """Every row of every table of the page."""
    found = []
    for line in (ROOT / "docs" / "flow.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 5 and cells[0] not in ("row", "---"):
            functions, tests = (tuple(re.findall(r"`([^`]+)`", cell)) for cell in cells[3:])
            found.append(Row(cells[0], cells[1], cells[2], functions, tests))
    return found


@cache
def names_of(file: Path) -> frozenset[str]:
    """The functions and classes of a module, at its top; methods as `Class.method`."""
    found: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            inner = (item for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef))
            found |= {f"{node.name}.{item.name}" for item in inner}
    return frozenset(found)


def is_there(path: str, name: str, *, places: tuple[Path, ...]) -> bool:
    """Whether some place has that file with that name in it."""
    return any((place / path).is_file() and name in names_of(place / path) for place in places)


def test_no_row_of_the_patent_is_missing() -> None:
    assert tuple(row.name for row in rows()) == ROWS


def test_every_row_names_its_source_a_function_and_a_test() -> None:
    assert [
        row.name for row in rows() if not (re.search(r"claim \d|\[00\d\d\]", row.source) and row.functions and row.tests)
    ] == []


def test_what_is_not_here_yet_is_said_plainly() -> None:
    marked = {row.name for row in rows() if "**Later**" in row.told}
    assert LATER - marked == set()


def test_every_function_exists() -> None:
    places = (ROOT / "kinpay", ROOT)
    lost = [one for row in rows() for one in row.functions if not is_there(*one.split(":"), places=places)]
    assert lost == []


def test_every_test_exists() -> None:
    lost = [one for row in rows() for one in row.tests if not is_there(*one.split("::"), places=(ROOT,))]
    assert lost == []


def test_a_name_that_is_not_there_is_noticed() -> None:
    assert is_there("charges/decide.py", "decide", places=(ROOT / "kinpay",))
    assert not is_there("charges/decide.py", "decides", places=(ROOT / "kinpay",))
    assert not is_there("charges/decided.py", "decide", places=(ROOT / "kinpay",))
