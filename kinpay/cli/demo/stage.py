"""The demo's stage: a folder of its own, a kinpay server and a sandbox bank as processes of their own, and a calm end.

Nothing here plays; tests set the same stage for their stories.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import kinpay_postgres
from kinpay_postgres.folder import Folder

START_S: Final = 120.0
"""How long a process may take until it answers: a first initdb on a slow machine is what takes longest."""
STOP_S: Final = 40.0
_KINPAY_READY: Final = "kinpay ready on "
_BANK_READY: Final = "sandbox bank ready on "
_OPEN_TO_PASS: Final = 0o711
"""The account that runs PostgreSQL for root passes through our folder to its own; it cannot list it."""


class StageBroken(Exception):
    """A process of the stage did not start, or ended by itself; the text ends with the last lines of its log."""


class Running:
    """A process with its log in a file, in a session of its own so that a terminal's Ctrl-C reaches us alone."""

    def __init__(self, name: str, command: Sequence[str], *, environment: Mapping[str, str], log: Path, ready: str) -> None:
        self.name = name
        self.log = log
        self.url = ""
        self._ready = ready
        self._from = log.stat().st_size if log.exists() else 0
        with log.open("ab") as stream:
            self.process = subprocess.Popen(  # noqa: S603  our own modules
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_ready(self, *, within_s: float = START_S) -> str:
        """Its address, once it says that it answers. Raises: StageBroken."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            for line in self._written().splitlines():
                if line.startswith(self._ready):
                    self.url = line.removeprefix(self._ready).strip()
                    return self.url
            if self.process.poll() is not None:
                raise StageBroken(f"{self.name} ended with status {self.process.returncode}:\n{self.tail()}")
            time.sleep(0.05)
        raise StageBroken(f"{self.name} did not answer within {within_s:.0f} s:\n{self.tail()}")

    def _written(self) -> str:
        with self.log.open("rb") as stream:
            stream.seek(self._from)
            return stream.read().decode(errors="replace")

    def tail(self, lines: int = 15) -> str:
        """The last lines of its log."""
        return "\n".join(self._written().splitlines()[-lines:])

    def complaints(self, lines: int = 12) -> str:
        """The last lines of its log that tell of something wrong."""
        routine = ('"level":"info"', '"level":"debug"')
        told = [line for line in self._written().splitlines() if not any(mark in line for mark in routine)]
        return "\n".join(told[-lines:])

    def kill(self) -> None:
        """Ends it as a power cut would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ends it calmly, in the end by force; returns its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()
        return int(self.process.returncode)


@dataclass(frozen=True, slots=True)
class Stage:
    """What plays are played on. `environment` is the server's: commands run with it see the same database and keys."""

    home: Path
    environment: Mapping[str, str]
    server: Running
    bank: Running

    @property
    def codes(self) -> Path:
        """Where one-time codes are written: they leave through a file because nobody here has a phone."""
        return codes_file(self.home)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a `kinpay` command against the server's database and returns how it ended."""
        return subprocess.run(  # noqa: S603  our own module
            [sys.executable, "-m", "kinpay.cli.main", *arguments],
            env=dict(self.environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=START_S,
        )


def codes_file(home: Path) -> Path:
    """Where a stage in `home` has its one-time codes."""
    return home / "codes.jsonl"


def server_environment(home: Path, *, more: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without any of its own settings: a stage must not touch what is configured here."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KINPAY_")}
    return kept | {
        "KINPAY_HOME": str(home),
        "KINPAY_DEMO": "1",
        "KINPAY_CODE_CHANNEL": f"file:{codes_file(home)}",
        "KINPAY_PORT": "0",
        # Short, so that an answer that never comes is soon *not known yet*.
        "KINPAY_PROVIDER_TIMEOUT_S": "2",
        "PYTHONUNBUFFERED": "1",
        **more,
    }


def start_server(environment: Mapping[str, str], log: Path) -> Running:
    """A `kinpay serve`; wait for it with `wait_ready`."""
    command = [sys.executable, "-m", "kinpay.cli.main", "serve"]
    return Running("the kinpay server", command, environment=environment, log=log, ready=_KINPAY_READY)


def start_bank(data: Path, log: Path) -> Running:
    """A sandbox bank with its own key and its own cluster under `data`; wait for it with `wait_ready`."""
    data.mkdir(mode=_OPEN_TO_PASS, parents=True, exist_ok=True)
    command = [sys.executable, "-m", "kinpay_sandbox", "serve", "--data", str(data), "--port", "0"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KINPAY_")}
    return Running("the sandbox bank", command, environment=environment, log=log, ready=_BANK_READY)


@contextmanager
def new_home(parent: Path) -> Iterator[Path]:
    """A fresh folder `demo-…` in `parent`, with everything in it removed at the end. Raises: OSError."""
    parent.mkdir(parents=True, exist_ok=True)
    home = parent / f"demo-{secrets.token_hex(4)}"
    home.mkdir()
    home.chmod(_OPEN_TO_PASS)
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def set_stage(home: Path, *, port: int = 0) -> Iterator[Stage]:
    """Server and bank, answering; stopped at the end, whatever happened. `port` 0 takes a free one.

    Raises: StageBroken, OSError.
    """
    environment = server_environment(home, more={"KINPAY_PORT": str(port)})
    started: list[Running] = []
    try:
        started.append(start_bank(home / "bank", home / "bank.log"))
        started.append(start_server(environment, home / "server.log"))
        bank, server = started
        bank.wait_ready()
        server.wait_ready()
        yield Stage(home, environment, server, bank)
    finally:
        with _undisturbed():
            for process in reversed(started):
                process.stop()
            for cluster in (home / "postgres", home / "bank" / "cluster"):
                remove_cluster(cluster)


def remove_cluster(folder: Path) -> None:
    """Stops the cluster in `folder` if it still runs (its process was killed), and removes its socket."""
    if folder.exists():
        with suppress(kinpay_postgres.ClusterError):
            kinpay_postgres.stop(folder, mode="immediate")
        shutil.rmtree(Folder(folder).socket_dir, ignore_errors=True)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Finishes cleaning up even if somebody presses Ctrl-C once more."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
