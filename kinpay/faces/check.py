"""Is a model here, is it the one that was measured, and does it compute here what it computed where it was measured?"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from kinpay.faces.align import cut_out
from kinpay.faces.detect import Box, find_faces
from kinpay.faces.engine import PIPELINE_FILES, Engine, open_engine
from kinpay.faces.files import ALTERED, REMEDY, ModelAltered, ModelMissing, read_model
from kinpay.faces.landmarks import find_points, five_points
from kinpay.faces.passive import passive_score
from kinpay.faces.port import FaceModel, ModelCard, ModelFile, check_pattern
from kinpay.primitives.errors import KinpayError

NEAR: Final = 2e-3
"""Processors round differently, by a hundredth of this; another order of colours makes ten times as much."""


_REMEDIES: Final = {"missing": f"{{}} is not there: {REMEDY}", "altered": f"{{}} is not the one that was measured: {ALTERED}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What was found of one model. `wrong`: what keeps it from being used, with what to do; empty if nothing does.

    `files`: each file and whether it is the pinned one. `load_s` is wall time, `face_s` processor time, on one core.
    """

    card: ModelCard
    files: Mapping[str, str]
    wrong: tuple[str, ...]
    load_s: float | None
    face_s: float | None


def check_model(model: FaceModel, folder: Path) -> Checked:
    """Reads every file, loads the model, and computes a pattern whose vector is known."""
    missing = model.missing(folder)
    own = () if missing else model.card.files
    files = {file.path: _state(folder, file) for file in PIPELINE_FILES}
    files |= {file.path: _state(model.home(folder), file) for file in own}
    wrong = [*missing, *(_REMEDIES[state].format(path) for path, state in files.items() if state != "right")]
    if wrong:
        return Checked(card=model.card, files=files, wrong=tuple(dict.fromkeys(wrong)), load_s=None, face_s=None)
    began = time.perf_counter()
    try:
        engine = open_engine(folder, model.card.name)
    except KinpayError as error:
        return Checked(card=model.card, files=files, wrong=(str(error),), load_s=None, face_s=None)
    loaded = time.perf_counter()
    disagreement = _disagreement(engine, model.card)
    _walk(engine)  # The first time, memory is laid out.
    computed = time.process_time()
    _walk(engine)
    return Checked(
        card=model.card,
        files=files,
        wrong=(disagreement,) if disagreement else (),
        load_s=loaded - began,
        face_s=time.process_time() - computed,
    )


def _state(folder: Path, file: ModelFile) -> str:
    try:
        read_model(folder, file)
    except ModelMissing:
        return "missing"
    except ModelAltered:
        return "altered"
    return "right"


def _disagreement(engine: Engine, card: ModelCard) -> str:
    (vector,) = engine.embedder.embed(check_pattern(engine.embedder.crop.side)[None])
    if vector.shape != (card.dimensions,):
        return f"its vectors have {vector.size} numbers, not {card.dimensions}"
    if not np.allclose(vector[: len(card.fingerprint)], card.fingerprint, atol=NEAR):
        return "it computes something else here than where it was measured: do not use it on this machine"
    return ""


def _walk(engine: Engine) -> None:
    """Every step that a frame takes, on a picture without a face, so that it takes its time."""
    picture = check_pattern(640)
    find_faces(engine.detector, picture)
    box = Box(160, 160, 320, 1.0)
    five = five_points(find_points(engine.pointer, picture, box))
    engine.embedder.embed(cut_out(picture, five, engine.embedder.crop)[None])
    passive_score(engine.passive, picture, box)
