"""On ORL (30 people, 10 pictures each): the bars of the design, and what falls when a piece of the pipeline is broken.

These pictures chose padding and alignment, so here they guard against decay; they are no held-out figure.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from kinpay.faces import align, pipeline
from kinpay.faces.detect import find_faces
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


def test_without_padding_or_with_an_affine_map_it_is_worse(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve people. The defects are those of the package's own JavaScript."""
    pictures = orl_pictures(12)
    labels, vectors, missed = vectors_of(engine, pictures)
    assert (missed, overlap(labels, vectors) < 0.01) == (0, True)
    monkeypatch.setattr(align, "similarity", affine)
    assert overlap(*vectors_of(engine, pictures)[:2]) > 0.02
    monkeypatch.undo()
    monkeypatch.setattr(pipeline, "find_faces", partial(find_faces, padding=0.0))
    labels, vectors, missed = vectors_of(engine, pictures)
    assert missed > 0 or overlap(labels, vectors) > 0.02
