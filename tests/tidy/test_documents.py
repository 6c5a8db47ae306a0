"""What the documents say is there: pages made from the code are current, named paths exist, links lead somewhere.

Nothing committed names a machine, a package registry, or is somebody else's file.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import pytest

from kinpay.cli.documents import PAGES
from kinpay.server.states_page import LIVES, meanings
from tests.tidy.source import PACKAGES, ROOT

PAGES_BY_HAND = (
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    *(str(page.relative_to(ROOT)) for page in sorted((ROOT / "docs").rglob("*.md"))),
)
PLACES = ("", "kinpay/", "docs/")
"""Where a path that a document names may begin; inside `docs/security.md`, say, `people/sign_in.py` is in `kinpay/`."""


@pytest.mark.parametrize("name", PAGES)
def test_the_pages_made_from_the_code_are_current(name: str) -> None:
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == PAGES[name](), "run `make documents`"


def test_every_state_says_what_it_means() -> None:
    silent = [(drawn.life.name, name) for drawn in LIVES for name, told in meanings(type(drawn.life.start)).items() if not told]
    assert silent == []
    for drawn in LIVES:
        kind: type[StrEnum] = type(drawn.life.start)
        assert set(drawn.begins) <= set(kind)


def test_every_life_cycle_is_drawn() -> None:
    """One is a call of `Lifecycle` at the top of a module."""
    made = [
        line
        for file in sorted((ROOT / "kinpay").rglob("*.py"))
        for line in file.read_text(encoding="utf-8").splitlines()
        if re.match(r"^\w+(: \S+)? = Lifecycle\W", line)
    ]
    assert len(made) == len(LIVES) == len({drawn.life.name for drawn in LIVES})


CODE = re.compile(r"`([^`\n]+)`")
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
PATH = re.compile(r"(?<![\w./<>{}*-])([a-z_][\w-]*/(?:[\w.-]+/)*(?:[\w.-]+)?|[\w-]+\.(?:py|md|sql|toml|lock))(?![\w/<>{}*])")


def paths_in(text: str) -> Iterator[str]:
    """What looks like a path of this repository in code spans and drawings: with a slash and an ending we use, or a folder."""
    for span in (*FENCED.findall(text), *CODE.findall(FENCED.sub("", text))):
        for found in PATH.findall(span):
            path = str(found)
            last = path.rstrip("/").rsplit("/", 1)[-1]
            if path.endswith("/") or re.search(r"\.(py|md|sql|toml|lock)$", last):
                yield path


def is_there(path: str) -> bool:
    """At the root, in `kinpay/` or in `docs/`; a bare file name anywhere in a package of ours."""
    if any((ROOT / place / path).exists() for place in PLACES):
        return True
    return "/" not in path and any(next((ROOT / package).rglob(path), None) is not None for package in PACKAGES)


def test_paths_are_read_out_of_a_text() -> None:
    text = (
        "`kinpay/charges/decide.py` and `charges/` but `POST /v1/charges`, `a/b`, http://x/y.py\n```\nserver/app.py  so\n```\n"
    )
    assert sorted(paths_in(text)) == ["charges/", "kinpay/charges/decide.py", "server/app.py"]
    assert is_there("charges/decide.py")
    assert not is_there("charges/decided.py")


@pytest.mark.parametrize("page", PAGES_BY_HAND)
def test_every_path_that_is_named_exists(page: str) -> None:
    gone = [path for path in paths_in((ROOT / page).read_text(encoding="utf-8")) if not is_there(path)]
    assert gone == []


LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")


def links_in(text: str) -> list[str]:
    """Every link of a page, outside code."""
    return LINK.findall(CODE.sub("", FENCED.sub("", text)))


def anchors_of(text: str) -> set[str]:
    """The headings of a page as one links to them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES_BY_HAND)
def test_every_link_leads_somewhere(page: str) -> None:
    lost = []
    for link in links_in((ROOT / page).read_text(encoding="utf-8")):
        target, _, anchor = link.partition("#")
        if target.startswith(("http:", "https:")):
            continue
        file = (ROOT / page).parent / target if target else ROOT / page
        if not file.exists() or (anchor and anchor not in anchors_of(file.read_text(encoding="utf-8"))):
            lost.append(link)
    assert lost == []


def test_every_page_of_docs_can_be_found_from_the_front() -> None:
    """Linked from README, ARCHITECTURE or another page that is; the decisions are a folder of their own."""
    linked: set[Path] = set()
    to_read = [ROOT / "README.md", ROOT / "ARCHITECTURE.md"]
    while to_read:
        page = to_read.pop()
        for link in links_in(page.read_text(encoding="utf-8")):
            target = (page.parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md" and target not in linked and target.exists():
                linked.add(target)
                to_read.append(target)
    assert [str(page.relative_to(ROOT)) for page in sorted((ROOT / "docs").rglob("*.md")) if page.resolve() not in linked] == []


def test_decisions_are_numbered_once_and_listed_once() -> None:
    folder = ROOT / "docs" / "decisions"
    pages = sorted(page.name for page in folder.glob("*.md") if page.name != "README.md")
    assert [int(page[:4]) for page in pages] == list(range(1, len(pages) + 1))
    listed = Counter(links_in((folder / "README.md").read_text(encoding="utf-8")))
    assert listed == Counter(pages)


def committed() -> list[str]:
    """Every file under version control; empty where this is no checkout."""
    asked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    return [name for name in asked.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


REGISTRIES = (
    "pypi" + ".org",
    "pythonhosted" + ".org",
    "npmjs" + ".org",
    "npmjs" + ".com",
    "jsdelivr" + ".net",
    "unpkg" + ".com",
)
MACHINE = re.compile("(?<![\\w.:/-])/(?:" + "|".join(("home", "Users", "work", "root", "mnt")) + r")/[\w.-]+")
THIRD_PARTY = re.compile(r"(\.min\.(js|css)|\.map|\.whl|\.so|\.jar|\.wasm|\.woff2?)$|(^|/)(node_modules|vendor|third_party)/")


def test_what_is_looked_for_would_be_found() -> None:
    assert THIRD_PARTY.search("kinpay/web/static/htmx.min.js")
    assert MACHINE.search("see " + "/wor" + "k/main/README.md")
    assert not MACHINE.search("https://example.org" + "/wor" + "k/main")


def test_no_committed_file_names_a_registry_or_a_machine_or_is_somebody_elses() -> None:
    found = [name for name in committed() if THIRD_PARTY.search(name)]
    for name in committed():
        try:
            text = (ROOT / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            found.append(f"{name}: not text")
            continue
        found += [f"{name}: {host}" for host in REGISTRIES if host in text]
        found += [f"{name}: {path}" for path in MACHINE.findall(text)]
    assert found == []
