"""What a person reads before the camera, in both languages. Plain words: children and elders read them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from kinpay.faces.liveness import Act

ACTS: Final[Mapping[Act, Mapping[str, str]]] = MappingProxyType(
    {
        Act.BLINK: {"zh": "请眨眨眼。", "en": "Blink, please."},
        Act.TURN_LEFT: {"zh": "请把头慢慢转向您的左边，再转回来。", "en": "Turn your head slowly to your left, and back."},
        Act.TURN_RIGHT: {"zh": "请把头慢慢转向您的右边，再转回来。", "en": "Turn your head slowly to your right, and back."},
        Act.OPEN_MOUTH: {"zh": "请张开嘴，再合上。", "en": "Open your mouth, and close it again."},
    }
)
START: Final[Mapping[str, str]] = MappingProxyType(
    {"zh": "请正对摄像头，先看着屏幕别动。", "en": "Face the camera and look at the screen, still at first."}
)
"""Before the first act: the frames begin with a face at rest."""


def guidance(acts: tuple[Act, Act]) -> list[dict[str, str]]:
    """The three sentences that the terminal shows one after the other: still, the first act, the second."""
    return [dict(START), *(dict(ACTS[act]) for act in acts)]
