"""The port: what turns a sample (a face's crop, later a palm, a finger or a voice) into a vector.

What is above this floor knows an `Embedder` by `model_id` and `dimensions` only; two models' vectors never compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""(height, width, 3), red green blue."""
Vectors = NDArray[np.float32]
"""(n, dimensions), each row of length 1: their dot product is the score, from -1 to 1."""


class Modality(StrEnum):
    """What of a person is captured."""

    FACE = "face"
    """A picture of a face; the only one with a model so far."""
    PALM = "palm"
    """A picture of a palm."""
    FINGER = "finger"
    """A fingerprint."""
    VOICE = "voice"
    """Seconds of speech."""


class Embedder(Protocol):
    """A model of any modality."""

    @property
    def modality(self) -> Modality:
        """What it takes."""

    @property
    def model_id(self) -> str:
        """Names the model and everything that changes its vectors; kept beside each template."""

    @property
    def dimensions(self) -> int:
        """How long a vector is."""

    def embed(self, samples: NDArray[Any]) -> Vectors:
        """One vector of length 1 for each sample (first axis). May be called from several threads at once."""


@dataclass(frozen=True, slots=True)
class Crop:
    """How a model wants a face cut out: a square of `side` pixels, and where in it the five points are to lie.

    `points`: (5, 2) of x, y in pixels from the upper left corner: the eye on the left, the eye on the right, the tip of the
    nose, the corner of the mouth on the left, the one on the right (left and right as one looks at the picture).
    """

    side: int
    points: tuple[tuple[float, float], ...]


class FaceEmbedder(Embedder, Protocol):
    """A model of faces: its samples are crops, (n, side, side, 3) in red green blue."""

    @property
    def crop(self) -> Crop:
        """What a crop has to look like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A file of a model, pinned. `path` is inside the folder of models; `sha256` in lower-case hex."""

    path: str
    sha256: str
    purpose: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A rate that somebody measured: never without its source and its conditions."""

    rate: str
    value: str
    conditions: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """From which score on two vectors are one person's: it depends on the model and on what is compared.

    `one_to_one`: a picture with a picture, after a claim of identity. `one_to_many`: a picture with pictures, in a gallery.
    `means`: the mean of three enrolled with the mean of three presented. `step_up`: how far below there is still a way, with a
    second factor. `margin`: how far the first of a gallery has to be before the second.
    """

    one_to_one: float
    one_to_many: float
    means: float
    step_up: float
    margin: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What one has to know of a model before one trusts it with money."""

    name: str
    """As in KINPAY_FACE_MODEL."""
    modality: Modality
    model_id: str
    dimensions: int
    package: str
    licence: str
    caution: str
    """What is not known of where it comes from."""
    files: tuple[ModelFile, ...]
    thresholds: Thresholds
    measured: tuple[Measured, ...]
    fingerprint: tuple[float, ...]
    """The first numbers of the vector of `check_pattern`: another order of colours or another scale gives others."""


def check_pattern(side: int) -> Picture:
    """A crop that is no face but the same everywhere, with another pattern in each colour: what a model is tried with."""
    down, across = np.mgrid[0:side, 0:side] / side
    colours = (128 + 100 * np.sin(9 * across), 255 * down, 128 + 90 * np.cos(7 * (across + down)))
    return np.stack(colours, axis=-1).astype(np.uint8)


class FaceModel(Protocol):
    """An entry of the registry: knows what it is before it is loaded, and how to load it."""

    @property
    def card(self) -> ModelCard:
        """What there is to know."""

    def missing(self, folder: Path) -> Sequence[str]:
        """What would have to be installed, each with what to do; empty if it can be opened."""

    def home(self, folder: Path) -> Path:
        """Where its own files are: the folder of models, or that of a package that brings them."""

    def open(self, folder: Path) -> FaceEmbedder:
        """Loads it from the folder of models. Raises: ModelMissing, ModelAltered."""
