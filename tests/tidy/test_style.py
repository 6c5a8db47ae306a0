"""The house style, as far as a program can read it (architecture.md §4). Each rule is first shown a text that breaks it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.tidy.source import ROOT, Function, functions, lines_of, modules

LONGEST_FUNCTION = 70
LONGEST_FILE = 400
DRAWERS = {"service", "services", "utils", "util", "helpers", "helper", "manager", "base", "common", "misc"}
PROVIDER_TYPES = {"Provider", "Adapters"}


def names_of_arguments(node: Function) -> set[str]:
    """All parameters of a function."""
    arguments = node.args
    return {item.arg for item in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}


def takes_connection_and_provider(node: Function) -> bool:
    """Whether it could call a provider inside its caller's transaction."""
    arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
    kinds = {ast.unparse(item.annotation) for item in arguments if item.annotation}
    return "conn" in names_of_arguments(node) and bool(kinds & PROVIDER_TYPES)


def test_no_function_takes_a_connection_and_a_provider() -> None:
    """So that no provider is ever called inside a transaction."""
    planted = ast.parse("async def pay(conn: Connection, provider: Provider) -> None: ...").body[0]
    assert isinstance(planted, Function)
    assert takes_connection_and_provider(planted)
    assert [f"{path}:{node.name}" for path, node in functions() if takes_connection_and_provider(node)] == []


def test_functions_are_short() -> None:
    """At most 70 lines; routers are tables of small functions and are measured by those."""
    long = [
        f"{path}:{node.name} has {lines_of(node)} lines"
        for path, node in functions()
        if lines_of(node) > LONGEST_FUNCTION and not any(isinstance(item, Function) for item in node.body)
    ]
    assert long == []


def test_files_are_short() -> None:
    """At most 400 lines."""
    lengths = {path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in modules()}
    assert {str(path): lines for path, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_no_file_is_a_drawer() -> None:
    """A name that says nothing attracts everything."""
    assert [str(path) for path in modules() if path.stem in DRAWERS] == []


def test_everything_public_says_what_it_is_for() -> None:
    """Modules, public classes and public functions of packages have a docstring."""
    silent = [str(path) for path, tree in modules().items() if not ast.get_docstring(tree)]
    for path, tree in modules().items():
        for node in tree.body:
            named = isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_")
            if named and not ast.get_docstring(node):
                silent.append(f"{path}:{node.name}")
    assert silent == []


def imports_inside(tree: ast.Module) -> list[int]:
    """Lines of imports inside functions."""
    return [
        inner.lineno
        for node in ast.walk(tree)
        if isinstance(node, Function)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    ]


def test_nothing_is_imported_inside_a_function() -> None:
    """The floors can only be read if imports are where one looks."""
    assert imports_inside(ast.parse("def f():\n    import os")) == [2]
    assert {str(path): lines for path, tree in modules().items() if (lines := imports_inside(tree))} == {}


STATEMENT = re.compile(r"^\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", re.IGNORECASE)


def is_loose_sql(node: ast.AST) -> bool:
    """SQL handed to a connection outside a named constant."""
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    if not called or node.func.attr not in {"execute", "fetch", "fetchrow", "fetchval"}:  # type: ignore[attr-defined]
        return False
    first = node.args[0] if node.args else None  # type: ignore[attr-defined]
    return isinstance(first, ast.Constant) and isinstance(first.value, str) and bool(STATEMENT.match(first.value))


def test_sql_stands_in_named_constants() -> None:
    """In kinpay's features; the migration runner speaks to the server's own tables."""
    assert any(is_loose_sql(node) for node in ast.walk(ast.parse("conn.fetch('SELECT 1')")))
    exempt = Path("kinpay/database")
    loose = [
        f"{path}:{node.lineno}"
        for path, tree in modules().items()
        if path.parts[0] == "kinpay" and not path.is_relative_to(exempt)
        for node in ast.walk(tree)
        if is_loose_sql(node)
    ]
    assert loose == []


def test_nobody_reads_the_clock_in_the_house() -> None:
    """One clock, the database's; the server and the worker, terminals' signatures and providers' windows have the process's."""
    allowed = {"server", "worker", "cli", "providers", "terminals", "primitives"}
    pattern = re.compile(r"datetime\.(now|utcnow|today)\(|date\.today\(|time\.time\(")
    found = [
        str(path)
        for path in modules()
        if path.parts[0] == "kinpay"
        and path.parts[1] not in allowed
        and pattern.search((ROOT / path).read_text(encoding="utf-8"))
    ]
    assert found == []
