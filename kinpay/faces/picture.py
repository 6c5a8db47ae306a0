"""From bytes that a stranger sent to an array of pixels, within limits; and cutting windows out of it."""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from PIL import Image, ImageOps

from kinpay.faces.port import Picture
from kinpay.primitives.errors import Invalid

MAX_BYTES: Final = 8 * 1024 * 1024
MAX_PIXELS: Final = 24_000_000
"""A phone's largest still; a header that promises more is refused before a pixel is decoded."""
MIN_SIDE: Final = 48
WORKING_SIDE: Final = 1280
"""Nothing is gained above it: a face that fills a quarter of the height is then as large as any model here looks at."""
FORMATS: Final = ("JPEG", "PNG", "WEBP")


def decode(content: bytes, *, field: str = "picture") -> Picture:
    """A picture upright (EXIF) in red green blue, its longer side at most `WORKING_SIDE`.

    Raises: Invalid with reason `picture_bytes` (none, or more than 8 MiB), `picture_kind` (no JPEG, PNG or WebP),
    `picture_pixels` (more than 24 million, or a side under 48), `picture_broken` (cut off or malformed).
    """
    if not 1 <= len(content) <= MAX_BYTES:
        raise Invalid("picture_bytes", field=field, max_bytes=MAX_BYTES)
    image = _opened(content, field)
    width, height = image.size
    if width * height > MAX_PIXELS or min(width, height) < MIN_SIDE:
        raise Invalid("picture_pixels", field=field, max_pixels=MAX_PIXELS, min_side=MIN_SIDE)
    try:
        # JPEG can be decoded at a half, a quarter or an eighth of its size, for as much less work.
        image.draft("RGB", (WORKING_SIDE, WORKING_SIDE))
        upright = ImageOps.exif_transpose(image).convert("RGB")
        upright.thumbnail((WORKING_SIDE, WORKING_SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
        return np.asarray(upright, dtype=np.uint8)
    except Exception:
        # Pillow's decoders raise whatever a malformed file made them stumble over; all of it means the same to whoever sent it.
        raise Invalid("picture_broken", field=field) from None


def _opened(content: bytes, field: str) -> Image.Image:
    """Only the header is read. Pillow's own alarm about many pixels is an error of ours, too."""
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError:
        raise Invalid("picture_pixels", field=field, max_pixels=MAX_PIXELS, min_side=MIN_SIDE) from None
    except Exception:
        # Half a header makes some formats fail in ways of their own (SyntaxError, struct.error, …).
        raise Invalid("picture_kind", field=field, kinds=", ".join(FORMATS)) from None


def resized(picture: Picture, width: int, height: int) -> Picture:
    """Bilinear, and averaged where it becomes smaller."""
    image = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(image, dtype=np.uint8)


def window(picture: Picture, left: int, top: int, right: int, bottom: int) -> Picture:
    """The pixels from (left, top) to before (right, bottom); what lies outside repeats the border's nearest pixel."""
    height, width = picture.shape[:2]
    rows = np.clip(np.arange(top, bottom), 0, height - 1)
    columns = np.clip(np.arange(left, right), 0, width - 1)
    if top >= 0 and left >= 0 and bottom <= height and right <= width:
        return picture[top:bottom, left:right]
    cut: Picture = picture[rows[:, None], columns[None, :]]
    return cut


def grey(picture: Picture) -> Picture:
    """Luminance, (height, width)."""
    return np.asarray(Image.fromarray(picture).convert("L"), dtype=np.uint8)
