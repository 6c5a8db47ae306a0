"""What a terminal sends: pictures and when each was taken. They are held here for as long as they are looked at. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from kinpay.primitives.errors import Invalid
from kinpay.primitives.sealed import Sealed
from kinpay.sittings.sitting import SittingRules

FEWEST: Final = 8
"""Two acts cannot be seen in fewer; liveness says the same, later and at more cost."""
_MS_AT_MOST: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class Taken:
    """One picture as it came, and when it was taken, in milliseconds of the terminal's own clock from some moment on."""

    at_ms: int
    picture: Sealed[bytes] = field(repr=False)


def read_frames(texts: Sequence[tuple[int, str]], rules: SittingRules) -> list[Taken]:
    """From (milliseconds, base64). The times are the terminal's word, which its signature covers.

    Raises: Invalid for too few or too many, for times that do not grow or grow beyond the seconds allowed, for what is no
    base64 or too long.
    """
    if not FEWEST <= len(texts) <= rules.frames_at_most:
        raise Invalid("frames_number", field="frames", at_least=FEWEST, at_most=rules.frames_at_most)
    times = [at_ms for at_ms, _ in texts]
    if any(later <= earlier for earlier, later in pairwise(times)):
        raise Invalid("frames_times", field="frames")
    if times[-1] - times[0] > rules.from_first_frame.total_seconds() * 1000:
        raise Invalid("frames_too_slow", field="frames", at_most_s=int(rules.from_first_frame.total_seconds()))
    return [Taken(at_ms, read_picture(text, rules)) for at_ms, text in texts]


def read_picture(text: str, rules: SittingRules) -> Sealed[bytes]:
    """One picture from base64, still undecoded. Raises: Invalid."""
    if len(text) > -(-rules.picture_bytes // 3) * 4:
        raise Invalid("picture_bytes", field="picture", max_bytes=rules.picture_bytes)
    try:
        return Sealed(base64.b64decode(text, validate=True))
    except binascii.Error:
        raise Invalid("not_base64", field="picture") from None
