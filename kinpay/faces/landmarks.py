"""Sixty-eight points of a face, in the usual order (iBUG 300-W), and the five that alignment needs."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from kinpay.faces.detect import Box
from kinpay.faces.picture import grey, resized, window
from kinpay.faces.port import ModelFile, Picture
from kinpay.faces.sessions import Session

FILE: Final = ModelFile(
    path="faceplugin-face-recognition-js/model/fr_landmark.onnx",
    sha256="f10b0ba1d2a8a099adefede1ebf3733e44fe370715e7303dbeb7f59c02142258",
    purpose="finds 68 points of a face",
)
SIDE: Final = 64

Points = NDArray[np.float32]
"""(n, 2): x, y in pixels of the picture."""

JAW = slice(0, 17)
NOSE_TIP = 30
CHIN = 8
LEFT_EYE = slice(36, 42)
"""The eye on the left as one looks at the picture: outer corner, two above, inner corner, two below."""
RIGHT_EYE = slice(42, 48)
LIPS_INSIDE = slice(60, 68)


def find_points(session: Session, picture: Picture, box: Box) -> Points:
    """The 68 points of the face in `box`."""
    left, top = round(box.left), round(box.top)
    side = max(8, round(box.side))
    face = grey(resized(window(picture, left, top, left + side, top + side), SIDE, SIDE))
    (found,) = session.run(["output"], {"input": face.astype(np.float32)[None, None] / 256})
    points: Points = found.reshape(68, 2) * side + np.array([left, top], np.float32)
    return points


def five_points(points: Points) -> Points:
    """Eyes, tip of the nose, corners of the mouth, in the order of `port.Crop`.

    An eye's point is the mean of its lids, which stays where it is when one looks aside.
    """
    return np.stack(
        (
            points[[37, 38, 40, 41]].mean(axis=0),
            points[[43, 44, 46, 47]].mean(axis=0),
            points[NOSE_TIP],
            points[[48, 60]].mean(axis=0),
            points[[54, 64]].mean(axis=0),
        )
    )
