"""The house of registrations, alone or with the real bank."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from kinpay.biometrics.keyring import FolderKeyring
from kinpay.database.pool import Database
from kinpay.primitives.server_keys import ServerKeys
from kinpay.registrations.registration import Rules
from kinpay_sandbox.remote import BankControl
from tests.registrations.house import House, join_bank, open_house
from tests.sandbox.asking import Ear
from tests.sandbox.conftest import BankProcess, bank, control, ear

__all__ = ["bank", "control", "ear"]


@pytest_asyncio.fixture
async def house(db: Database, keys: ServerKeys, tmp_path: Path) -> AsyncIterator[House]:
    """The house with a provider that nobody reaches: nothing listens at its address."""
    opened = await open_house(db, keys, FolderKeyring.open(tmp_path / "keyring", keys), rules=Rules())
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def banked(house: House, bank: BankProcess, control: BankControl, ear: Ear) -> House:
    """The house as a client of the real bank, whose callbacks come to `ear`."""
    await join_bank(house, control, bank.base_url, callback_url=f"http://127.0.0.1:{ear.port}/callback")
    return house
