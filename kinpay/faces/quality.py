"""Is a picture good enough, and if not, what should the person do? Judged live at enrolment, and before a frame is matched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import numpy as np

from kinpay.faces.measures import nod, roll_degrees, turn
from kinpay.faces.picture import grey
from kinpay.faces.pipeline import Face


class Advice(StrEnum):
    """What is to be done first; in the order in which it is said."""

    NO_FACE = "no_face"
    """No face was found."""
    ONE_PERSON = "one_person"
    """Somebody else is nearly as near: which face is meant?"""
    COME_CLOSER = "come_closer"
    """The face is small."""
    LOOK_HERE = "look_here"
    """The head is turned, raised or lowered."""
    HEAD_UPRIGHT = "head_upright"
    """The head is tilted to a shoulder."""
    MORE_LIGHT = "more_light"
    """Too dark."""
    LESS_LIGHT = "less_light"
    """Too bright, or light from behind."""
    EVEN_LIGHT = "even_light"
    """One half of the face is much darker than the other."""
    HOLD_STILL = "hold_still"
    """Blurred."""


@dataclass(frozen=True, slots=True)
class Words:
    """What the person is told."""

    en: str
    zh: str


GUIDANCE: Final[Mapping[Advice, Words]] = MappingProxyType(
    {
        Advice.NO_FACE: Words("Please step in front of the camera.", "请站到镜头前。"),
        Advice.ONE_PERSON: Words("One person at a time, please.", "请一次只站一个人。"),
        Advice.COME_CLOSER: Words("Please come closer.", "请靠近一些。"),
        Advice.LOOK_HERE: Words("Please look straight into the camera.", "请正视镜头。"),
        Advice.HEAD_UPRIGHT: Words("Please hold your head upright.", "请把头摆正。"),
        Advice.MORE_LIGHT: Words("More light, please.", "光线太暗，请到亮一些的地方。"),
        Advice.LESS_LIGHT: Words("Too bright: please turn away from the light.", "光线太强，请避开强光。"),
        Advice.EVEN_LIGHT: Words("Please turn so that your face is lit evenly.", "请转一下，让脸部光线均匀。"),
        Advice.HOLD_STILL: Words("Please hold still.", "请保持不动。"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What was measured. `side_px`: of the face in the picture; `roll_degrees`; light from 0 to 255; the rest without unit."""

    side_px: float
    turn: float
    nod: float
    roll_degrees: float
    sharpness: float
    """Energy of the finest detail, as a share of the contrast: the variance of the Laplacian by that of the light."""
    light: float
    contrast: float
    uneven: float
    """Difference of the two halves' light, as a share of both."""
    similar: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """Where the lines are."""

    side_px: float
    turn: float
    nod: tuple[float, float]
    roll_degrees: float
    sharpness: float
    light: tuple[float, float]
    contrast: float
    uneven: float


ENROLMENT: Final = Demands(
    side_px=96,
    turn=0.45,
    nod=(0.35, 0.85),
    roll_degrees=20,
    sharpness=0.01,
    light=(50, 215),
    contrast=15,
    uneven=0.5,
)
"""Three good pictures are kept for a year: one can ask for another."""
RECOGNITION: Final = Demands(
    side_px=64,
    turn=0.6,
    nod=(0.25, 1.0),
    roll_degrees=35,
    sharpness=0.006,
    light=(35, 230),
    contrast=8,
    uneven=0.7,
)
"""At the till one takes what there is; what is worse than this only costs somebody a step up."""


def measure(face: Face) -> Quality:
    """Measures a face. Light and blur are judged on the crop, so that the size of the picture plays no part."""
    light = grey(face.crop).astype(np.float32)
    side = len(light)
    inner = light[side // 8 : -side // 8, side // 8 : -side // 8]
    left, right = float(inner[:, : inner.shape[1] // 2].mean()), float(inner[:, inner.shape[1] // 2 :].mean())
    laplacian = inner[1:-1, :-2] + inner[1:-1, 2:] + inner[:-2, 1:-1] + inner[2:, 1:-1] - 4 * inner[1:-1, 1:-1]
    return Quality(
        side_px=face.box.side,
        turn=turn(face.points),
        nod=nod(face.points),
        roll_degrees=roll_degrees(face.points),
        sharpness=float(laplacian.var() / max(1.0, inner.var())),
        light=float(inner.mean()),
        contrast=float(inner.std()),
        uneven=abs(left - right) / max(1.0, (left + right) / 2),
        similar=face.similar,
    )


def advise(quality: Quality | None, demands: Demands) -> tuple[Advice, ...]:
    """What to do, the first thing first; empty if the picture is good enough. None: no face was found."""
    if quality is None:
        return (Advice.NO_FACE,)
    darkest, brightest = demands.light
    lowest, highest = demands.nod
    wrong = {
        Advice.ONE_PERSON: quality.similar > 0,
        Advice.COME_CLOSER: quality.side_px < demands.side_px,
        Advice.LOOK_HERE: abs(quality.turn) > demands.turn or not lowest <= quality.nod <= highest,
        Advice.HEAD_UPRIGHT: abs(quality.roll_degrees) > demands.roll_degrees,
        Advice.MORE_LIGHT: quality.light < darkest or (quality.contrast < demands.contrast and quality.light < 128),
        Advice.LESS_LIGHT: quality.light > brightest or (quality.contrast < demands.contrast and quality.light >= 128),
        Advice.EVEN_LIGHT: quality.uneven > demands.uneven,
        Advice.HOLD_STILL: quality.sharpness < demands.sharpness,
    }
    return tuple(advice for advice, so in wrong.items() if so)
