"""The passive score: whether a single picture looks like a face or like a picture of one. It never accepts by itself."""

from __future__ import annotations

from typing import Final

import numpy as np

from kinpay.faces.detect import Box
from kinpay.faces.picture import resized, window
from kinpay.faces.port import ModelFile, Picture
from kinpay.faces.sessions import Session, softmax

FILE: Final = ModelFile(
    path="faceplugin-face-recognition-js/model/fr_liveness.onnx",
    sha256="afa783b7e902fdfcf323a7240cac2a1c580c25314ea4161129dc1b0d100dc32d",
    purpose="scores whether a picture is one of a picture",
)
SIDE: Final = 128
AROUND: Final = 2.7
"""The window's side, in sides of the face: what surrounds the face (a frame, a hand) tells more than the face."""


def passive_score(session: Session, picture: Picture, box: Box) -> float:
    """From 0 (a picture of a picture) to 1 (a face).

    Blue green red, unlike the package's own JavaScript: so the classes are further apart (AUC 0.89, not 0.78, in a simulation).
    """
    height, width = picture.shape[:2]
    around = min(AROUND, (width - 1) / box.side, (height - 1) / box.side)
    side = max(8, round(box.side * around))
    left = round(min(max(0.0, box.left + (box.side - side) / 2), max(0, width - side)))
    top = round(min(max(0.0, box.top + (box.side - side) / 2), max(0, height - side)))
    seen = resized(window(picture, left, top, left + side, top + side), SIDE, SIDE)
    tensor = np.ascontiguousarray(seen[:, :, ::-1].astype(np.float32).transpose(2, 0, 1)[None])
    (found,) = session.run(["output"], {"input": tensor})
    return float(softmax(found)[0, 0])
