"""Whose faces the demo and the tests have: four people of one picture of a registry package, which set-up fetches."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Final

from kinpay.faces.picture import decode, resized, window
from kinpay.faces.port import Picture

SAMPLES: Final = Path(sys.prefix) / "share" / "kinpay" / "pictures" / "@vladmandic" / "face-api" / "demo"
PLACES: Final = {"left": (154, 325, 179), "second": (404, 213, 206), "third": (754, 201, 185), "right": (961, 178, 195)}
"""Of the sixth sample, in its pixels: left edge, top and side of each face."""
_SIDE: Final = 480


def at_hand() -> bool:
    """Whether set-up has fetched the pictures; a server has no use for them."""
    return SAMPLES.is_dir()


def sample(number: int) -> Picture:
    """A whole picture of the package. Raises: FileNotFoundError."""
    return decode((SAMPLES / f"sample{number}.jpg").read_bytes())


@cache
def person(name: str) -> Picture:
    """One of the four (`left`, `second`, `third`, `right`), alone, 480 × 480. Raises: FileNotFoundError; KeyError."""
    left, top, side = PLACES[name]
    middle, reach = (left + side // 2, top + side // 2), round(side * 1.1)
    cut = window(sample(6), middle[0] - reach, middle[1] - reach, middle[0] + reach, middle[1] + reach)
    return resized(cut, _SIDE, _SIDE)
