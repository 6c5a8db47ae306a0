"""The client is a distribution of its own: it installs by itself, has types, and needs httpx and cryptography alone."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.tidy.source import ROOT

SDK = ROOT / "sdk"
ASKED = """
import sys, kinpay_client, pathlib
assert pathlib.Path(kinpay_client.__file__).is_relative_to(sys.argv[1]), kinpay_client.__file__
assert (pathlib.Path(kinpay_client.__file__).parent / "py.typed").exists()
till = kinpay_client.SyncTerminal.from_json(
    '{"base_url": "http://nobody.test", "terminal_id": "%s", "private_key": %s}' % ("a" * 32, __import__("json").dumps(
        kinpay_client.terminal_steps.TerminalKey.new().to_pem())))
assert not [name for name in sys.modules if name.split(".")[0] in ("kinpay", "fastapi", "asyncpg", "pydantic", "msgspec")]
print("alone")
"""


def test_it_installs_by_itself(tmp_path: Path) -> None:
    copy = tmp_path / "sdk"
    subprocess.run(["cp", "-r", str(SDK), str(copy)], check=True)
    target = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--target", str(target), str(copy)], check=True, capture_output=True)
    command = [sys.executable, "-c", ASKED, str(target)]
    ran = subprocess.run(command, env={"PYTHONPATH": str(target)}, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("alone\n", "")


def imported() -> set[str]:
    """What its modules import from elsewhere."""
    found = set()
    for file in (SDK / "kinpay_client").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [one.name for one in node.names] if isinstance(node, ast.Import) else []
            found |= {name.split(".")[0] for name in names}
    return found - set(sys.stdlib_module_names) - {"kinpay_client"}


def test_it_needs_what_it_says_and_no_more() -> None:
    named = tomllib.loads((SDK / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    assert imported() == set(named) == {"httpx", "cryptography"}
