"""The second: dlib's ResNet, 128 numbers a face. Its author says what it was trained with; at the till it is weaker.

It is optional (`make dlib`): its files are 100 MB, of which the 68-point predictor, trained on pictures that forbid commercial
use, is never opened. The pipeline's crop is taken only to know where the face is: dlib's own five points cut it out again.
"""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kinpay.faces.files import ModelMissing, read_model
from kinpay.faces.models.faceplugin import ARCFACE_CROP
from kinpay.faces.port import Crop, FaceEmbedder, Measured, Modality, ModelCard, ModelFile, Thresholds, Vectors

INSTALL: Final = "run `make dlib`, which installs kinpay[dlib] (100 MB)"
NET: Final = ModelFile(
    path="models/dlib_face_recognition_resnet_model_v1.dat",
    sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    purpose="turns a face into a vector",
)
FIVE: Final = ModelFile(
    path="models/shape_predictor_5_face_landmarks.dat",
    sha256="c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
    purpose="finds the corners of the eyes and the base of the nose",
)
SIDE: Final = 256
_SCALE: Final = 1.6
_CROP: Final = Crop(SIDE, tuple(((x - 56) * _SCALE + 128, (y - 72) * _SCALE + 136) for x, y in ARCFACE_CROP.points))
_FACE: Final = (64, 72, 192, 200)
"""Where the face lies in the crop, as dlib's own detector would say it: left, top, right, bottom."""
_CHIP: Final = 150
_PADDING: Final = 0.25
_STUDY: Final = "design study, 2,310 press photos, dlib's own detector"

CARD: Final = ModelCard(
    name="dlib",
    modality=Modality.FACE,
    model_id="dlib-resnet-v1-5pt",
    dimensions=128,
    package="dlib-bin 20.0.1.post1, face-recognition-models 0.3.0",
    licence="models: public domain (CC0), as their author declares; dlib: Boost",
    caution=(
        "trained with VGG Face, FaceScrub and pictures scraped from the web: documented, not clean. It finds a third fewer "
        "people at payment's error rates, and dlib's usual line of 0.6 lets 0.67 % of strangers through: not for payments"
    ),
    files=(NET, FIVE),
    # Just above the highest of 8,820 pairs of two people of ORL (0.940): read off few pictures, for trying, not for paying.
    thresholds=Thresholds(one_to_one=0.945, one_to_many=0.95, means=0.955, step_up=0.01, margin=0.01),
    measured=(
        Measured(rate="accuracy", value="99.16 % ± 0.14", conditions="LFW, 1,800 pairs, 3 folds", source=_STUDY),
        Measured(rate="found at FMR 1e-4", value="66.4 %", conditions="LFW, one picture against one", source=_STUDY),
    ),
    fingerprint=(-0.028, 0.1001, 0.0499, -0.0087, -0.0398, -0.0294),
)


def _folder() -> Path | None:
    """Where the package of files is; it is not imported, as it would run code that newer Pythons lack."""
    spec = importlib.util.find_spec("face_recognition_models")
    return Path(spec.origin).parent if spec is not None and spec.origin else None


@dataclass(frozen=True, slots=True)
class _Resnet:
    """The open model. dlib's network keeps what it computes in itself, so one thread at a time."""

    dlib: Any
    net: Any
    predictor: Any
    modality: Modality = CARD.modality
    model_id: str = CARD.model_id
    dimensions: int = CARD.dimensions
    crop: Crop = field(default=_CROP)
    turn: threading.Lock = field(default_factory=threading.Lock)

    def embed(self, samples: NDArray[Any]) -> Vectors:
        """One at a time."""
        rows = np.empty((len(samples), self.dimensions), np.float32)
        face = self.dlib.rectangle(*_FACE)
        for row, sample in zip(rows, samples, strict=True):
            with self.turn:
                points = self.predictor(np.ascontiguousarray(sample), face)
                chip = self.dlib.get_face_chip(np.ascontiguousarray(sample), points, size=_CHIP, padding=_PADDING)
                found = np.array(self.net.compute_face_descriptor(chip), np.float32)
            row[:] = found / np.linalg.norm(found)
        return rows


@dataclass(frozen=True, slots=True)
class DlibResnet:
    """The entry of the registry."""

    card: ModelCard = CARD

    def missing(self, folder: Path) -> Sequence[str]:
        """Both packages."""
        wanted = {"dlib": "dlib", "face_recognition_models": "its files"}
        return [
            f"{told} is not installed: {INSTALL}" for name, told in wanted.items() if importlib.util.find_spec(name) is None
        ]

    def home(self, folder: Path) -> Path:
        """Its files come with a package of their own."""
        return _folder() or folder

    def open(self, folder: Path) -> FaceEmbedder:
        """Loads it. Raises: ModelMissing, ModelAltered."""
        if self.missing(folder):
            raise ModelMissing(what=self.card.name, remedy=INSTALL)
        home = self.home(folder)
        dlib = importlib.import_module("dlib")
        for file in self.card.files:
            read_model(home, file)
        # dlib opens files by name only; they are where the package's installer put them, and were hashed just now.
        net, predictor = dlib.face_recognition_model_v1(str(home / NET.path)), dlib.shape_predictor(str(home / FIVE.path))
        return _Resnet(dlib, net, predictor)
