"""The engine, loaded once; it is the real one, with the real files that set-up fetched."""

from __future__ import annotations

import pytest

from kinpay.faces.engine import Engine, installed_folder, open_engine
from kinpay.faces.registry import DEFAULT_FACE_MODEL


@pytest.fixture(scope="session")
def engine() -> Engine:
    return open_engine(installed_folder(), DEFAULT_FACE_MODEL)
