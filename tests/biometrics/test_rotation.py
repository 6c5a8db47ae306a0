"""The secret rotation: no score changes, a seed means the same for ever, templates of two operators do not link."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from kinpay.biometrics.rotation import Matrix, RotationGone, Rotations, matrix_of, turn
from kinpay.biometrics.template import Modality, Template, read_sample, read_template, rotated, turned_on
from kinpay.biometrics.vectors import Vector, cosine, from_content, mean_of, to_content, unit
from kinpay.primitives.errors import Invalid
from kinpay.primitives.ids import new_id
from kinpay.primitives.sealed import Sealed
from kinpay.primitives.server_keys import SealBroken, ServerKeys
from tests.biometrics.strangers import MODEL, Faces, sample

ONE, OTHER = Sealed(bytes(range(32))), Sealed(bytes(range(1, 33)))
NO_CHANGE = 1e-5


def made(seed: Sealed[bytes] = ONE, dimension: int = 192) -> Matrix:
    return matrix_of(seed, model_id=MODEL, dimension=dimension)


def largest_change(matrix: Matrix, faces: Faces) -> float:
    pairs = [(face, faces.like(face, c)) for face in (faces.somebody() for _ in range(60)) for c in (0.99, 0.55, 0.1, -0.5)]
    return max(abs(cosine(one, other) - cosine(turn(matrix, one), turn(matrix, other))) for one, other in pairs)


@pytest.mark.parametrize("dimension", [64, 192, 512])
def test_a_rotation_changes_no_score_before_anything_is_rounded(dimension: int) -> None:
    matrix = made(dimension=dimension)
    assert np.abs(matrix @ matrix.T - np.eye(dimension)).max() < 1e-12
    assert largest_change(matrix, Faces(1, dimension)) < NO_CHANGE
    planted = matrix + 1e-3 * np.eye(dimension)[:, ::-1]
    assert largest_change(planted, Faces(1, dimension)) > NO_CHANGE, "what is not quite a rotation is seen"


def test_a_seed_means_the_same_rotation_for_ever() -> None:
    assert (made() == made()).all()
    matrix = made(dimension=64)
    pinned = [matrix[0, 0], matrix[0, 63], matrix[31, 7], matrix[63, 63], matrix[5].sum()]
    assert pinned == pytest.approx([0.24541027, 0.070193826, -0.145369383, -0.12292413, 0.017955657], abs=1e-8)
    for other in (made(OTHER), matrix_of(ONE, model_id="another", dimension=192)):
        assert np.abs(made() - other).max() > 0.1


def test_the_same_person_s_templates_under_two_rotations_do_not_link() -> None:
    faces, one, other = Faces(2, 192), made(ONE), made(OTHER)
    people = [faces.somebody() for _ in range(300)]
    same = np.array([cosine(turn(one, face), turn(other, face)) for face in people])
    different = np.array([cosine(turn(one, a), turn(other, b)) for a, b in pairwise(people)])
    auc = (same[:, None] > different[None, :]).mean()
    assert 0.42 < auc < 0.58
    linked = np.array([cosine(turn(one, face), turn(one, face)) for face in people])
    assert (linked[:, None] > different[None, :]).mean() == 1.0, "under one rotation they do"


def test_rounding_to_16_bits_costs_less_than_a_thousandth() -> None:
    faces, matrix = Faces(3, 192), made()
    for _ in range(100):
        face = faces.somebody()
        kept = rotated(sample(face), matrix, rotation_version=1).vector().open()
        assert abs(cosine(kept, turn(matrix, faces.like(face, 0.7))) - 0.7) < 1e-3


def test_a_template_is_turned_on_without_the_person_and_drifts_hardly_ever() -> None:
    faces = Faces(4, 192)
    face = faces.somebody()
    matrices = [matrix_of(Sealed(bytes([number]) * 32), model_id=MODEL, dimension=192) for number in range(13)]
    template = rotated(sample(face), matrices[0], rotation_version=1)
    for number in range(1, 13):
        template = turned_on(template, away=matrices[number - 1], on=matrices[number], rotation_version=number + 1)
    assert template.rotation_version == 13
    again = rotated(sample(face), matrices[12], rotation_version=13)
    assert cosine(template.vector().open(), again.vector().open()) > 0.99999
    stranger = faces.like(face, 0.55)
    assert abs(cosine(template.vector().open(), turn(matrices[12], stranger)) - 0.55) < 1e-3, "after twelve renewals"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "keyring").mkdir(mode=0o700)
    return tmp_path / "keyring"


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_seeds_lie_sealed_and_closed_and_the_first_one_made_stands(folder: Path, keys: ServerKeys) -> None:
    operator_id = new_id()
    rotations, elsewhere = Rotations(folder, keys), Rotations(folder, keys)
    await rotations.begin(operator_id, 1)
    before = await rotations.matrix(operator_id, 1, model_id=MODEL, dimension=64)
    await elsewhere.begin(operator_id, 1)
    assert (before == await elsewhere.matrix(operator_id, 1, model_id=MODEL, dimension=64)).all()
    (file,) = files(folder)
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(SealBroken):
        await Rotations(folder, ServerKeys.of([bytes(32)])).matrix(operator_id, 1, model_id=MODEL, dimension=64)
    other = new_id()
    (folder / f"{other}.1.seed").write_bytes(file.read_bytes())
    with pytest.raises(SealBroken):
        await rotations.matrix(other, 1, model_id=MODEL, dimension=64)
    with pytest.raises(ValueError, match="id"):
        await rotations.matrix("../../etc", 1, model_id=MODEL, dimension=64)


async def test_a_new_root_seals_seeds_anew_and_a_forgotten_seed_is_gone(folder: Path) -> None:
    old, new, operator_id = bytes(range(32)), bytes(range(32, 64)), new_id()
    await Rotations(folder, ServerKeys.of([old])).begin(operator_id, 1)
    during = Rotations(folder, ServerKeys.of([new, old]))
    before = await during.matrix(operator_id, 1, model_id=MODEL, dimension=64)
    assert (await during.wrap_anew(), await during.wrap_anew()) == (1, 0)
    after = Rotations(folder, ServerKeys.of([new]))
    assert (before == await after.matrix(operator_id, 1, model_id=MODEL, dimension=64)).all()
    assert await after.forget(operator_id, 1)
    assert not await after.forget(operator_id, 1)
    assert files(folder) == []
    with pytest.raises(RotationGone):
        await after.matrix(operator_id, 1, model_id=MODEL, dimension=64)


def test_three_pictures_come_to_their_mean_direction() -> None:
    faces = Faces(5)
    pictures = faces.pictures(faces.somebody())
    assert cosine(mean_of(pictures), np.sum(pictures, axis=0)) == pytest.approx(1, abs=1e-6)
    assert np.linalg.norm(mean_of(pictures)) == pytest.approx(1, abs=1e-6)
    assert read_sample(pictures, model_id=MODEL, modality=Modality.FACE).pictures == 3
    back = from_content(to_content(pictures[0]), 64)
    assert np.abs(back - pictures[0]).max() < 1e-3


@pytest.mark.parametrize(
    "vectors",
    [
        [], [np.ones(64)] * 2, [np.ones(64)] * 4, [np.ones(64), np.ones(64), np.ones(65)], [np.zeros(64)],
        [np.full(64, np.nan)], [np.full(64, np.inf)], [np.ones(8)], [np.ones(5000)], [np.ones((8, 8))],
    ],
)  # fmt: skip
def test_what_is_no_direction_is_refused(vectors: list[Vector]) -> None:
    with pytest.raises(Invalid):
        read_sample(vectors, model_id=MODEL, modality=Modality.FACE)


def test_a_blob_is_compared_with_nothing_and_a_vector_is_complete() -> None:
    blob = read_template(b"x" * 128, model="opaque", model_version="1")
    assert blob.modality is Modality.OPAQUE
    with pytest.raises(ValueError, match="nothing"):
        blob.vector()
    with pytest.raises(ValueError, match="rotation"):
        Template(model="m", model_version="1", content=Sealed(b"x"), modality=Modality.FACE, dimension=64, pictures=1)
    with pytest.raises(ValueError, match="rotation"):
        Template(model="m", model_version="1", content=Sealed(b"x"), dimension=64)
    for name in ("", "a b"):
        with pytest.raises(Invalid):
            read_sample([unit(np.ones(64))], model_id=name, modality=Modality.FACE)
    with pytest.raises(Invalid):
        read_sample([unit(np.ones(64))], model_id="m", modality=Modality.OPAQUE)
    with pytest.raises(ValueError, match="dimension"):
        from_content(b"xx" * 63, 64)
