"""What a model says of a picture, as numbers: unit length, compared by cosine, kept as 16-bit floats.

Pure arithmetic; a vector in the clear is a template in the clear, so what holds one shows nothing when printed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kinpay.biometrics.curves import COUNTS
from kinpay.primitives.errors import Invalid

Vector = NDArray[np.float32]

DIMENSIONS: Final = (16, 4096)
"""From, to: wide enough for every model that we know, small enough for a template's room."""
_KEPT: Final = np.dtype("<f2")


def unit(vector: Vector) -> Vector:
    """At length 1. Raises: Invalid for one that is no direction: empty, of another shape, not finite, or zero."""
    wide = np.asarray(vector, dtype=np.float64)
    if wide.ndim != 1 or not DIMENSIONS[0] <= wide.shape[0] <= DIMENSIONS[1]:
        raise Invalid("vector_shape", field="vector")
    length = float(np.linalg.norm(wide))
    if not np.isfinite(length) or length < 1e-6:
        raise Invalid("vector_length", field="vector")
    made: Vector = (wide / length).astype(np.float32)
    return made


def mean_of(vectors: Sequence[Vector]) -> Vector:
    """One direction from one picture's vector or three's. Raises: Invalid for another number, or vectors of several sizes."""
    if len(vectors) not in COUNTS or len({len(vector) for vector in vectors}) != 1:
        raise Invalid("pictures_number", field="vectors")
    together: Vector = np.stack([unit(vector) for vector in vectors]).mean(axis=0, dtype=np.float32)
    return unit(together)


def to_content(vector: Vector) -> bytes:
    """Little-endian 16-bit floats; rounding comes last, after everything that must not lose anything."""
    return np.asarray(vector).astype(_KEPT).tobytes()


def from_content(content: bytes, dimension: int) -> Vector:
    """The inverse of `to_content`. Raises: ValueError if it is not of that dimension, or holds what is no number."""
    read = np.frombuffer(content, dtype=_KEPT)
    if read.shape != (dimension,) or not np.isfinite(read).all():
        raise ValueError("the content is no vector of that dimension")
    wide: Vector = read.astype(np.float32)
    return wide


def cosine(one: Vector, other: Vector) -> float:
    """How alike two directions are, -1 to 1."""
    a, b = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
