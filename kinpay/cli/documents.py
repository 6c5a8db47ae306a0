"""Every page of `docs/` that is made from the code: `python -m kinpay.cli.documents` writes them, a test compares."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kinpay.cli import arithmetic_page
from kinpay.cli.main import parser
from kinpay.server.documents import MADE
from kinpay.server.documents import PAGES as SERVER_PAGES

_WIDTH: Final = "100"


def commands() -> str:
    """`docs/cli.md`: what every command says of itself."""
    lines = [
        "# Commands",
        "",
        MADE,
        "",
        "`kinpay COMMAND --help` says the same. Exit status 0: done; 1: it did not work, and why is on standard error; "
        "2: wrongly asked. What a command prints for programs is one JSON object a line. What is configured: "
        "[configuration.md](configuration.md).",
    ]
    with _same_everywhere():
        for made in _all(parser()):
            lines += ["", f"## {made.prog}", "", "```text", made.format_help().rstrip(), "```"]
    return "\n".join(lines) + "\n"


def _all(root: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield root
    for action in root._actions:
        if isinstance(action, argparse._SubParsersAction):
            for made in action.choices.values():
                yield from _all(made)


@contextmanager
def _same_everywhere() -> Iterator[None]:
    """argparse asks the terminal for its width and colours; a page has neither."""
    fixed = {"COLUMNS": _WIDTH, "NO_COLOR": "1"}
    before = {name: os.environ.get(name) for name in fixed}
    os.environ.update(fixed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    **SERVER_PAGES,
    "cli.md": commands,
    "biometrics-arithmetic.md": arithmetic_page.arithmetic,
    "biometrics-curve.svg": arithmetic_page.curve,
}


def write(folder: Path) -> None:
    """Writes every page into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs"))
