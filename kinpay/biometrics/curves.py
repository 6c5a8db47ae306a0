"""The measured curves that are shipped, by model and by kind of comparison, as data with their source.

They were measured for this project on Labeled Faces in the Wild (7,701 pictures of the official list, raw labels, of which
about half of the highest "impostor" pairs are one person under two names: that makes the figures worse than they are).
Counts follow from the published rates, rounded up to a whole false match. Nothing here is extrapolated: above the last
threshold the last one's bound goes on holding. What was not measured has no curve, and without one a face never pays alone:
children, the very old, masks, frames of one burst, and 1 + 3 and 3 + 1 pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from kinpay.biometrics.false_match import Curve, counted

BAND: Final = 0.10
"""How far below the threshold a score still says "perhaps": a second factor may then decide, if the arithmetic lets it."""
MARGIN: Final = 0.08
"""How far the best of one account has to be above the best of every other: twins and siblings are nearer to each other."""


@dataclass(frozen=True, slots=True, order=True)
class Comparison:
    """What is compared with what: templates of `enrolled` pictures with probes of `frames`. A threshold belongs to one kind."""

    enrolled: int
    frames: int

    def __post_init__(self) -> None:
        if self.enrolled not in COUNTS or self.frames not in COUNTS:
            raise ValueError("one picture, or the mean of three")

    def __str__(self) -> str:
        return f"{self.enrolled}+{self.frames}"


COUNTS: Final = (1, 3)
"""How many pictures make a template, or frames a probe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """How one kind of comparison is judged. `threshold`, `one_to_one`, `duplicate`: cosines for a search in a gallery, for a
    person who said who they are, and from which on two accounts look like one face. `curve` is None where nobody measured.
    """

    threshold: float
    one_to_one: float
    duplicate: float
    curve: Curve | None
    band: float = BAND
    margin: float = MARGIN


_LFW_MEANS: Final = Curve(
    counted([(0.45, 274), (0.50, 46), (0.55, 1), (0.60, 0)], 2_280_000),
    source="LFW: 153 people with at least six pictures, mean of three against mean of three, strangers with at least three",
    caution="The same people were drawn twenty times, so comparisons are not independent and the true bound is wider. "
    "Their pictures are of different days; three frames of one burst gain less.",
    redrawn=20,
)
_LFW_SINGLES: Final = Curve(
    counted([(0.25, 281_200), (0.30, 82_880), (0.35, 21_016), (0.40, 4_440), (0.45, 829), (0.50, 131), (0.55, 30)], 29_600_000),
    source="LFW: every two pictures of different names among 7,701, one against one",
    caution="A picture takes part in thousands of comparisons, so they are not independent and the true bound is wider.",
)

MEANS: Final = Comparison(3, 3)
SINGLES: Final = Comparison(1, 1)

UNMEASURED: Final = Shipped(threshold=0.55, one_to_one=0.55, duplicate=0.45, curve=None)
"""For every kind that nobody measured: a face only ever asks for a second way."""

FACEPLUGIN: Final[Mapping[Comparison, Shipped]] = {
    MEANS: Shipped(threshold=0.55, one_to_one=0.50, duplicate=0.50, curve=_LFW_MEANS),
    SINGLES: Shipped(threshold=0.50, one_to_one=0.45, duplicate=0.45, curve=_LFW_SINGLES),
}
"""fr_feature of faceplugin-face-recognition-js 0.0.1, whole (512) or cut to the 192 dimensions that lose nothing."""

SHIPPED: Final[Mapping[str, Mapping[Comparison, Shipped]]] = {"faceplugin-0.0.1": FACEPLUGIN}
"""By the model's family: a model's id is the family, or begins with it and a `-` or `+` (the cut, the alignment)."""


def judged_by(model_id: str, comparison: Comparison) -> Shipped:
    """How a comparison of templates of `model_id` is judged; `UNMEASURED` for a model or a kind that nobody measured."""
    for family, kinds in SHIPPED.items():
        if model_id == family or model_id.startswith((f"{family}-", f"{family}+")):
            return kinds.get(comparison, UNMEASURED)
    return UNMEASURED
