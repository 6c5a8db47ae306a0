"""A camera before which pictures act, for the demo and the tests: stills cannot, so their acts are warped (`warping.py`).

What it makes is no evidence that real acts are recognised or that attacks are not; it only lets the whole way be walked.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from PIL import Image

from kinpay.cli.demo.warping import acted
from kinpay.faces.engine import Engine, installed_folder, open_engine
from kinpay.faces.liveness import Act
from kinpay.faces.pipeline import look
from kinpay.faces.port import Picture
from kinpay.faces.registry import DEFAULT_FACE_MODEL

EVERY_MS: Final = 250
"""How often the camera takes a picture."""


@cache
def engine() -> Engine:
    """The models that find the points to warp, loaded once a process. Raises: ModelMissing, ModelAltered."""
    return open_engine(installed_folder(), DEFAULT_FACE_MODEL)


def text(picture: Picture) -> str:
    """A picture as a terminal sends it: a JPEG in base64."""
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "JPEG", quality=90)
    return base64.b64encode(content.getvalue()).decode()


def filmed(pictures: Sequence[Picture]) -> list[dict[str, Any]]:
    """The frames of a request, one for each picture."""
    return [{"at_ms": EVERY_MS * number, "picture": text(picture)} for number, picture in enumerate(pictures)]


def acting(person: Picture, acts: Sequence[str]) -> list[Picture]:
    """What the camera sees of somebody who does what a challenge asks. Raises: ValueError where nobody is in the picture."""
    face = look(engine(), person)
    if face is None:
        raise ValueError("nobody is in the picture")
    return list(acted(person, face.points, [Act(act) for act in acts], steps=3))
