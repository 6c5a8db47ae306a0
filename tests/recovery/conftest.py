"""A shop at the bank whose database can be had as it was."""

from __future__ import annotations

from typing import Any

import pytest

from tests.charges.bank import AtBank, at_bank, bank, control, ear
from tests.recovery.lost import Snapshots

__all__ = ["at_bank", "bank", "control", "ear"]


@pytest.fixture
def snapshots(administrator: Any, at_bank: AtBank, database_url: str) -> Snapshots:
    """Takes snapshots of the test's own database."""
    return Snapshots(administrator, at_bank, database_url)
