"""A template: what a capture came to, named by the model that made it; two models' templates never compare.

There are two sorts. A terminal's own template is an opaque blob, kept and destroyed, never compared. A vector of ours has a
modality, a dimension and a number of pictures, and is kept rotated.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from kinpay.biometrics.rotation import Matrix, turn
from kinpay.biometrics.vectors import Vector, from_content, mean_of, to_content, unit
from kinpay.primitives.errors import Invalid
from kinpay.primitives.sealed import Sealed

CONTENT_MAX_BYTES: Final = 16 * 1024
"""Room for several pictures' worth of any model we know; far below a picture."""

_MODEL = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")

VECTOR_FORMAT: Final = "f16.1"
"""The model version of our vectors: little-endian 16-bit floats, rotated before they were rounded."""


class Modality(StrEnum):
    """What was captured."""

    OPAQUE = "opaque"
    """A terminal's own template, of whatever: compared with nothing."""
    FACE = "face"
    """A face."""
    PALM = "palm"
    """A palm, its lines or veins."""
    FINGER = "finger"
    """A finger, its print or veins."""
    VOICE = "voice"
    """A voice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A captured template in the clear: lives in memory only, and shows nothing when printed.

    `dimension`, `pictures` (1, or 3 for their mean) and `rotation_version` are there for vectors, and only for them.
    """

    model: str
    model_version: str
    content: Sealed[bytes]
    modality: Modality = Modality.OPAQUE
    dimension: int | None = None
    pictures: int | None = None
    rotation_version: int | None = None

    def __post_init__(self) -> None:
        parts = (self.dimension, self.pictures, self.rotation_version)
        if any((part is None) != (self.modality is Modality.OPAQUE) for part in parts):
            raise ValueError("a vector has a dimension, a number of pictures and a rotation; a blob has none of them")

    def vector(self) -> Sealed[Vector]:
        """The numbers, still rotated. Raises: ValueError for a blob."""
        if self.dimension is None:
            raise ValueError("a terminal's own template is compared with nothing")
        return Sealed(from_content(self.content.open(), self.dimension))


def read_template(content: bytes, *, model: str, model_version: str) -> Template:
    """Checks the form of a template as a terminal hands it over.

    Raises: Invalid for an empty or over-long content, or names that are no plain words.
    """
    if not 1 <= len(content) <= CONTENT_MAX_BYTES:
        raise Invalid("template_size", field="template", max_bytes=CONTENT_MAX_BYTES)
    for field, name in (("model", model), ("model_version", model_version)):
        if not _MODEL.fullmatch(name):
            raise Invalid("model_name", field=field)
    return Template(model=model, model_version=model_version, content=Sealed(content))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What a model made of one picture or three, in the clear and not rotated yet: unit length, in memory only."""

    model_id: str
    modality: Modality
    pictures: int
    vector: Sealed[Vector]

    @property
    def dimension(self) -> int:
        """How many numbers."""
        return len(self.vector.open())


def read_sample(vectors: Sequence[Vector], *, model_id: str, modality: Modality) -> Sample:
    """The mean direction of one picture's vector or three's.

    Raises: Invalid for another number of them, for several sizes, for no direction, for a name that is no plain word.
    """
    if not _MODEL.fullmatch(model_id):
        raise Invalid("model_name", field="model")
    if modality is Modality.OPAQUE:
        raise Invalid("modality_opaque", field="modality")
    return Sample(model_id=model_id, modality=modality, pictures=len(vectors), vector=Sealed(mean_of(vectors)))


def rotated(sample: Sample, matrix: Matrix, *, rotation_version: int) -> Template:
    """The template to be kept: rotated first, rounded to 16 bits last."""
    return Template(
        model=sample.model_id,
        model_version=VECTOR_FORMAT,
        content=Sealed(to_content(turn(matrix, sample.vector.open()))),
        modality=sample.modality,
        dimension=sample.dimension,
        pictures=sample.pictures,
        rotation_version=rotation_version,
    )


def turned_on(template: Template, *, away: Matrix, on: Matrix, rotation_version: int) -> Template:
    """The same template under another rotation (R2·R1ᵀ), without the person: `away` is the present one, `on` the new one."""
    vector = turn(on, turn(away.T, unit(template.vector().open())))
    return Template(
        model=template.model,
        model_version=template.model_version,
        content=Sealed(to_content(vector)),
        modality=template.modality,
        dimension=template.dimension,
        pictures=template.pictures,
        rotation_version=rotation_version,
    )
