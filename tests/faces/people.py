"""Where the tests' faces come from: pictures of a registry package, cut apart by person and altered; ORL where it is at hand.

ORL: AT&T Laboratories Cambridge / Olivetti Research Laboratory, "The Database of Faces". It is not part of the project.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from kinpay.cli.demo.actors import PLACES, SAMPLES, person, sample
from kinpay.faces.engine import Engine
from kinpay.faces.pipeline import look
from kinpay.faces.port import Picture, Vectors
from tests.tidy.source import ROOT

__all__ = ["PLACES", "SAMPLES", "person", "sample"]

ORL = Path(os.environ.get("PICTURES") or ROOT.parent / "shared" / "data" / "orl_faces")
needs_orl = pytest.mark.skipif(not ORL.is_dir(), reason="the ORL faces are not at hand: PICTURES=DIR names their folder")


def jpeg(picture: Picture, **more: object) -> bytes:
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "JPEG", quality=90, **more)
    return content.getvalue()


def brighter(picture: Picture, by: float) -> Picture:
    return np.clip(picture * by, 0, 255).astype(np.uint8)


def blurred(picture: Picture, radius: float) -> Picture:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))


def tilted(picture: Picture, degrees: float) -> Picture:
    return np.asarray(Image.fromarray(picture).rotate(degrees, Image.Resampling.BILINEAR))


def cropped(picture: Picture, share: float) -> Picture:
    """Without `share` of each side, so that the face fills the frame."""
    edge = round(len(picture) * share)
    return np.ascontiguousarray(picture[edge:-edge, edge:-edge])


def orl_pictures(people: int) -> dict[str, list[Picture]]:
    folders = sorted(folder for folder in ORL.iterdir() if folder.is_dir())[:people]
    return {
        folder.name: [np.asarray(Image.open(file).convert("RGB")) for file in sorted(folder.glob("*.pgm"))]
        for folder in folders
    }


def vectors_of(engine: Engine, pictures: dict[str, list[Picture]]) -> tuple[list[str], Vectors, int]:
    """Labels, vectors, and how many pictures no face was found in."""
    labels, found, missed = [], [], 0
    for name, each in pictures.items():
        for picture in each:
            face = look(engine, picture)
            if face is None:
                missed += 1
            else:
                labels.append(name)
                found.append(face.vector)
    return labels, np.stack(found), missed
