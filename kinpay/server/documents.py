"""Pages of `docs/` that are made from the code: `python -m kinpay.server.documents` writes them, a test compares."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from kinpay.server.problems import RETRY_AFTER_S, WORDS
from kinpay.server.settings import CONFIG, SETTINGS

_MADE = "<!-- Made by `python -m kinpay.server.documents`; change the code, not this page. -->"


def configuration() -> str:
    """`docs/configuration.md`."""
    lines = [
        "# Configuration",
        "",
        _MADE,
        "",
        "Everything is set by environment variables, or in a file of `NAME=VALUE` lines that "
        f"`{CONFIG}` names; the environment overrides the file. Everything is read once, at the start, and a wrong value "
        "stops the start with a sentence that says what to write instead. `kinpay config` prints what is in force.",
        "",
        "| name | meaning | default |",
        "|---|---|---|",
    ]
    lines += [f"| `{entry.name}` | {entry.meaning} | {f'`{entry.default}`' if entry.default else ''} |" for entry in SETTINGS]
    return "\n".join(lines) + "\n"


def errors() -> str:
    """`docs/errors.md`."""
    lines = [
        "# Errors",
        "",
        _MADE,
        "",
        "Every error is a problem document (RFC 9457, `application/problem+json`) with `type` `/problems/<code>`, `title` (in "
        "Chinese or English, as `Accept-Language` asks), `status` and `code`. Codes do not change; titles may. Further members "
        "are plain facts: `reason` and `field` say what is wrong with a request, `errors[]` lists each field that is not valid "
        "and the rule it breaks, `retry_after_s` says when to come back (also as `Retry-After`), `incident` names a fault on "
        "our side for the operator's log. What was sent is never repeated.",
        "",
        "A charge that is refused is not an error: it is an answer, with its reasons.",
        "",
        "| code | status | meaning | 中文 | the same request again? |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| `{code}` | {words.status} | {words.en} | {words.zh} | {_again(code, words.status)} |"
        for code, words in sorted(WORDS.items())
    ]
    return "\n".join(lines) + "\n"


def _again(code: str, status: int) -> str:
    if code in RETRY_AFTER_S or status in (429, 503):
        return "yes, after a pause, under the same key"
    return "yes, under the same key" if status in (408, 500) else "no"


PAGES: Final[Mapping[str, Callable[[], str]]] = {"configuration.md": configuration, "errors.md": errors}


def write(folder: Path) -> None:
    """Writes every page into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs"))
