"""`python -m bench`: measures, audits what was measured on, writes the report."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from bench.ground import Ground, open_ground
from bench.machine import describe_machine
from bench.page import write_page
from bench.plan import PARTIES, Plan, Run, carry_out
from bench.ratios import AT_LEAST, each_round, medians
from kinpay.audit.check import check

DISTURBED = 0.1


def main(arguments: Sequence[str] | None = None) -> int:
    """0: measured, and the books add up; 1: they do not."""
    asked = _parser().parse_args(arguments)
    plan = _plan(asked)
    began = time.monotonic()

    def watch(line: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {line}", flush=True)

    with tempfile.TemporaryDirectory(prefix="kinpay-bench-home-") as home, open_ground(asked.place) as ground:
        run, audits = uvloop.run(_measure(plan, ground, Path(home), watch))
        report = _report(plan, run, audits, ground.cluster.version)
    out: Path = asked.out or Path("build") / ("bench-quick.json" if asked.quick else "bench.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if not asked.quick and plan.parties == frozenset(PARTIES):
        write_page(asked.page, report, run.rounds)
    _tell(report, out)
    return 1 if any(audit["findings"] for audit in audits) else 0


def _parser() -> argparse.ArgumentParser:
    usual = Plan()
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Authorisations beside pgbench TPC-B and a naive implementation, in one run."
    )
    parser.add_argument("--rounds", type=int, help=f"how often everybody has a turn ({usual.rounds})")
    parser.add_argument("--seconds", type=float, help=f"how long a cell is measured ({usual.seconds:g})")
    parser.add_argument("--only", help=f"some of {','.join(PARTIES)}; the page is written for all of them only")
    parser.add_argument("--history", type=int, help=f"past charges of the growth cells ({usual.many})")
    parser.add_argument("--quick", action="store_true", help="tiny: shows that it works; its numbers mean nothing")
    parser.add_argument("--place", type=Path, default=Path("/var/tmp"), help="a folder on the disk to measure (/var/tmp)")  # noqa: S108
    parser.add_argument("--out", type=Path, help="the report (build/bench.json)")
    parser.add_argument("--page", type=Path, default=Path("docs/performance.md"), help="the page with the tables")
    return parser


def _plan(asked: argparse.Namespace) -> Plan:
    plan = Plan.quick() if asked.quick else Plan()
    changes: dict[str, Any] = {"rounds": asked.rounds, "seconds": asked.seconds, "many": asked.history}
    if asked.only:
        changes["parties"] = frozenset(asked.only.split(","))
        unknown = changes["parties"] - frozenset(PARTIES)
        if unknown:
            raise SystemExit(f"there is no party {', '.join(sorted(unknown))}; there are {', '.join(PARTIES)}")
    return replace(plan, **{name: value for name, value in changes.items() if value is not None})


async def _measure(plan: Plan, ground: Ground, home: Path, watch: Any) -> tuple[Run, list[dict[str, Any]]]:
    run = await carry_out(plan, ground, home, watch)
    audits = []
    for database in run.databases:
        watch(f"auditing {database}")
        audits.append(await _audit(ground, database))
    return run, audits


async def _audit(ground: Ground, database: str) -> dict[str, Any]:
    began = time.monotonic()
    async with ground.connected(database) as conn:
        findings = await check(conn, overdue_after=None)
        charges = await conn.fetchval("SELECT count(*) FROM charge")
    for finding in findings[:20]:
        print(finding, file=sys.stderr)
    return {"database": database, "charges": charges, "findings": len(findings), "seconds": round(time.monotonic() - began, 1)}


def _report(plan: Plan, run: Run, audits: list[dict[str, Any]], version: str) -> dict[str, Any]:
    values = each_round(run.rounds)
    found = medians(values)
    disturbed = [cell for cells in run.rounds for cell in cells if cell.others > DISTURBED]
    warnings = []
    if disturbed:
        share = max(cell.others for cell in disturbed)
        whole = sum(len(cells) for cells in run.rounds)
        warnings.append(
            f"Others used the machine: more than {DISTURBED:.0%} of it before {len(disturbed)} of {whole} cells, "
            f"up to {share:.0%}. Believe ratios before rates, and neither very much."
        )
    return {
        **{name: round(value, 3) for name, value in found.items()},
        "bars": {name: {"at_least": bar, "met": found[name] >= bar} for name, bar in AT_LEAST.items() if name in found},
        "made_at": datetime.now(UTC).isoformat(timespec="minutes"),
        "command": shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
        "warnings": warnings,
        "machine": describe_machine(version),
        "plan": {**asdict(plan), "parties": sorted(plan.parties)},
        "each_round": {name: [round(value, 3) for value in of_rounds] for name, of_rounds in values.items()},
        "audit": audits,
        "rounds": [[cell.to_json() for cell in cells] for cells in run.rounds],
    }


def _tell(report: dict[str, Any], out: Path) -> None:
    print()
    for name in report["each_round"] | report["bars"]:
        bar = report["bars"].get(name)
        print(
            f"  {name:28} {report[name]:8.2f}"
            + (f"   bar {bar['at_least']}: {'met' if bar['met'] else 'MISSED'}" if bar else "")
        )
    for warning in report["warnings"]:
        print(f"  {warning}")
    print(f"  {out}")


if __name__ == "__main__":
    sys.exit(main())
