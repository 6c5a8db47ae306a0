"""The source as syntax trees: what the tests of this folder look at."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("kinpay", "kinpay_sandbox", "kinpay_postgres", "sdk/kinpay_client", "bench")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def modules() -> dict[Path, ast.Module]:
    """Every module of ours, by its path from the root."""
    files = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
    return {file.relative_to(ROOT): ast.parse(file.read_text(encoding="utf-8")) for file in files}


def functions() -> Iterator[tuple[Path, Function]]:
    """Every function and method."""
    for path, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, Function):
                yield path, node


def lines_of(node: Function) -> int:
    """How long the function is, without its decorators."""
    return (node.end_lineno or node.lineno) - node.lineno + 1
