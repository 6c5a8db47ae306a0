"""Tables for spreadsheets: RFC 4180, and no cell of somebody else's text that a spreadsheet would take for a formula.

Source: OWASP "CSV injection".
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Sequence
from io import StringIO
from typing import Final

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def harmless(text: str) -> str:
    """The text, with an apostrophe before what a spreadsheet would take for a formula."""
    return f"'{text}" if text.lstrip().startswith(_FORMULA) or text.startswith(_FORMULA) else text


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, foreign: Collection[str]) -> str:
    """CSV with a byte order mark, so that spreadsheets read Chinese names. `foreign`: columns of text that others wrote."""
    return top(columns) + part(columns, rows, foreign=foreign)


def top(columns: Sequence[str]) -> str:
    """What a table begins with; its parts follow, in order."""
    return "\ufeff" + part(columns, [columns], foreign=())


def part(columns: Sequence[str], rows: Iterable[Sequence[str]], *, foreign: Collection[str]) -> str:
    """Some rows of a table that is told part by part. `foreign`: columns of text that others wrote."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    for row in rows:
        cells = zip(columns, row, strict=True)
        writer.writerow([harmless(cell) if name in foreign else cell for name, cell in cells])
    return out.getvalue()
