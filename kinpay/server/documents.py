"""Pages of `docs/` that are made from what stands here and below; `kinpay/cli/documents.py` writes them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from kinpay.server.problems import RETRY_AFTER_S, WORDS
from kinpay.server.settings import CONFIG, SETTINGS
from kinpay.server.states_page import states

MADE: Final = "<!-- Made by `make documents`; change the code, not this page. -->"


def configuration() -> str:
    """`docs/configuration.md`."""
    lines = [
        "# Configuration",
        "",
        MADE,
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
        MADE,
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


def life_cycles() -> str:
    """`docs/states.md`."""
    lines = [
        "# Life cycles",
        "",
        MADE,
        "",
        "Each is one literal table beside the thing that lives. A row moves by compare-and-set, and every move is a link in a "
        "hash chain (`<thing>.<event>`), written in the same transaction. What is not drawn cannot happen.",
    ]
    return "\n".join(lines) + "\n" + states() + "\n"


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "configuration.md": configuration,
    "errors.md": errors,
    "states.md": life_cycles,
}
