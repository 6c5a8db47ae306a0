"""`python -m bench --quick` goes through everything that the long run does. No time is asserted: that is the long run's."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMES = {
    "inprocess_vs_tpcb",
    "http_vs_tpcb",
    "contended_vs_tpcb",
    "vs_naive",
    "p99_vs_tpcb_1",
    "p99_vs_tpcb_8",
    "p99_vs_tpcb_64",
    "growth_rate_1m_vs_1k",
    "rollup_vs_authorise",
    "statement_many_vs_few",
}


async def test_the_quick_bench_names_every_ratio_and_leaves_books_that_add_up(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    bench = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench", "--quick", "--out", str(out), "--place", "/tmp",
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        said, _ = await asyncio.wait_for(bench.communicate(), 300)
    finally:
        if bench.returncode is None:
            bench.kill()
            await bench.wait()
    assert bench.returncode == 0, said.decode()
    report = json.loads(out.read_text(encoding="utf-8"))
    assert {name for name in NAMES if report.get(name, 0) > 0} == NAMES
    assert [(audit["database"], audit["findings"]) for audit in report["audit"]] == [
        (name, 0) for name in ("charges", "young", "grown", "months")
    ]
    assert all(audit["charges"] > 0 for audit in report["audit"])
    assert all(cell["operations"] > 0 for cells in report["rounds"] for cell in cells)
