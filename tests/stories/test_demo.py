"""The demo as everybody runs it: `kinpay demo --once` plays the whole story and ends with status 0."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len

from kinpay.cli.demo.told import WIDTH

COMMAND = [sys.executable, "-m", "kinpay.cli.main", "demo"]
LONGEST_S = 300


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder to play in that the account of PostgreSQL can pass through."""
    folder = Path(tempfile.mkdtemp(prefix="kinpay-demo-test-", dir="/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def environment(home: Path) -> dict[str, str]:
    """Ours, with the demo's folders under `home`."""
    return {**os.environ, "KINPAY_HOME": str(home), "PYTHONUNBUFFERED": "1"}


def processes_of(home: Path) -> list[str]:
    """Command lines of processes that still run on something in `home`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(home) in line:
            found.append(line)
    return found


def test_the_whole_story_holds_and_nothing_is_left_behind(home: Path) -> None:
    played = subprocess.run(
        [*COMMAND, "--once", "--lang", "zh"], env=environment(home), capture_output=True, text=True, timeout=LONGEST_S
    )
    assert played.returncode == 0, played.stdout + played.stderr
    assert "✗" not in played.stdout
    assert len(re.findall("✓", played.stdout)) >= 25
    for word in ("第一次扫码", "先采集，后同意", "银行没有回音", "本月总账", "逐笔比对"):
        assert word in played.stdout
    assert max(map(cell_len, played.stdout.splitlines())) <= WIDTH
    assert list(home.iterdir()) == [], "its folders are gone"
    assert processes_of(home) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_cleans_up_and_says_so_by_its_status(home: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [*COMMAND, "--lang", "en"], env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as playing:
        assert playing.stdout is not None
        assert any("✓" in line for line in playing.stdout), "the first step is told"
        assert processes_of(home), "server, bank and their databases run"
        playing.send_signal(number)
        playing.stdout.read()
        assert playing.wait(120) == 130
    assert list(home.iterdir()) == []
    assert processes_of(home) == []
