"""The default: fr_feature, a small network of the MobileFaceNet kind, 512 numbers a face.

The package's own JavaScript aligns three points by an affine map; here five points are aligned by a similarity, as the
networks of this kind were trained. Input: red green blue, (value - 127) / 128.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kinpay.faces.files import REMEDY, read_model
from kinpay.faces.port import Crop, FaceEmbedder, Measured, Modality, ModelCard, ModelFile, Thresholds, Vectors
from kinpay.faces.sessions import Session, open_session

FILE: Final = ModelFile(
    path="faceplugin-face-recognition-js/model/fr_feature.onnx",
    sha256="87aacdfe57510db2af90c0251df680e8eec88f122ee94712121d09bcaaaf3581",
    purpose="turns a face into a vector",
)
ARCFACE_CROP: Final = Crop(
    112, ((38.7946, 52.1963), (74.0318, 52.0014), (56.5252, 72.2366), (42.0493, 92.8655), (71.2299, 92.7041))
)
"""Where ArcFace's training pictures have their points, half a pixel on: there, a pixel's corner counts, not its centre."""
_SOURCE: Final = "design study, 7,701 press photos, aligned and padded as here"

CARD: Final = ModelCard(
    name="faceplugin",
    modality=Modality.FACE,
    # The 5s stands for the alignment: other crops make other vectors.
    model_id="faceplugin-0.0.1-feature-5s",
    dimensions=512,
    package="faceplugin-face-recognition-js 0.0.1",
    licence="MIT, as its package declares",
    caution=(
        "no word on which faces it was trained with or who trained it; have it reviewed before real money. "
        "Not measured: children, the old, masks, ageing, darker skin in low light"
    ),
    files=(FILE,),
    # Read off the figures below: one false match in 2.28 million at 0.55; a twin may come within the margin.
    thresholds=Thresholds(one_to_one=0.45, one_to_many=0.50, means=0.55, step_up=0.10, margin=0.08),
    measured=(
        Measured(rate="accuracy", value="99.17 % ± 0.37", conditions="LFW, 6,000 pairs, 10 folds", source=_SOURCE),
        Measured(rate="found at FMR 1e-4", value="95.5 %", conditions="LFW, one picture against one", source=_SOURCE),
        Measured(
            rate="FMR at 0.55",
            value="4.4e-7 (1 of 2.28 million; 95 % upper bound 2.4e-6)",
            conditions="LFW, mean of 3 pictures against mean of 3",
            source=_SOURCE,
        ),
        Measured(rate="FNMR at 0.55", value="0.10 %", conditions="LFW, mean of 3 pictures against mean of 3", source=_SOURCE),
        Measured(rate="FMR at 0.45", value="2.8e-5", conditions="LFW, one picture against one", source=_SOURCE),
        Measured(rate="FNMR at 0.45", value="7.0 %", conditions="LFW, one picture against one", source=_SOURCE),
    ),
    fingerprint=(0.0037, -0.0604, -0.0036, -0.0426, 0.007, 0.0124),
)


@dataclass(frozen=True, slots=True)
class _Feature:
    """The open model."""

    session: Session
    modality: Modality = CARD.modality
    model_id: str = CARD.model_id
    dimensions: int = CARD.dimensions
    crop: Crop = field(default=ARCFACE_CROP)

    def embed(self, samples: NDArray[Any]) -> Vectors:
        """One at a time, as the file says a batch is one."""
        rows = np.empty((len(samples), self.dimensions), np.float32)
        for row, sample in zip(rows, samples, strict=True):
            tensor = ((sample.astype(np.float32) - 127) / 128).transpose(2, 0, 1)[None]
            (found,) = self.session.run(["output"], {"input": np.ascontiguousarray(tensor)})
            row[:] = found[0] / np.linalg.norm(found[0])
        return rows


@dataclass(frozen=True, slots=True)
class Faceplugin:
    """The entry of the registry."""

    card: ModelCard = CARD

    def missing(self, folder: Path) -> Sequence[str]:
        """Its one file."""
        return () if (folder / FILE.path).is_file() else (f"{FILE.path} is not there: {REMEDY}",)

    def home(self, folder: Path) -> Path:
        """The folder of models."""
        return folder

    def open(self, folder: Path) -> FaceEmbedder:
        """Loads it. Raises: ModelMissing, ModelAltered."""
        # In blocks it takes three times as long: 82 ms and not 28, measured with onnxruntime 1.32 on AVX-512.
        return _Feature(open_session(read_model(folder, FILE), blocked=False))
