"""The figures of faces are what they say: known intervals, planted errors, a folder of pictures from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.biometrics.__main__ import main
from bench.biometrics.interval import clopper_pearson
from bench.biometrics.page import BEGIN, END
from bench.biometrics.rates import Kind, one_to_many, one_to_one
from kinpay.faces.port import Vectors
from tests.faces.people import PLACES, blurred, brighter, person


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [
        (0, 10, 0.0, 0.30850),
        (10, 10, 0.69150, 1.0),
        (1, 20, 0.0012651, 0.24873),
        (5, 100, 0.01643, 0.11283),
        (50, 100, 0.39832, 0.60168),
        (1, 2_280_000, 1.1104e-8, 2.4437e-6),
    ],
)
def test_intervals_are_those_of_the_tables(hits: int, trials: int, low: float, high: float) -> None:
    assert clopper_pearson(hits, trials) == pytest.approx((low, high), rel=1e-3, abs=1e-9)


def test_an_interval_holds_what_it_promises() -> None:
    """Of 2,000 samples at a known rate, at least 95 in 100 intervals hold it; and too short ones would not."""
    chance = np.random.default_rng(5)
    for rate in (0.01, 0.2):
        hits = chance.binomial(150, rate, 2000)
        ends = {count: clopper_pearson(int(count), 150) for count in set(hits.tolist())}
        held = sum(ends[count][0] <= rate <= ends[count][1] for count in hits.tolist())
        assert held >= 0.95 * 2000
    assert clopper_pearson(0, 0) == (0.0, 1.0)


def made_up(people: int, pictures: int, likeness: float) -> dict[str, Vectors]:
    """Unit vectors; two of one person have a score of about `likeness`, two of others of about 0."""
    chance = np.random.default_rng(2)
    found = {}
    for number in range(people):
        own = chance.normal(size=256)
        noise = chance.normal(size=(pictures, 256))
        each = (
            np.sqrt(likeness) * own / np.linalg.norm(own)
            + np.sqrt(1 - likeness) * noise / np.linalg.norm(noise, axis=1)[:, None]
        )
        found[f"p{number:02}"] = (each / np.linalg.norm(each, axis=1)[:, None]).astype(np.float32)
    return found


def test_rates_count_what_was_planted() -> None:
    single, means = Kind(1, 1, 0.45, 0.5), Kind(3, 3, 0.55, 0.55)
    people = made_up(20, 8, 0.8)
    for kind in (single, means):
        told = one_to_one(people, kind)
        assert (told["fnmr"]["hits"], told["fmr"]["hits"]) == (0, 0)
        for row in one_to_many(people, kind, 0.08):
            assert row["false_accepts_of_strangers"]["hits"] == 0
            assert row["mistaken_of_enrolled"]["hits"] == 0
    people["p01"] = people["p00"].copy()  # Twins.
    told = one_to_one(people, single)
    assert told["fmr"]["hits"] == 64
    *_, row = one_to_many(people, means, 0.08)
    assert row["gallery"] == 19
    assert row["false_accepts_of_strangers"]["hits"] > 0
    assert row["stepped_up_of_enrolled"]["hits"] > 0, "the margin does not choose between twins"
    assert one_to_one(made_up(20, 8, 0.2), means)["fnmr"]["hits"] > 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three people with three pictures each, as JPEG and as PNG."""
    for name in list(PLACES)[:3]:
        (tmp_path / "people" / name).mkdir(parents=True)
        for number, picture in enumerate((person(name), brighter(person(name), 0.7), blurred(person(name), 2))):
            Image.fromarray(picture).save(tmp_path / "people" / name / f"{number}.{('jpg', 'png')[number % 2]}")
    return tmp_path / "people"


def test_a_folder_of_pictures_becomes_a_report_and_a_page(folder: Path, tmp_path: Path) -> None:
    page, out = tmp_path / "page.md", tmp_path / "out" / "report.json"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    arguments = ["--pictures", str(folder), "--out", str(out), "--page", str(page), "--source", "three people"]
    main(arguments)  # Whether it keeps the bar of speed depends on who else uses this machine.
    report = json.loads(out.read_text())
    assert report["pictures"] | {"not_found": []} == {
        "source": "three people",
        "people": 3,
        "pictures": 9,
        "found": 9,
        "not_found": [],
    }
    assert report["one_to_one"][0]["fnmr"]["trials"] == 9
    assert report["one_to_one"][0]["fmr"] | {"high": 0} == {"hits": 0.0, "trials": 27.0, "rate": 0.0, "low": 0.0, "high": 0}
    assert report["bars"]["every picture found"]
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "three people: 3 people, 9 pictures" in text
    Image.new("RGB", (200, 200)).save(folder / "left" / "black.png")
    assert main(arguments) == 1
    report = json.loads(out.read_text())
    assert (report["pictures"]["not_found"], report["bars"]["every picture found"]) == (["left/black.png"], False)


def test_without_pictures_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--pictures", str(tmp_path / "none")]) == 2
    assert "there are no pictures" in capsys.readouterr().err
    assert main(["--pictures", str(tmp_path), "--out", str(tmp_path / "o")]) == 2
    assert "0 people" in capsys.readouterr().err
