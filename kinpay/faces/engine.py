"""Everything that is loaded once: the sessions of detection, points and liveness, and the model that embeds."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kinpay.faces import detect, landmarks, passive
from kinpay.faces.files import ModelMissing, read_model
from kinpay.faces.port import FaceEmbedder, ModelFile
from kinpay.faces.registry import FACE_MODELS
from kinpay.faces.sessions import Session, open_session

PIPELINE_FILES: Final[tuple[ModelFile, ...]] = (detect.FILE, landmarks.FILE, passive.FILE)
"""What every face model needs beside its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Safe to be used by several threads at once: sessions keep nothing between two calls."""

    detector: Session
    pointer: Session
    passive: Session
    embedder: FaceEmbedder


def open_engine(folder: Path, face_model: str) -> Engine:
    """Loads and checks every file. Half a second.

    Raises: ModelMissing (also for a model that nobody knows), ModelAltered.
    """
    model = FACE_MODELS.get(face_model)
    if model is None:
        raise ModelMissing(what=face_model, remedy=f"KINPAY_FACE_MODEL is one of {', '.join(FACE_MODELS)}")
    detector, pointer, judge = (open_session(read_model(folder, file)) for file in PIPELINE_FILES)
    return Engine(detector=detector, pointer=pointer, passive=judge, embedder=model.open(folder))


def installed_folder() -> Path:
    """Where set-up leaves the models: in the environment that this program runs from."""
    return Path(sys.prefix) / "share" / "kinpay" / "models"
