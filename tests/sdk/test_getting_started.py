"""docs/getting-started.md is carried out as it stands: its shell blocks by a shell, its Python blocks as one program."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tidy.source import ROOT

PAGE = (ROOT / "docs" / "getting-started.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
EXPORTED = re.compile(r"^export (KINPAY_\w+)=(\S+)$")
READY_S = 240


@pytest.fixture
def demo() -> Iterator[dict[str, str]]:
    """The page's first block in a shell of its own; what its last lines say, once it stands."""
    home = Path(tempfile.mkdtemp(prefix="kinpay-start-", dir="/tmp"))
    home.chmod(0o711)
    (_, command), *_ = BLOCKS
    environment = {**os.environ, "KINPAY_HOME": str(home), "PYTHONUNBUFFERED": "1", "LC_ALL": "C.UTF-8"}
    log = home / "demo.log"
    with log.open("wb") as stream:
        playing = subprocess.Popen(
            ["bash", "-ec", command], cwd=ROOT, env=environment, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        yield environment | _exports(playing, log)
    finally:
        os.killpg(playing.pid, signal.SIGINT)
        playing.wait(120)
        shutil.rmtree(home, ignore_errors=True)


def _exports(playing: subprocess.Popen[bytes], log: Path) -> dict[str, str]:
    """The demo's last four lines. Raises: AssertionError with all it said if they do not come."""
    until = time.monotonic() + READY_S
    while time.monotonic() < until and playing.poll() is None:
        found = [EXPORTED.fullmatch(line) for line in log.read_text(encoding="utf-8").splitlines()]
        told = {one[1]: one[2] for one in found if one}
        if len(told) == 4:
            return told
        time.sleep(0.2)
    raise AssertionError(log.read_text(encoding="utf-8"))


def test_the_page_leads_to_a_first_charge(demo: dict[str, str], tmp_path: Path) -> None:
    program = "".join(text for language, text in BLOCKS if language == "python")
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=demo, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    told = ran.stdout.splitlines()
    assert [line for line in told if not line.startswith(("installed: ", "asked: "))] == [
        "bound: active None",
        "first charge: succeeded 1400 CNY",
        "the same again: True True",
        "refused: DAY_AMOUNT possible now: 1600",
        "problem: check-code-used - This code was used already; scan the new one.",
        "seen by the payer: refused 1900 given back 0",
        "seen by the payer: succeeded 1400 given back 700",
    ]
    assert (tmp_path / "till.json").stat().st_mode & 0o077 == 0, "nobody else reads the key"
    shell = [text for language, text in BLOCKS if language == "shell"][1:]
    assert len(shell) == 2
    for text in shell:
        done = subprocess.run(
            ["bash", "-ec", text], cwd=ROOT, env=demo, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_block_says_what_it_is() -> None:
    assert {language for language, _ in BLOCKS} == {"shell", "python"}
    assert BLOCKS[0] == ("shell", "make demo\n")
