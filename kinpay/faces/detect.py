"""Where faces are. The border is padded first: a face that fills the frame is the usual case at a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from kinpay.faces.picture import resized
from kinpay.faces.port import ModelFile, Picture
from kinpay.faces.sessions import Session, Tensor

FILE: Final = ModelFile(
    path="faceplugin-face-recognition-js/model/fr_detect.onnx",
    sha256="6c0256ccd3164f844736a401faf936ec2930764a87ae39442180887d0c5c8854",
    purpose="finds faces",
)
WIDTH: Final = 320
HEIGHT: Final = 240
PADDING: Final = 0.4
"""Of the picture's width and height, on each side, repeating the border. Measured on ORL: without, 16 of 400 are not found."""
SCORE: Final = 0.65
OVERLAP: Final = 0.4
SIMILAR: Final = 0.6
"""A second face whose side is at least so much of the largest one's could be meant as well."""


@dataclass(frozen=True, slots=True)
class Box:
    """A square around a face, in pixels of the picture; it may reach over the border."""

    left: float
    top: float
    side: float
    score: float


@dataclass(frozen=True, slots=True)
class Faces:
    """What was found: the largest face, and how many others are of similar size."""

    largest: Box | None
    similar: int


def find_faces(session: Session, picture: Picture, *, padding: float = PADDING) -> Faces:
    """The largest face, which is whoever stands before the terminal; with how many others it could be confused.

    Where nothing is found with the padding, it is tried without: there, small faces are larger.
    """
    boxes = _boxes(session, picture, padding)
    if not boxes and padding:
        boxes = _boxes(session, picture, 0.0)
    if not boxes:
        return Faces(None, 0)
    largest = max(boxes, key=lambda box: box.side)
    return Faces(largest, sum(box is not largest and box.side >= SIMILAR * largest.side for box in boxes))


def _boxes(session: Session, picture: Picture, padding: float) -> list[Box]:
    height, width = picture.shape[:2]
    scale = min(WIDTH / width, HEIGHT / height) / (1 + 2 * padding)
    inner_width, inner_height = max(1, round(width * scale)), max(1, round(height * scale))
    # Shrunk first and padded then, which comes to the same and costs a hundredth.
    left, top = (WIDTH - inner_width) // 2, (HEIGHT - inner_height) // 2
    around = ((top, HEIGHT - inner_height - top), (left, WIDTH - inner_width - left), (0, 0))
    canvas = np.pad(resized(picture, inner_width, inner_height), around, mode="edge")
    tensor = ((canvas.astype(np.float32) - 127) / 128).transpose(2, 0, 1)[None]
    scores, corners = session.run(["scores", "boxes"], {"input": np.ascontiguousarray(tensor)})
    likely = np.flatnonzero(scores[0, :, 1] >= SCORE)
    found = corners[0, likely] * np.array([WIDTH, HEIGHT, WIDTH, HEIGHT], np.float32)
    found -= np.array([left, top, left, top], np.float32)
    found /= np.array([inner_width / width, inner_height / height] * 2, np.float32)
    return _apart(found, scores[0, likely, 1])


def _apart(corners: Tensor, scores: Tensor) -> list[Box]:
    """One box a face: of boxes that overlap, the likeliest. As tall as was found, and square."""
    kept: list[int] = []
    areas = np.prod(np.maximum(corners[:, 2:] - corners[:, :2], 0), axis=1)
    for one in np.argsort(-scores):
        low = np.maximum(corners[one, :2], corners[kept, :2])
        high = np.minimum(corners[one, 2:], corners[kept, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        if areas[one] > 0 and not np.any(shared > OVERLAP * np.minimum(areas[kept], areas[one])):
            kept.append(int(one))
    boxes = []
    for one in kept:
        left, top, right, bottom = (float(edge) for edge in corners[one])
        side = bottom - top
        boxes.append(Box((left + right - side) / 2, top, side, float(scores[one])))
    return boxes
