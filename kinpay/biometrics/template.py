"""A template: what a capture came to. Opaque here, named by the model that made it; two models' templates never compare."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from kinpay.primitives.errors import Invalid
from kinpay.primitives.sealed import Sealed

CONTENT_MAX_BYTES: Final = 16 * 1024
"""Room for several pictures' worth of any model we know; far below a picture."""

_MODEL = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A captured template in the clear: lives in memory only, and shows nothing when printed."""

    model: str
    model_version: str
    content: Sealed[bytes]


def read_template(content: bytes, *, model: str, model_version: str) -> Template:
    """Checks the form of a template as a terminal hands it over.

    Raises: Invalid for an empty or over-long content, or names that are no plain words.
    """
    if not 1 <= len(content) <= CONTENT_MAX_BYTES:
        raise Invalid("template_size", field="template", max_bytes=CONTENT_MAX_BYTES)
    for field, name in (("model", model), ("model_version", model_version)):
        if not _MODEL.fullmatch(name):
            raise Invalid("model_name", field=field)
    return Template(model=model, model_version=model_version, content=Sealed(content))
