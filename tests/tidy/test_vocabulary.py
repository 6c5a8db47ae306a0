"""One word per thing (ARCHITECTURE.md): words that would name a thing a second time are not used for anything of ours.

Looked at are names that we give: classes, functions, parameters, fields, enum values, tables, columns, route segments and
JSON fields. Prose may say *guardian*, and what providers call things stays in `kinpay/providers/`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from tests.tidy.source import ROOT, Function, modules

INSTEAD = {
    "user": "person",
    "customer": "person",
    "dependent": "spender",
    "dependant": "spender",
    "ward": "spender",
    "secondary": "spender",
    "subaccount": "spender",
    "guardian": "payer",
    "parent": "payer",
    "primary": "payer",
    "household": "circle",
    "family": "circle",
    "pos": "terminal",
    "binding_request": "registration",
    "sub_account": "spender",
    "contract": "agreement",
    "withhold": "debit",
    "withholding": "debit",
    "deduction": "debit",
    "invoice": "statement",
    "bill": "statement",
    "gateway": "provider",
    "psp": "provider",
}
"""Not here, because they have another meaning of their own: order (the order of binding, an order to a batch), transaction
(the database's), channel (by which codes leave), rule, policy and card, kiosk (one kind of terminal), report."""
ELSEWHERE = ("kinpay/providers/", "kinpay/cli/demo/")
"""What a provider calls things; and people who are customers at a bank in a play."""


def words_of(name: str) -> set[str]:
    """`spenderAccount`, `spender_account`: both are made of two words; neighbours count as one word, too."""
    parts = [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    singular = [part.removesuffix("s") if len(part) > 3 else part for part in parts]
    return {*parts, *singular, *(f"{one}_{two}" for one, two in pairwise(singular))}


def wrong(name: str) -> set[str]:
    """The words in a name that are not to be used."""
    return words_of(name) & INSTEAD.keys()


def names_given(tree: ast.AST) -> Iterator[str]:
    """Every name that a module gives: definitions, parameters, fields, enum values, names in JSON and in SQL constants."""
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield node.name
            arguments = node.args
            yield from (item.arg for item in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs))
            yield from _segments(node)
        elif isinstance(node, ast.ClassDef):
            yield node.name
            yield from _fields(node)
        elif isinstance(node, ast.Dict):
            for key in node.keys:
                if isinstance(key, ast.Constant) and isinstance(key.value, str) and key.value.isidentifier():
                    yield key.value


def _fields(node: ast.ClassDef) -> Iterator[str]:
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            yield item.target.id
        elif isinstance(item, ast.Assign):
            yield from (target.id for target in item.targets if isinstance(target, ast.Name))
            if isinstance(item.value, ast.Constant) and isinstance(item.value.value, str):
                yield item.value.value


def _segments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call) and decorator.args and isinstance(decorator.args[0], ast.Constant):
            yield from re.findall(r"[A-Za-z_-]+", str(decorator.args[0].value))


def columns() -> Iterator[str]:
    """Every table and column of the schema."""
    for file in sorted((ROOT / "kinpay" / "database" / "migrations").glob("*.sql")):
        text = re.sub(r"--[^\n]*", "", file.read_text(encoding="utf-8"))
        for table, body in re.findall(r"CREATE (?:UNLOGGED )?TABLE (\w+) \((.*?)\n\)", text, re.DOTALL):
            yield table
            yield from re.findall(r"^\s{4}([a-z_]+) ", body, re.MULTILINE)


def is_ours(path: Path) -> bool:
    """Whether the names in a module are of our own choosing."""
    return path.parts[0] == "kinpay" and not str(path).startswith(ELSEWHERE)


def test_words_are_taken_apart() -> None:
    assert {"guardian"} == wrong("GuardianOut")
    assert {"household"} == wrong("households_of")
    assert {"binding_request"} == wrong("post_binding_requests")
    assert wrong("first_payer_of_order") == set()


def test_planted_names_are_found() -> None:
    planted = """
class Customer:
    user_id: str
    STATE = "withhold"
@api.post("/v1/households/{id}")
def bill(guardian: str): return {"sub_account": 1}
"""
    found = {word for name in names_given(ast.parse(planted)) for word in wrong(name)}
    assert found == {"customer", "user", "withhold", "household", "bill", "guardian", "sub_account"}


def test_nothing_of_ours_is_called_by_a_second_name() -> None:
    found = {
        f"{path}: {name} (say {', '.join(sorted(INSTEAD[word] for word in wrong(name)))})"
        for path, tree in modules().items()
        if is_ours(path)
        for name in names_given(tree)
        if wrong(name)
    }
    assert found == set()


def test_no_table_or_column_is_called_by_a_second_name() -> None:
    named = set(columns())
    assert {"mandate", "payer_id", "circle_member"} <= named
    assert {name for name in named if wrong(name)} == set()
