"""Model files: pinned by hash, read whole, checked before anything else looks at them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from kinpay.faces.port import ModelFile
from kinpay.primitives.errors import KinpayError

REMEDY: Final = "run `make install`, or let KINPAY_MODELS name the folder that has it"
ALTERED: Final = "remove the folder of models and run `make install` again; if it stays so, do not use it"


class ModelMissing(KinpayError):
    """A file or package of a model is not there: `what` says which, `remedy` what to do."""

    code = "model-missing"


class ModelAltered(KinpayError):
    """A file of a model is not the one that was measured: its SHA-256 is another."""

    code = "model-altered"


def read_model(folder: Path, file: ModelFile) -> bytes:
    """The file's bytes, which are exactly those that were checked: what is run is what was hashed.

    Raises: ModelMissing, ModelAltered.
    """
    try:
        content = (folder / file.path).read_bytes()
    except OSError:
        raise ModelMissing(what=file.path, remedy=REMEDY) from None
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise ModelAltered(what=file.path, remedy=ALTERED)
    return content
