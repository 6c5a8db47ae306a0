"""Which models there are, by the name that KINPAY_FACE_MODEL carries. A new one is added here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from kinpay.faces.models.dlib_resnet import DlibResnet
from kinpay.faces.models.faceplugin import Faceplugin
from kinpay.faces.port import FaceModel

FACE_MODELS: Final[Mapping[str, FaceModel]] = MappingProxyType(
    {model.card.name: model for model in (Faceplugin(), DlibResnet())}
)
DEFAULT_FACE_MODEL: Final = next(iter(FACE_MODELS))
