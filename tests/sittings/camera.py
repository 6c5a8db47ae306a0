"""A camera before which pictures act: stills cannot, so their acts are warped from the points of the face.

What it makes is no evidence that real acts are recognised or that attacks are not (`kinpay/cli/demo/warping.py`).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import cache
from typing import Any

from kinpay.cli.demo.warping import acted
from kinpay.faces.engine import Engine, installed_folder, open_engine
from kinpay.faces.liveness import Act
from kinpay.faces.pipeline import look
from kinpay.faces.port import Picture
from kinpay.faces.registry import DEFAULT_FACE_MODEL
from tests.faces.people import jpeg

EVERY_MS = 250


@cache
def engine() -> Engine:
    """Loaded once a process."""
    return open_engine(installed_folder(), DEFAULT_FACE_MODEL)


def text(picture: Picture) -> str:
    """As a terminal sends it."""
    return base64.b64encode(jpeg(picture)).decode()


def filmed(pictures: Sequence[Picture]) -> list[dict[str, Any]]:
    """Frames of a sequence of pictures."""
    return [{"at_ms": EVERY_MS * number, "picture": text(picture)} for number, picture in enumerate(pictures)]


def acting(person: Picture, acts: Sequence[str]) -> list[Picture]:
    """What the camera sees of somebody who does what the challenge asks."""
    face = look(engine(), person)
    assert face is not None
    return list(acted(person, face.points, [Act(act) for act in acts], steps=3))
