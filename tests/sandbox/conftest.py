"""One real bank for the session, as its own process with its own cluster; its books are checked after every test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

import kinpay_postgres
from kinpay_postgres.folder import Folder
from kinpay_sandbox.remote import BankControl
from tests.sandbox.asking import Ear, Operator, new_customer, new_operator


class BankProcess:
    """A bank in a folder that can be started, stopped and killed."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.base_url = ""
        self._process: subprocess.Popen[str] | None = None

    def start(self, port: int = 0) -> None:
        """Start and wait for the ready line."""
        command = [sys.executable, "-m", "kinpay_sandbox", "serve", "--data", str(self.data), "--port", str(port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith("sandbox bank ready on http://127.0.0.1:"), line
        self.base_url = line.split()[-1]

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.base_url.rpartition(":")[2])

    def stop(self) -> int:
        """Stop it by SIGTERM and return its exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._end()

    def kill(self) -> None:
        """Kill it without warning."""
        assert self._process is not None
        self._process.kill()
        self._end()

    def _end(self) -> int:
        assert self._process is not None
        status = self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None
        return status

    def remove(self) -> None:
        """Stop whatever of it still runs and remove its folder."""
        if self._process is not None:
            self.stop()
        cluster = self.data / "cluster"
        kinpay_postgres.stop(cluster, mode="immediate")
        shutil.rmtree(Folder(cluster).socket_dir, ignore_errors=True)
        shutil.rmtree(self.data, ignore_errors=True)


@pytest.fixture(scope="session")
def bank() -> Iterator[BankProcess]:
    """The bank of the session."""
    yield from _bank()


@pytest.fixture
def mortal_bank() -> Iterator[BankProcess]:
    """A bank of one test alone, for stopping and killing."""
    yield from _bank()


def _bank() -> Iterator[BankProcess]:
    folder = Path(tempfile.mkdtemp(prefix="sandbox-bank-", dir="/tmp"))
    os.chmod(folder, 0o755)  # the account that runs PostgreSQL walks through it to its own folder
    process = BankProcess(folder)
    try:
        process.start()
        yield process
    finally:
        process.remove()


@pytest_asyncio.fixture
async def control(bank: BankProcess) -> AsyncIterator[BankControl]:
    """The bank's control; after the test the bank is healed and its books are checked."""
    async with BankControl(bank.base_url) as control:
        yield control
        await control.heal()
        await control.send_events("normal")
        books = await control.books()
        assert books["balanced"], books["faults"]


@pytest_asyncio.fixture
async def ear() -> AsyncIterator[Ear]:
    """The operator's callback door."""
    ear = Ear()
    await ear.open()
    yield ear
    await ear.close()


@pytest_asyncio.fixture
async def operator(bank: BankProcess, control: BankControl, ear: Ear) -> AsyncIterator[Operator]:
    """A registered operator."""
    operator = await new_operator(control, bank.base_url, ear=ear)
    yield operator
    await operator.http.aclose()


@pytest_asyncio.fixture
async def payer(control: BankControl) -> str:
    """The login of a customer with 1000.00 CNY."""
    return await new_customer(control)
