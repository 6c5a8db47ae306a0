"""From a picture to a vector, with the real models; what the house could get wrong is planted and has to show."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kinpay.faces import align, detect, files, landmarks, pipeline
from kinpay.faces.align import cut_out, similarity
from kinpay.faces.detect import find_faces
from kinpay.faces.engine import PIPELINE_FILES, Engine, installed_folder, open_engine
from kinpay.faces.files import ModelAltered, ModelMissing, read_model
from kinpay.faces.measures import nod, roll_degrees, turn
from kinpay.faces.models.faceplugin import ARCFACE_CROP, CARD
from kinpay.faces.pipeline import Face, look, mean_vector
from kinpay.faces.port import Embedder, FaceEmbedder, Modality, Picture, check_pattern
from kinpay.faces.registry import DEFAULT_FACE_MODEL, FACE_MODELS
from tests.faces.people import PLACES, blurred, brighter, cropped, person, sample, tilted
from tests.tidy.source import ROOT


def seen(engine: Engine, picture: Picture) -> Face:
    face = look(engine, picture)
    assert face is not None
    return face


def test_a_person_is_one_person_however_the_picture_was_taken(engine: Engine) -> None:
    """And four people are four. At the line of one picture against one."""
    line = CARD.thresholds.one_to_one
    plain = {name: seen(engine, person(name)) for name in PLACES}
    for name, face in plain.items():
        assert np.linalg.norm(face.vector) == pytest.approx(1, abs=1e-5)
        for altered in (
            *(brighter(person(name), by) for by in (0.5, 1.4)),
            *(tilted(person(name), by) for by in (-15, 15)),
            blurred(person(name), 2),
            cropped(person(name), 0.15),
        ):
            assert seen(engine, altered).vector @ face.vector >= line + 0.2, name
        others = [float(face.vector @ other.vector) for key, other in plain.items() if key != name]
        assert max(others) < line - 0.1, name


def test_the_largest_face_is_meant_and_others_are_said(engine: Engine) -> None:
    assert find_faces(engine.detector, sample(6)).similar == 3
    alone = find_faces(engine.detector, cropped(person("left"), 0.1))
    assert (alone.similar, alone.largest is None) == (0, False)
    grey = np.full((200, 300, 3), 128, np.uint8)
    assert look(engine, grey) is None
    assert find_faces(engine.detector, grey) == detect.Faces(None, 0)


def test_faces_are_found_in_pictures_of_any_shape(engine: Engine) -> None:
    whole = person("left")
    for picture in (whole, np.hstack((whole, whole[:, ::-1][:, :160] // 8)), whole[40:, 60:400], whole[::4, ::4]):
        face = seen(engine, np.ascontiguousarray(picture))
        assert face.vector @ seen(engine, whole).vector > 0.7


def test_points_follow_a_tilted_and_a_mirrored_head(engine: Engine) -> None:
    plain = seen(engine, person("left")).points
    for degrees in (-15, 15):
        turned = seen(engine, tilted(person("left"), degrees)).points
        assert roll_degrees(turned) - roll_degrees(plain) == pytest.approx(-degrees, abs=6)
        assert nod(turned) == pytest.approx(nod(plain), abs=0.15)
    mirrored = seen(engine, np.ascontiguousarray(person("left")[:, ::-1])).points
    assert turn(mirrored) == pytest.approx(-turn(plain), abs=0.15)


def test_a_similarity_is_found_again() -> None:
    chance = np.random.default_rng(3)
    for _ in range(50):
        source = chance.normal(size=(5, 2)).astype(np.float32) * 40
        angle, scale, shift = chance.uniform(-3, 3), chance.uniform(0.2, 5), chance.normal(size=2) * 100
        turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
        target = (source @ turned.T + shift).astype(np.float32)
        assert np.allclose(similarity(source, target), np.column_stack((turned, shift)), atol=1e-2)


def test_a_crop_has_its_points_where_the_model_wants_them(engine: Engine) -> None:
    """A dot is painted on each of the five points; in the crop it has to be where the template says, whatever the size."""
    face = seen(engine, person("right"))
    five = landmarks.five_points(face.points)
    wanted = np.array(ARCFACE_CROP.points)
    for enlarged in (1, 3):
        picture = np.kron(person("right") // 8, np.ones((enlarged, enlarged, 1), np.uint8))
        for x, y in five * enlarged:
            reach = 3 * enlarged
            picture[round(y) - reach : round(y) + reach, round(x) - reach : round(x) + reach] = 255
        crop = cut_out(picture, five * enlarged, ARCFACE_CROP)
        assert crop.shape == (112, 112, 3)
        residue = similarity(five, wanted.astype(np.float32))
        for x, y in (five @ residue[:, :2].T + residue[:, 2]).round().astype(int):
            assert crop[y, x].mean() > 120, "everything else is darker than 32"


def affine(source: landmarks.Points, target: landmarks.Points) -> align.Map:
    """The defect of the package's own JavaScript: three points, any affine map."""
    system = np.column_stack((source[:3], np.ones(3)))
    return np.linalg.solve(system, target[:3]).T


def test_another_alignment_would_be_noticed(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = seen(engine, person("second")).vector
    monkeypatch.setattr(align, "similarity", affine)
    assert seen(engine, person("second")).vector @ plain < 0.9


def test_the_fingerprint_knows_the_order_of_colours_and_the_scale(engine: Engine) -> None:
    pattern = check_pattern(engine.embedder.crop.side)
    first = engine.embedder.embed(pattern[None])[0, : len(CARD.fingerprint)]
    assert np.allclose(first, CARD.fingerprint, atol=2e-3)
    for defect in (pattern[:, :, ::-1], pattern // 2, pattern.transpose(1, 0, 2)):
        wrong = engine.embedder.embed(defect[None])[0, : len(CARD.fingerprint)]
        assert not np.allclose(wrong, CARD.fingerprint, atol=2e-3)


def test_many_threads_get_what_one_gets(engine: Engine) -> None:
    alone = {name: seen(engine, person(name)).vector for name in PLACES}
    wrong: list[str] = []

    def work(name: str) -> None:
        for _ in range(4):
            if not np.allclose(seen(engine, person(name)).vector, alone[name], atol=1e-5):
                wrong.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in PLACES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_mean_of_vectors_is_a_vector(engine: Engine) -> None:
    one, other = seen(engine, person("left")).vector, seen(engine, blurred(person("left"), 2)).vector
    mean = mean_vector([one, other])
    assert np.linalg.norm(mean) == pytest.approx(1, abs=1e-6)
    assert mean @ one == pytest.approx(float(mean @ other), abs=1e-5)
    with pytest.raises(ValueError, match="no vectors"):
        mean_vector([])


def test_an_altered_or_missing_file_is_not_run(tmp_path: Path) -> None:
    every = (*PIPELINE_FILES, *CARD.files)
    for file in every:
        (tmp_path / file.path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file.path).write_bytes((installed_folder() / file.path).read_bytes())
    open_engine(tmp_path, DEFAULT_FACE_MODEL)
    for file in every:
        content = read_model(tmp_path, file)
        (tmp_path / file.path).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(ModelAltered) as altered:
            open_engine(tmp_path, DEFAULT_FACE_MODEL)
        assert altered.value.detail == {"what": file.path, "remedy": files.ALTERED}
        (tmp_path / file.path).unlink()
        with pytest.raises(ModelMissing) as missing:
            open_engine(tmp_path, DEFAULT_FACE_MODEL)
        assert missing.value.detail == {"what": file.path, "remedy": files.REMEDY}
        (tmp_path / file.path).write_bytes(content)
    with pytest.raises(ModelMissing, match="KINPAY_FACE_MODEL"):
        open_engine(tmp_path, "nobody")


def test_nothing_but_a_models_own_file_knows_its_name_or_dimension() -> None:
    known = re.compile(rf"{re.escape(CARD.model_id)}|\b{CARD.dimensions}\b")
    assert known.search((ROOT / "kinpay/faces/models/faceplugin.py").read_text(encoding="utf-8"))
    elsewhere = [
        str(file)
        for file in (ROOT / "kinpay" / "faces").rglob("*.py")
        if file.parent.name != "models" and known.search(file.read_text(encoding="utf-8"))
    ]
    assert elsewhere == []


def test_the_port_is_open(engine: Engine) -> None:
    """A voice's model needs no crop; a face's model of other dimensions goes through the same pipeline."""

    class Voice:
        modality, model_id, dimensions = Modality.VOICE, "test-voice", 8

        def embed(self, samples: np.ndarray) -> np.ndarray:
            return np.ones((len(samples), 8), np.float32) / np.float32(8**0.5)

    voice: Embedder = Voice()
    assert voice.embed(np.zeros((2, 16_000))).shape == (2, voice.dimensions)

    class Coarse(Voice):
        """Not a good one: the crop itself, in twelve numbers."""

        modality, model_id, dimensions, crop = Modality.FACE, "test-coarse", 12, replace(ARCFACE_CROP, side=112)

        def embed(self, samples: np.ndarray) -> np.ndarray:
            means = samples.reshape(len(samples), 2, 56, 2, 56, 3).mean(axis=(2, 4)).reshape(len(samples), 12) - 128
            return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)

    coarse: FaceEmbedder = Coarse()
    assert seen(replace(engine, embedder=coarse), person("left")).vector.shape == (12,)


def test_the_registry_names_every_model_once() -> None:
    assert all(name == model.card.name for name, model in FACE_MODELS.items())
    for model in FACE_MODELS.values():
        card = model.card
        assert card.licence
        assert card.caution
        assert card.measured
        assert all(one.conditions and one.source for one in card.measured)
    assert "vector" not in repr(Face(**dict.fromkeys(pipeline.Face.__slots__) | {"box": detect.Box(0, 0, 9, 1)}))
