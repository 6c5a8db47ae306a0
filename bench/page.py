"""The table in `docs/performance.md`, between two marks; what stands around it is written by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.cell import Cell
from bench.plan import NAMES
from bench.ratios import AT_LEAST

BEGIN: Final = "<!-- measured: begin -->"
END: Final = "<!-- measured: end -->"

_MEANING: Final = {
    "inprocess_vs_tpcb": "in process, 64 callers ÷ best TPC-B",
    "http_vs_tpcb": "through HTTP, 64 callers ÷ best TPC-B",
    "contended_vs_tpcb": "one circle, in process, 64 callers ÷ best TPC-B",
    "pooled_vs_tpcb": "two of the eight limits in a pool, in process, 64 callers ÷ best TPC-B",
    "vs_naive": "in process, 64 callers ÷ naive ORM at its best",
    "p99_vs_tpcb_1": "p99 through HTTP ÷ p99 of TPC-B, 1 caller",
    "p99_vs_tpcb_8": "the same, 8 callers",
    "p99_vs_tpcb_64": "the same, 64 callers",
    "p99_inprocess_vs_tpcb_1": "p99 in process ÷ p99 of TPC-B, 1 caller",
    "p99_inprocess_vs_tpcb_8": "the same, 8 callers",
    "p99_inprocess_vs_tpcb_64": "the same, 64 callers",
    "growth_rate_1m_vs_1k": "rate after many past charges ÷ rate after a thousand",
    "growth_p99_1m_vs_1k": "p99 after many past charges ÷ after a thousand",
    "rollup_vs_authorise": "time to sum up a charge for statements ÷ time to authorise one (in process, 64 callers)",
    "statement_many_vs_few": "rate of reading a month with many charges a day ÷ with one a day",
}


def write_page(page: Path, report: dict[str, Any], rounds: Sequence[Sequence[Cell]]) -> None:
    """Puts the tables in the place of the former ones. Raises: ValueError if the marks are missing."""
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no place for the tables ({BEGIN} … {END})")
    page.write_text("\n".join([before + begin, "", *_lines(report, rounds), "", end + after]), encoding="utf-8")


def _lines(report: dict[str, Any], rounds: Sequence[Sequence[Cell]]) -> Iterator[str]:
    machine, audit = report["machine"], report["audit"]
    yield f"`{report['command']}`, {report['made_at']}, {len(rounds)} rounds."
    yield ""
    yield (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}, "
        f"Python {machine['python']}, PostgreSQL {machine['postgresql']}."
    )
    yield ""
    if report["warnings"]:
        yield from (f"> {warning}" for warning in report["warnings"])
        yield ""
    yield from _ratio_table(report)
    yield ""
    yield from _cell_table(rounds)
    yield ""
    for found in audit:
        said = "adds up" if not found["findings"] else f"**{found['findings']} findings**"
        yield f"- audit of `{found['database']}`: {found['charges']:,} charges, {found['seconds']:.0f} s, {said}"


def _ratio_table(report: dict[str, Any]) -> Iterator[str]:
    yield "| ratio | median | rounds | bar | what |"
    yield "|---|---|---|---|---|"
    for name, meaning in _MEANING.items():
        if name not in report:
            continue
        bar = f"≥ {AT_LEAST[name]}" if name in AT_LEAST else ""
        values = ", ".join(f"{value:.2f}" for value in report["each_round"].get(name, ()))
        yield f"| `{name}` | **{report[name]:.2f}** | {values} | {bar} | {meaning} |"


def _cell_table(rounds: Sequence[Sequence[Cell]]) -> Iterator[str]:
    yield "| party | | callers | per second | p50 ms | p99 ms | Python µs | PostgreSQL µs |"
    yield "|---|---|---|---|---|---|---|---|"
    places = {(cell.party, cell.shape, cell.callers): None for cells in rounds for cell in cells}
    for party, shape, callers in sorted(places, key=lambda place: (NAMES.index(place[0]), place[1] == "", place[1], place[2])):
        same = [c for cells in rounds for c in cells if (c.party, c.shape, c.callers) == (party, shape, callers)]
        rates = [cell.per_s for cell in same]
        python = "" if same[0].client_us is None else f"{median(cell.client_us or 0 for cell in same):.0f}"
        yield (
            f"| {party} | {shape} | {callers} | **{median(rates):.0f}** ({min(rates):.0f}–{max(rates):.0f}) "
            f"| {median(cell.p50_ms for cell in same):.2f} | {median(cell.p99_ms for cell in same):.2f} | {python} "
            f"| {median(cell.server_us for cell in same):.0f} |"
        )
