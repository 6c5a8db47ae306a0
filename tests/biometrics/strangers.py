"""Made-up faces: directions in space, people who look like themselves and, if told to, like each other."""

from __future__ import annotations

import numpy as np

from kinpay.biometrics.template import Modality, Sample, read_sample
from kinpay.biometrics.vectors import Vector, unit

MODEL = "faceplugin-0.0.1"


class Faces:
    """A seeded crowd of `dimension` numbers each."""

    def __init__(self, seed: int, dimension: int = 64) -> None:
        self._random = np.random.default_rng(seed)
        self.dimension = dimension

    def somebody(self) -> Vector:
        """A direction that nobody had before."""
        return unit(self._random.standard_normal(self.dimension).astype(np.float32))

    def like(self, face: Vector, cosine: float) -> Vector:
        """A face at exactly this cosine from `face`."""
        other = self._random.standard_normal(self.dimension)
        wide = face.astype(np.float64)
        across = other - (other @ wide) * wide
        across /= np.linalg.norm(across)
        return unit((cosine * wide + np.sqrt(1 - cosine**2) * across).astype(np.float32))

    def pictures(self, face: Vector, *, cosine: float = 0.9) -> list[Vector]:
        """Three pictures of one face."""
        return [self.like(face, cosine) for _ in range(3)]


def sample(vector: Vector, *, pictures: int = 3, model_id: str = MODEL) -> Sample:
    """A sample whose mean is exactly `vector`."""
    return read_sample([vector] * pictures, model_id=model_id, modality=Modality.FACE)
