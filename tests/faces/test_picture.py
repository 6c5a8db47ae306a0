"""Pictures come from strangers: what is no picture, too much of one, or broken is said so, and never more than that."""

from __future__ import annotations

import io
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from kinpay.faces.picture import MAX_BYTES, WORKING_SIDE, decode, window
from kinpay.primitives.errors import Invalid
from tests.faces.people import SAMPLES, jpeg, person


def encoded(kind: str, size: tuple[int, int] = (64, 80), mode: str = "RGB") -> bytes:
    content = io.BytesIO()
    Image.new(mode, size, 128).save(content, kind)
    return content.getvalue()


def refused(content: bytes) -> str:
    with pytest.raises(Invalid) as caught:
        decode(content)
    return str(caught.value.detail["reason"])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_three_kinds_are_read(kind: str) -> None:
    picture = decode(encoded(kind))
    assert (picture.shape, picture.dtype) == ((80, 64, 3), np.uint8)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16"])
def test_whatever_a_png_is_made_of_becomes_three_colours(mode: str) -> None:
    assert decode(encoded("PNG", mode=mode)).shape == (80, 64, 3)


def test_what_is_refused_says_why() -> None:
    assert refused(b"") == "picture_bytes"
    assert refused(b"\0" * (MAX_BYTES + 1)) == "picture_bytes"
    assert refused(b"<svg/>") == "picture_kind"
    assert refused(encoded("GIF")) == "picture_kind"
    assert refused(encoded("PNG", (47, 500))) == "picture_pixels"
    assert refused(jpeg(person("left"))[:-9000]) == "picture_broken"


def test_a_bomb_is_refused_by_its_header() -> None:
    """A header that promises 60,000 × 60,000; and one beyond where Pillow itself raises an alarm."""
    for width in (60_000, 6_000):
        header = struct.pack(">IIBBBBB", width, width, 8, 2, 0, 0, 0)
        chunk = b"IHDR" + header
        bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
        data = struct.pack(">I", 12) + b"IDAT" + zlib.compress(b"\0" * 4) + b"\0" * 64
        assert refused(bomb + data) == "picture_pixels"


def test_a_camera_held_sideways_is_turned_upright() -> None:
    sideways = np.zeros((60, 100, 3), np.uint8)
    sideways[:, :30] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # To be turned by 90° clockwise: what is on the left comes to the top.
    upright = decode(jpeg(sideways, exif=exif.tobytes()))
    assert upright.shape == (100, 60, 3)
    assert upright[:20].mean() > 250
    assert upright[-20:].mean() < 5


def test_a_large_picture_is_worked_on_in_a_smaller_size() -> None:
    assert max(decode(encoded("JPEG", (4000, 3000))).shape) == WORKING_SIDE


def test_broken_pictures_are_never_more_than_invalid() -> None:
    """Three hundred pictures with bytes changed, cut off or doubled; the seed is fixed."""
    chance = random.Random(4)
    originals = [encoded(kind) for kind in ("JPEG", "PNG", "WEBP")]
    outcomes = set()
    for _ in range(300):
        content = bytearray(chance.choice(originals))
        for _ in range(chance.randint(1, 12)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        if chance.random() < 0.3:
            del content[chance.randrange(1, len(content)) :]
        try:
            decode(bytes(content))
            outcomes.add("read")
        except Invalid as error:
            outcomes.add(str(error.detail["reason"]))
    assert outcomes >= {"read", "picture_kind", "picture_broken"}


def test_a_window_over_the_border_repeats_it() -> None:
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    cut = window(picture, -1, -1, 3, 3)
    assert cut.shape == (4, 4, 3)
    assert (cut[0, 0] == picture[0, 0]).all()
    assert (cut[3, 3] == picture[1, 1]).all()
    assert (window(picture, 0, 0, 2, 2) == picture).all()


def test_the_samples_are_pictures_of_people() -> None:
    assert len(list(SAMPLES.glob("sample*.jpg"))) == 6
    assert person("left").shape == (480, 480, 3)
