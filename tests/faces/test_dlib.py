"""A second real model behind the port: another runtime, another crop, another dimension, by configuration alone.

`make dlib` installs it; its files are 100 MB, so it is not among what every test run fetches.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kinpay.cli.main import main
from kinpay.faces.check import check_model
from kinpay.faces.engine import Engine, installed_folder, open_engine
from kinpay.faces.files import ModelMissing
from kinpay.faces.models.dlib_resnet import CARD, DlibResnet
from kinpay.faces.pipeline import look
from tests.faces.people import PLACES, blurred, brighter, person, tilted

MISSING = DlibResnet().missing(Path())


@pytest.mark.skipif(bool(MISSING), reason="; ".join(MISSING))
def test_the_second_model_goes_the_same_way(engine: Engine) -> None:
    second = open_engine(installed_folder(), "dlib")
    assert (second.embedder.dimensions, second.embedder.model_id) == (CARD.dimensions, CARD.model_id)
    assert second.embedder.dimensions != engine.embedder.dimensions
    line = CARD.thresholds.one_to_one
    plain = {}
    for name in PLACES:
        face = look(second, person(name))
        assert face is not None
        assert face.vector.shape == (CARD.dimensions,)
        assert np.linalg.norm(face.vector) == pytest.approx(1, abs=1e-5)
        plain[name] = face.vector
        for altered in (brighter(person(name), 0.6), tilted(person(name), 12), blurred(person(name), 2)):
            again = look(second, altered)
            assert again is not None
            assert again.vector @ face.vector >= line
    for name, vector in plain.items():
        assert all(vector @ other < line for key, other in plain.items() if key != name)


@pytest.mark.skipif(bool(MISSING), reason="; ".join(MISSING))
def test_configuration_alone_chooses_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_model(DlibResnet(), installed_folder()).wrong == ()
    monkeypatch.setenv("KINPAY_FACE_MODEL", "dlib")
    assert main(["biometrics", "check"]) == 0
    assert "dlib  (in use)" in capsys.readouterr().out


@pytest.mark.skipif(not MISSING, reason="it is installed")
def test_where_it_is_not_installed_one_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelMissing, match="make dlib"):
        open_engine(installed_folder(), "dlib")
    monkeypatch.setenv("KINPAY_FACE_MODEL", "dlib")
    assert main(["biometrics", "check"]) == 1
    assert "run `make dlib`" in capsys.readouterr().out
