"""The bank stands alone: a bank that shared code with kinpay could share its mistakes."""

from __future__ import annotations

import ast
from pathlib import Path

import kinpay_sandbox


def test_the_bank_imports_nothing_from_kinpay() -> None:
    for file in Path(kinpay_sandbox.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file.name} imports relatively"
                names.append(node.module or "")
            assert "kinpay" not in {name.partition(".")[0] for name in names}, file.name
