"""The tables in `docs/biometrics.md`, between two marks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

BEGIN: Final = "<!-- measured faces: begin -->"
END: Final = "<!-- measured faces: end -->"


def write_page(page: Path, report: dict[str, Any]) -> None:
    """Puts the tables in the place of the former ones. Raises: ValueError if the marks are missing."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no place for the tables ({BEGIN} … {END})")
    page.write_text("\n".join([before + begin, "", *_lines(report), "", end + after]), encoding="utf-8")


def _lines(report: dict[str, Any]) -> Iterator[str]:
    machine, pictures, speed = report["machine"], report["pictures"], report["speed"]
    yield (
        f"`{report['command']}`, {report['made_at']}, model `{report['model']}`, on {pictures['source']}: "
        f"{pictures['people']} people, {pictures['pictures']} pictures. {machine['processor']}, {machine['cores']} cores."
    )
    yield ""
    yield (
        f"Found: **{pictures['found']} of {pictures['pictures']}**. A picture, from its bytes to its vector, one core: "
        f"{speed['processor_ms_p50']:.0f} ms of processor (p50), {speed['wall_ms_p50']:.0f} ms of wall time beside whatever "
        f"else ran; {speed['rss_mib']} MiB of memory."
    )
    yield ""
    yield "| enrolled : presented | line | FNMR | FMR | lowest own | highest other |"
    yield "|---|---|---|---|---|---|"
    for row in report["one_to_one"]:
        yield (
            f"| {row['enrolled']} : {row['presented']} | {row['threshold']} | {_rate(row['fnmr'])} | {_rate(row['fmr'])} | "
            f"{row['lowest_own']:.2f} | {row['highest_other']:.2f} |"
        )
    yield ""
    yield "| enrolled : presented | line, margin | gallery | strangers accepted | enrolled stepped up | enrolled mistaken |"
    yield "|---|---|---|---|---|---|"
    for row in report["one_to_many"]:
        yield (
            f"| {row['enrolled']} : {row['presented']} | {row['threshold']}, {row['margin']} | {row['gallery']} | "
            f"{_rate(row['false_accepts_of_strangers'])} | {_rate(row['stepped_up_of_enrolled'])} | "
            f"{_rate(row['mistaken_of_enrolled'])} |"
        )
    yield ""
    yield "**Computed, not measured** (three and three): the chance that a stranger is taken for somebody."
    yield ""
    yield "| gallery | at most, by the upper bound of this run | were strangers' scores normal |"
    yield "|---|---|---|"
    for row in report["computed"]:
        yield f"| {row['gallery']} | {row['at_most_by_this_run']:.3f} | {row['if_scores_were_normal']:.1e} |"


def _rate(rate: dict[str, float]) -> str:
    hits, trials = (f"{value:.1f}".removesuffix(".0") for value in (rate["hits"], rate["trials"]))
    return f"{100 * rate['rate']:.2g} % ({hits} of {trials}; {100 * rate['low']:.2g} to {100 * rate['high']:.2g})"
