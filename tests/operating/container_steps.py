"""The first stage of `deploy/Containerfile`, read and carried out in a scratch folder: what can be tried without containers.

`python -m tests.operating.container_steps` does all of it, with a fresh environment and everything that the lock file names.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.tidy.source import ROOT

FILE = ROOT / "deploy" / "Containerfile"


def instructions() -> list[tuple[str, str]]:
    """(instruction, its rest) of the whole file, continued lines joined."""
    text = re.sub(r"\\\n", " ", FILE.read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in lines]


def first_stage() -> Iterator[tuple[str, str]]:
    """COPY and RUN of the stage that builds."""
    stages = 0
    for word, rest in instructions():
        stages += word == "FROM"
        if stages == 1 and word in ("COPY", "RUN"):
            yield word, rest


def copy(rest: str, folder: Path) -> None:
    """Does one COPY from the repository into `folder`, without what only development leaves behind."""
    *sources, target = rest.split()
    for source in sources:
        place = folder / target / Path(source).name if target.endswith("/") else folder / target
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, place)


def main() -> None:
    """Carries out the stage and starts what came out of it."""
    folder = Path(tempfile.mkdtemp(prefix="kinpay-container-", dir="/tmp"))
    try:
        for word, rest in first_stage():
            print(word, rest, flush=True)
            if word == "COPY":
                copy(rest, folder)
            else:
                subprocess.run(rest.replace("/opt/kinpay", str(folder / "opt")), shell=True, cwd=folder, check=True)
        asked = [str(folder / "opt" / "bin" / "kinpay"), "doctor", "--json"]
        told = subprocess.run(asked, cwd="/", env={"KINPAY_HOME": str(folder / "home")}, check=False, capture_output=True)
        print(told.stdout.decode(), told.stderr.decode())
        sys.exit(told.returncode not in (0, 1) or b'"Python"' not in told.stdout)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
