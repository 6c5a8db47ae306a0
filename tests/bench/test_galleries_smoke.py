"""`python -m bench.galleries` goes through both engines, and its bars can be missed."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from bench.galleries import judged

ROOT = Path(__file__).parents[2]


async def test_a_small_run_writes_its_part_of_the_report_and_leaves_the_others(tmp_path: Path) -> None:
    out = tmp_path / "biometrics.json"
    out.write_text('{"pictures": {"found": 1}}')
    bench = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.galleries", "--sizes", "400,1000", "--probes", "20", "--out", str(out),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await asyncio.wait_for(bench.communicate(), 120)
    assert bench.returncode == 0, said.decode()
    report = json.loads(out.read_text())
    assert report["pictures"] == {"found": 1}
    cells = report["galleries"]["cells"]
    assert [(cell["engine"], cell["templates"]) for cell in cells] == [
        ("numpy", 400), ("pgvector", 400), ("numpy", 1000), ("pgvector", 1000),
    ]  # fmt: skip
    assert all(cell["recall"] == cell["removed_and_gone"] == 1 and cell["largest_score_difference"] < 1e-3 for cell in cells)


def test_what_misses_its_bar_is_named() -> None:
    good = {"engine": "numpy", "templates": 10_000, "recall": 1.0, "removed_and_gone": 1.0, "search_p50_ms": 2.0}
    assert judged([good]) == []
    for broken in ({"recall": 0.99}, {"removed_and_gone": 0.8}, {"search_p50_ms": 5.1}):
        assert len(judged([{**good, **broken}])) == 1
    assert judged([{**good, "engine": "pgvector", "search_p50_ms": 50.0}]) == []
