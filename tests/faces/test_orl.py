"""On ORL (30 people, 10 pictures each): the bars of the design, and what falls when a piece of the pipeline is broken.

These pictures chose padding and alignment, so here they guard against decay; they are no held-out figure.
"""

from __future__ import annotations

import numpy as np
import pytest

from kinpay.faces import align
from kinpay.faces.detect import PADDING, find_faces
from kinpay.faces.engine import Engine
from kinpay.faces.models.faceplugin import CARD
from kinpay.faces.pipeline import mean_vector
from tests.faces.people import needs_orl, orl_pictures, vectors_of
from tests.faces.test_pipeline import affine

pytestmark = needs_orl


def overlap(labels: list[str], vectors: np.ndarray) -> float:
    """The share of pairs of one person that score below the 999th of a thousand pairs of two."""
    scores = (vectors @ vectors.T)[np.triu_indices(len(labels), 1)]
    names = np.array(labels)
    same = (names[:, None] == names[None])[np.triu_indices(len(labels), 1)]
    return float((scores[same] < np.quantile(scores[~same], 0.999)).mean())


def test_everybody_is_found_and_known(engine: Engine) -> None:
    labels, vectors, missed = vectors_of(engine, orl_pictures(30))
    assert missed == 0
    assert overlap(labels, vectors) <= 0.01
    names = np.array(labels)
    people = sorted(set(labels))
    enrolled = np.stack([mean_vector(vectors[names == name][:3]) for name in people])
    presented = np.stack([mean_vector(vectors[names == name][first : first + 3]) for first in (3, 6) for name in people])
    scores = presented @ enrolled.T
    own = np.tile(np.eye(len(people), dtype=bool), (2, 1))
    assert (scores[own] < CARD.thresholds.means).mean() <= 0.01, "FNMR"
    assert (scores[~own] >= CARD.thresholds.means).sum() == 0, "no stranger is taken for somebody"


def test_with_an_affine_map_it_is_worse(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve people. The defect is the one of the package's own JavaScript."""
    pictures = orl_pictures(12)
    labels, vectors, missed = vectors_of(engine, pictures)
    assert (missed, overlap(labels, vectors) < 0.01) == (0, True)
    monkeypatch.setattr(align, "similarity", affine)
    assert overlap(*vectors_of(engine, pictures)[:2]) > 0.02


def test_a_face_that_fills_the_frame_is_found_because_of_the_padding(engine: Engine) -> None:
    """Each picture without a seventh of it on each side, as when somebody leans into the camera."""
    tight = []
    for each in orl_pictures(30).values():
        for picture in each[:4]:
            height, width = picture.shape[:2]
            tight.append(picture[height // 7 : -height // 7, width // 7 : -width // 7])
    missed = {
        padding: sum(find_faces(engine.detector, picture, padding=padding).largest is None for picture in tight)
        for padding in (0.0, PADDING)
    }
    assert missed[PADDING] <= 0.05 * len(tight)
    assert missed[0.0] >= 0.15 * len(tight)
