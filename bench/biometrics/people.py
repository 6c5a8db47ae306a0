"""People's pictures from a folder, as vectors: one folder a person, whatever format Pillow reads."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from kinpay.faces.engine import Engine
from kinpay.faces.picture import decode
from kinpay.faces.pipeline import look
from kinpay.faces.port import Vectors
from kinpay.primitives.errors import Invalid

ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".pgm", ".ppm", ".bmp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """Vectors by person, the pictures without a face, and what each picture took (from its bytes to its vector)."""

    vectors: dict[str, Vectors]
    pictures: int
    not_found: list[str]
    wall_s: list[float]
    processor_s: list[float]


def gather(engine: Engine, folder: Path) -> Gathered:
    """Every picture of every folder in `folder`. People without a single face found are left out of `vectors`."""
    vectors: dict[str, list[Vectors]] = {}
    not_found: list[str] = []
    wall, processor = [], []
    pictures = 0
    for person in sorted(each for each in folder.iterdir() if each.is_dir()):
        for file in sorted(each for each in person.iterdir() if each.suffix.lower() in ENDINGS):
            content = _as_sent(file)
            pictures += 1
            wall_began, processor_began = time.perf_counter(), time.process_time()
            try:
                face = look(engine, decode(content))
            except Invalid:
                face = None
            wall.append(time.perf_counter() - wall_began)
            processor.append(time.process_time() - processor_began)
            if face is None:
                not_found.append(f"{person.name}/{file.name}")
            else:
                vectors.setdefault(person.name, []).append(face.vector)
    stacked = {name: np.stack(each) for name, each in vectors.items()}
    return Gathered(vectors=stacked, pictures=pictures, not_found=not_found, wall_s=wall, processor_s=processor)


def _as_sent(file: Path) -> bytes:
    """JPEG, PNG and WebP as they are; other formats as PNG, which loses nothing."""
    if file.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"):
        return file.read_bytes()
    content = io.BytesIO()
    Image.open(file).convert("RGB").save(content, "PNG", compress_level=1)
    return content.getvalue()
