"""`kinpay biometrics check` says what is so: right, missing, altered, computing something else; and never less."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from kinpay.cli.main import main
from kinpay.faces.check import check_model
from kinpay.faces.engine import installed_folder
from kinpay.faces.models.faceplugin import CARD, Faceplugin


def told(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    monkeypatch.setenv("KINPAY_MODELS", str(folder))
    status = main(["biometrics", "check"])
    return status, capsys.readouterr().out


def test_it_says_what_is_installed_and_that_it_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text = told(installed_folder(), monkeypatch, capsys)
    assert status == 0
    for said in (CARD.model_id, f"{CARD.dimensions} dimensions", CARD.licence, CARD.caution, "runs here   yes", "(in use)"):
        assert said in text
    for one in CARD.measured:
        assert f"{one.rate}: {one.value} ({one.conditions}; {one.source})" in text


def test_it_says_what_is_missing_or_altered_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(installed_folder(), tmp_path / "models")
    (file,) = CARD.files
    content = (tmp_path / "models" / file.path).read_bytes()
    (tmp_path / "models" / file.path).write_bytes(content[::-1])
    status, text = told(tmp_path / "models", monkeypatch, capsys)
    assert status == 1
    assert f"{file.path} is not the one that was measured" in text
    assert "runs here" not in text.partition("\ndlib")[0]
    (tmp_path / "models" / file.path).unlink()
    status, text = told(tmp_path / "models", monkeypatch, capsys)
    assert status == 1
    assert f"{file.path} is not there: run `make install`" in text


def test_a_machine_that_computes_something_else_is_noticed() -> None:
    """As another order of colours, another scale or a broken runtime would make it."""
    wrong = replace(CARD, fingerprint=tuple(-number for number in CARD.fingerprint))
    assert check_model(Faceplugin(), installed_folder()).wrong == ()
    (said,) = check_model(Faceplugin(wrong), installed_folder()).wrong
    assert "do not use it on this machine" in said
    (said,) = check_model(Faceplugin(replace(CARD, dimensions=128)), installed_folder()).wrong
    assert "not 128" in said
